"""Feeding a pipeline from Kafka, at least once: every partition that the group gives is a stream that resumes.

Offsets are committed with what the windows, habits and alerts of the partition remember, in one transaction of the
group's state topic, and only after the sinks have flushed: what Morpheus' own source cannot do. A partition that goes
to another replica goes at once; what was not committed comes again there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Event, Thread
from typing import Final

from eddyline.errors import SinkError, SourceError
from eddyline.kafka.client import Group
from eddyline.kafka.writer import Writer
from eddyline.runtimes.ledger import Ledger, state_topic
from eddyline.runtimes.morpheus.stream import Feed, FlushSettings, Stream
from eddyline.runtimes.replica import Sites
from eddyline.runtimes.snapshots import Remembered
from eddyline.sources.kafka.source import PartitionSource, Topic, read_topic
from eddyline.windows import Commit

_log = logging.getLogger("morpheus.eddyline.kafka")  # Morpheus shows only its own
_POLL_S: Final = 0.2


@dataclass(slots=True, eq=False, kw_only=True)
class TopicFeed(Feed):
    """The partitions of a topic that are this pipeline's, by number in `_at`."""

    topic: Topic
    _at: dict[int, Stream] = field(default_factory=dict)
    _writers: list[Writer] = field(default_factory=list)
    _sites: Sites = field(init=False)
    _state: str = ""
    _group: Group | None = None
    _member: Thread | None = None
    _closed: Event = field(default_factory=Event)
    _left: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        self._sites = Sites(self.topic.where.topic)

    def start(self) -> None:
        """Join the group, in a thread that stays a member until `leave`."""
        self._member = Thread(target=self._stay, name="group", daemon=True)
        self._member.start()

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more; batches may still wait."""
        streams = list(self._at.values())
        over = self._closed.is_set() or (self.topic.bounded and bool(streams))
        return over and all(stream.ended for stream in streams)

    def close(self) -> None:
        """Read no more; open windows are left to whoever reads on."""
        self._closed.set()
        for stream in list(self.streams):
            stream.source.close()

    def leave(self) -> None:
        """Leave the group, and end transactions that were not committed."""
        self._left.set()
        if self._member is not None:
            self._member.join()
        for writer in self._writers:
            writer.close()

    def _stay(self) -> None:
        try:
            where, group = self.topic.where, self.topic.group
            self._state = state_topic(where, group, self.topic.partitions)
            self._group = Group(where, group, self._gained, self._gone, self._gone)
            while not self._left.is_set():
                self._group.poll(_POLL_S)
        except BaseException as error:  # noqa: BLE001  # the source stage raises it
            self.errors.append(error)
        finally:
            if self._group is not None:
                self._group.close()

    def _gained(self, partitions: list[int]) -> None:
        if self._closed.is_set():
            return
        opened = {partition: self._opened(partition) for partition in partitions}
        self._at |= opened  # all at once: a bounded topic has ended when every partition that is here has
        for partition, stream in opened.items():
            _log.info("kafka source: %s/%d is read here now", self.topic.where.topic, partition)
            stream.start()
        if self._closed.is_set():  # meanwhile
            self.close()

    def _gone(self, partitions: list[int]) -> None:
        for partition in partitions:
            stream = self._at.pop(partition, None)
            if stream is not None and not self._left.is_set():
                stream.gone = True
                stream.source.close()
                self.streams.remove(stream)
        self._sites.keep(self._at)

    def _opened(self, partition: int) -> Stream:
        where = self.topic.where
        if self.model is None:
            raise SourceError("morpheus: no GaeInferenceStage behind the source, which a topic of Kafka needs")
        writer = Writer(where, f"eddyline-{self.topic.group}-{where.topic}-{partition}")
        self._writers.append(writer)
        ledger = Ledger(where, self._state, partition, writer, self.model.fingerprint, lambda: self._membership)
        left = ledger.read() or Remembered(Commit(None))
        if not left.same_model:
            _log.warning("kafka source: partition %d: another model than before; its memory begins anew", partition)
        keep = self._keeper(partition, ledger)
        source = PartitionSource(self.topic, partition, left.commit.position, keep, left.rejected_until)
        stream = self.add(source, left.commit)
        stream.rejected_until = left.rejected_until
        return stream

    @property
    def _membership(self) -> object:
        return None if self._group is None else self._group.member

    def _keeper(self, partition: int, ledger: Ledger) -> Callable[[Commit], None]:
        def keep(commit: Commit) -> None:
            stream = self._at.get(partition)
            if stream is None:
                return
            self._sites.claim(partition, commit.sites)
            try:
                ledger.keep(commit, stream.rejected_until)
            except SinkError as error:
                if not stream.gone:
                    raise
                _log.warning("%s; it goes on elsewhere", error)

        return keep


def open_topic(url: str, flush: FlushSettings, size: int) -> TopicFeed:
    """Look at the topic that `url` names; raises ConfigError for what cannot work."""
    topic = read_topic(url)
    return TopicFeed(url, replace(flush, seconds=None) if topic.bounded else flush, size, topic=topic)
