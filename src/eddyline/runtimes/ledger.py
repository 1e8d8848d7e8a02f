"""Where one partition stands, in a compacted topic: what its run remembers and its offset, in one transaction.

Under `exactly_once` the results are sent by the same writer, so that they become visible with the offset or never.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

from eddyline.errors import SourceError
from eddyline.kafka.address import Address
from eddyline.kafka.client import Reader
from eddyline.kafka.topics import make_topics, partitions_of
from eddyline.kafka.writer import Writer
from eddyline.runtimes.snapshots import Remembered, from_pieces, to_pieces
from eddyline.windows import Commit

_READ_S: Final = 120.0  # how long reading a partition's memory may take
_SEEN_S: Final = 30.0  # how long a topic that was just created may stay unknown to the broker that is asked
_AT_ONCE: Final = 200
_COMPACTED: Final = {
    "cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "600000",
    "delete.retention.ms": "3600000",
}  # fmt: skip  # a snapshot replaces the one before: without this the topic would grow by every commit


def state_topic(where: Address, group: str, partitions: int) -> str:
    """Make sure of the topic that a group remembers in, one partition for each of `where`'s; its name.

    Raises:
        ConfigError: it is missing and cannot be created. SourceError: it has fewer partitions than the topic.
    """
    name = f"{where.topic}.{group}.state"
    make_topics(where, {name: (partitions, _COMPACTED)}, "kafka source")
    until = time.monotonic() + _SEEN_S
    while not (found := partitions_of(where, name, "kafka source") or 0) and time.monotonic() < until:
        time.sleep(0.1)
    if found < partitions:
        raise SourceError(f"kafka source: `{where.topic}` has {partitions} partitions, `{name}` only {found}; "
                          f"kafka-topics --alter --topic {name} --partitions {partitions}")  # fmt: skip
    return name


class Ledger:
    """Keeps the commits of one partition.

    Args:
        where: the source. state: the topic that remembers. partition: of both.
        writer: transactional; its name shuts out whoever kept this partition before.
        model: fingerprint; memories of another model are not taken over.
        member: this replica's membership, which a commit must still hold.
    """

    def __init__(
        self, where: Address, state: str, partition: int, writer: Writer, model: str, member: Callable[[], Any]
    ) -> None:
        self._where, self._state, self._partition = where, state, partition
        self._writer, self._model, self._member = writer, model, member
        self._digests: dict[str, bytes] = {}

    def read(self) -> Remembered | None:
        """Return what the last run left, whoever that was, None for a partition never read. Raises SourceError."""
        pieces: dict[str, bytes] = {}
        reader = Reader(self._where, self._state, self._partition, None)
        until = time.monotonic() + _READ_S
        try:
            while not reader.at_end:
                for message in reader.read(_AT_ONCE, 0.2):
                    name, value = (message.key() or b"").decode(errors="replace"), message.value()
                    if value is None:
                        pieces.pop(name, None)
                    else:
                        pieces[name] = value
                if time.monotonic() > until:
                    raise SourceError(f"kafka source: `{self._state}/{self._partition}` cannot be read within "
                                      f"{_READ_S:.0f} s; check the brokers")  # fmt: skip
        finally:
            reader.close()
        self._digests = {name: _digest(value) for name, value in pieces.items()}
        return from_pieces(pieces, self._model) if pieces else None

    def keep(self, commit: Commit, rejected_until: int) -> None:
        """Return when `commit` is kept with everything that the writer had before; else SinkError, and neither is.

        Only pieces that changed are written.
        """
        pieces = to_pieces(commit, self._model, rejected_until)
        digests = {name: _digest(value) for name, value in pieces.items()}
        for name in sorted(name for name in pieces if digests[name] != self._digests.get(name)):
            self._writer.send(self._state, pieces[name], name.encode(), partition=self._partition)
        for name in self._digests.keys() - pieces.keys():
            self._writer.send(self._state, None, name.encode(), partition=self._partition)
        if self._writer.is_open:
            self._writer.commit(self._where.topic, self._partition, commit.position, self._member())
        self._digests = digests


def _digest(value: bytes) -> bytes:
    return hashlib.blake2b(value, digest_size=16).digest()
