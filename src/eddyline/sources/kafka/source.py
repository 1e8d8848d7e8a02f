"""kafka://: flows from a topic, one partition at a time.

    kafka://BROKER:PORT/TOPIC?format=arrow|json|protobuf&dialect=NAME&site=COLUMN&group=NAME&start=earliest|latest&until=end

A partition is a stream of its own, with its own position, windows and memory: key the topic by site, so that every
site lies in one partition. `run` shares the partitions among all replicas of a group; everything else reads them one
after the other, up to their ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect, load_dialect
from eddyline.errors import ConfigError
from eddyline.flows import REJECTED_SCHEMA, FlowBatch, empty_flows
from eddyline.kafka.address import Address, parse_address
from eddyline.kafka.client import Message, Reader
from eddyline.kafka.topics import partitions_of
from eddyline.sources.kafka.records import Decoder, Record
from eddyline.windows import Commit

FORMATS: Final = {"arrow": "eddyline", "json": "eddyline", "protobuf": "goflow2"}  # and their usual dialects
_OPTIONS: Final = ("format", "dialect", "site", "group", "start", "until")
_GATHER_S: Final = 0.2  # a batch is at most this old
_IDLE_S: Final = 1.0  # how long a quiet source says nothing
_AT_ONCE: Final = {"arrow": 1, "json": 10_000, "protobuf": 10_000}  # records in a batch
_STRIDE_US: Final = 2_000_000  # by which the clock moves at most at a time: a stall is no passing of time


@dataclass(frozen=True, slots=True)
class Topic:
    """What a source URL says.

    Args:
        where: brokers and topic. partitions: how many it has; 0 while nobody has asked.
        form: of FORMATS. dialect: how flows are written. site: the column that names their site.
        group: replicas that share the topic, and what they remember. start: where a group begins that has read nothing.
        bounded: end where the topic ends now.
    """

    where: Address
    partitions: int
    form: str
    dialect: Dialect
    site: str | None
    group: str
    start: str
    bounded: bool


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class PartitionSource:
    """The flows of one partition in its order, from one offset on. Blocks at most about a second.

    An Arrow record is one batch. The clock of a batch moves only while the topic has been read to its end, and only in
    strides: in a replay or after an outage no window closes because time has passed here.

    Args:
        topic, partition: what to read.
        offset: from here on; None where the group begins.
        keep: takes a commit, complete with an offset.
        rejected_until: bad records up to this offset are with the sinks already.
        clock: microseconds since 1970.

    Attributes:
        now_us: the clock of the next batch.
    """

    resumes = True

    def __init__(
        self, topic: Topic, partition: int, offset: int | None = None, keep: Callable[[Commit], None] | None = None,
        rejected_until: int = -1, clock: Callable[[], int] = wall_clock,
    ) -> None:  # fmt: skip
        self._topic, self._keep, self._clock, self._rejected_until = topic, keep, clock, rejected_until
        self._reader = Reader(topic.where, topic.where.topic, partition, offset, topic.start)
        self._first = self._reader.offset
        self._decoder = Decoder(topic.dialect, topic.site, f"{topic.where.topic}/{partition}")
        self._last = self._reader.end() if topic.bounded else None
        self._stopped = threading.Event()
        self.now_us, self._looked_us = clock(), clock()
        self.unfinished = False
        self.behind: int | None = None  # offsets up to the end of the partition; None while nobody has said

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches until `close`, or until the end where the topic is bounded; an empty one in every second of quiet."""
        said = time.monotonic()
        try:
            while not self._over():
                messages = self._reader.read(_AT_ONCE[self._topic.form], _GATHER_S)
                self.behind = self._reader.behind()
                self._tick(bool(messages))
                quiet = not messages and time.monotonic() - said >= _IDLE_S
                if messages or quiet:
                    yield from self._batches(messages)
                    said = time.monotonic()
        finally:
            self._reader.close()

    def commit(self, commit: Commit) -> None:
        """Keep `commit`; without anywhere to keep it, nothing."""
        if self._keep is not None:
            self._keep(replace(commit, position=self._first if commit.position is None else commit.position))

    def close(self) -> None:
        """End the iteration, from any thread; open windows are left to whoever reads on. Twice is once."""
        self._stopped.set()

    def _over(self) -> bool:
        if self._last is not None and self._reader.offset >= self._last:
            return True
        self.unfinished = self._stopped.is_set()
        return self.unfinished

    def _tick(self, busy: bool) -> None:
        now = self._clock()
        if self._reader.at_end and (busy or self._reader.is_idle()):
            self.now_us += min(max(0, now - self._looked_us), _STRIDE_US)
        self._looked_us = now

    def _batches(self, messages: list[Message]) -> Iterator[FlowBatch]:
        records = [Record(message.offset() or 0, message.value() or b"") for message in messages]
        if self._last is not None:
            records = [record for record in records if record.offset < self._last]
        if not records:
            yield self._batch(empty_flows(), REJECTED_SCHEMA.empty_table(), self._reader.offset)
        elif self._topic.form != "arrow":
            decode = self._decoder.json if self._topic.form == "json" else self._decoder.protobuf
            yield self._batch(*decode(records), records[-1].offset + 1)
        else:
            for record in records:
                yield self._batch(*self._decoder.arrow(record), record.offset + 1)

    def _batch(self, flows: pa.Table, rejected: pa.Table, position: int) -> FlowBatch:
        if rejected.num_rows:
            rejected = rejected.filter(pc.greater(rejected["source_row"], self._rejected_until))
        return FlowBatch(flows, position, rejected, None if self._topic.bounded else self.now_us)


class TopicSource:
    """All partitions of a topic, one after the other, up to their ends: for training and evaluation."""

    resumes = False

    def __init__(self, topic: Topic) -> None:
        self._topic = replace(topic, bounded=True)
        self._now: PartitionSource | None = None
        self._stopped = False

    def __iter__(self) -> Iterator[FlowBatch]:
        """Every flow that is there now; each iteration reads them from the beginning."""
        for partition in range(self._topic.partitions):
            if self._stopped:
                return
            self._now = PartitionSource(self._topic, partition)
            yield from self._now

    def commit(self, commit: Commit) -> None:
        """Nothing to keep: the topic keeps its records."""

    def close(self) -> None:
        """End the iteration, from any thread; twice is once."""
        self._stopped = True
        if self._now is not None:
            self._now.close()


def open_kafka(url: str) -> TopicSource:
    """Everything that is in the topic now; see `read_topic`."""
    return TopicSource(read_topic(url))


def read_topic(url: str) -> Topic:
    """Read a URL and ask the brokers for the topic; raises ConfigError for an unknown option, broker or topic."""
    topic = parse_source(url)
    partitions = partitions_of(topic.where, topic.where.topic, "kafka source")
    if partitions is None:
        raise ConfigError(f"kafka source: {topic.where}: there is no such topic; create it, keyed by site")
    return replace(topic, partitions=partitions)


def parse_source(url: str) -> Topic:
    """Read a URL and ask nobody; raises ConfigError for what it cannot mean."""
    where = parse_address(url, "kafka source", _OPTIONS)
    options: Mapping[str, str] = where.options
    for name, allowed in (("format", tuple(FORMATS)), ("start", ("earliest", "latest")), ("until", ("end",))):
        if name in options and options[name] not in allowed:
            raise ConfigError(f"kafka source: {name}={options[name]}; give {' or '.join(allowed)}")
    form = options.get("format", "arrow")
    dialect = load_dialect(options.get("dialect", FORMATS[form]))
    site = options["site"].strip().lower() if "site" in options else None
    return Topic(
        where, 0, form, dialect, site,
        options.get("group", "eddyline"), options.get("start", "earliest"), "until" in options,
    )  # fmt: skip
