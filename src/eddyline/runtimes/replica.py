"""One of several equal services that share a Kafka topic: every partition it owns runs the path of its own.

A partition that goes to another replica is read no further; what its windows had closed is written and committed, its
open windows stay with the broker, and the new owner goes on from the last commit. A partition whose run fails begins
again from there, too; a replica that is killed leaves nothing behind but that commit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from threading import Event, Lock, Thread
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.config import RunSettings
from eddyline.contracts import Model, Sink
from eddyline.errors import ConfigError, SinkError, SourceError
from eddyline.kafka.client import Group, RecordsGone
from eddyline.kafka.writer import Writer
from eddyline.metrics import Counts, Standing
from eddyline.runtimes import use_threads
from eddyline.runtimes.embedded import EmbeddedRun, FlushSettings, model_of
from eddyline.runtimes.ledger import Ledger, state_topic
from eddyline.runtimes.snapshots import Remembered
from eddyline.sinks import open_sink
from eddyline.sinks.kafka import KafkaSink, Output, read_output
from eddyline.sources.kafka.source import PartitionSource, Topic, read_topic
from eddyline.windows import Commit

_log = logging.getLogger(__name__)
_POLL_S: Final = 0.2
_TRIES: Final = 8  # failures of a partition in a row, with no commit between, that stop the replica
_WAIT_S: Final = 30.0  # between them at most


class SharedSink:
    """One sink for the runs of all partitions, whose sites differ; closed by whoever opened it."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._lock = sink, Lock()

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        """As the sink does, one at a time."""
        with self._lock:
            self._sink.write(scored, alerts)

    def reject(self, rejected: pa.Table) -> None:
        """As the sink does, one at a time."""
        with self._lock:
            self._sink.reject(rejected)

    def flush(self) -> None:
        """As the sink does, one at a time."""
        with self._lock:
            self._sink.flush()

    def close(self) -> None:
        """Nothing: others still write."""


class Sites:
    """Which partition of `topic` each site lies in: in one only, or its windows would hold half of its flows."""

    def __init__(self, topic: str) -> None:
        self._topic, self._at = topic, dict[str, int]()

    def claim(self, partition: int, sites: Iterable[str]) -> None:
        """Refuse a site that lies in two partitions; raises ConfigError."""
        for site in sites:
            other = self._at.setdefault(site, partition)
            if other != partition:
                raise ConfigError(f"kafka source: site `{site}` lies in partitions {other} and {partition} of "
                                  f"`{self._topic}`; key it by site or give it one partition")  # fmt: skip

    def keep(self, partitions: Container[int]) -> None:
        """Forget the sites of all other partitions."""
        self._at = {site: at for site, at in self._at.items() if at in partitions}


class _Rejects:
    """Notes up to which offset bad records have reached the sinks before it."""

    def __init__(self, until: int) -> None:
        self.until = until

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        pass

    def reject(self, rejected: pa.Table) -> None:
        self.until = max(self.until, pc.max(rejected["source_row"]).as_py())

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


class Replica:
    """Runs the partitions that the group gives it, each in threads of its own.

    Args:
        settings: of the run. topic: the source. model: shared by all partitions.
        shared: sinks of every partition, at least once. own: Kafka sinks that belong to the transactions.
    """

    def __init__(
        self, settings: RunSettings, topic: Topic, model: Model, shared: Sequence[Sink], own: Sequence[Output]
    ) -> None:
        self.settings, self.topic, self.model = settings, topic, model
        self.shared, self.own = [SharedSink(sink) for sink in shared], own
        self.state = state_topic(topic.where, topic.group, topic.partitions)
        self._runs: dict[int, _PartitionRun] = {}
        self._past: list[Counts] = []
        self._errors: list[BaseException] = []
        self.sites = Sites(topic.where.topic)
        self._began = time.monotonic()
        self._group = Group(topic.where, topic.group, self._gained, self._leaving, self._lost)

    def run(self, stop: Event, report: Callable[[Counts], None]) -> Counts:
        """Stay in the group until `stop`, or until a bounded topic has been read; raises what stopped a partition."""
        try:
            while not stop.is_set():
                self._group.poll(_POLL_S)
                runs = list(self._runs.values())
                for run in runs:
                    if run.error is not None:
                        raise run.error
                report(self.counts())
                if self.topic.bounded and runs and all(run.ended for run in runs):
                    break
        finally:
            self._leaving(list(self._runs))
            self._group.close()
        if self._errors:
            raise self._errors[0]
        return self.counts()

    def counts(self) -> Counts:
        """Totals over all partitions that were ever here."""
        found = [*self._past, *(count for run in self._runs.values() for count in run.counts)]
        total = Counts.over(found, time.monotonic() - self._began)
        total.partitions = {(self.topic.where.topic, number): run.standing() for number, run in self._runs.items()}
        return total

    def member(self) -> Any:
        """This replica's membership as it is now."""
        return self._group.member

    def _gained(self, partitions: list[int]) -> None:
        for partition in partitions:
            _log.info("kafka source: %s/%d is read here now", self.topic.where.topic, partition)
            self._runs[partition] = _PartitionRun(self, partition)

    def _leaving(self, partitions: list[int]) -> None:
        leaving = [self._runs.pop(partition) for partition in partitions if partition in self._runs]
        for run in leaving:
            run.stop.set()
        for run in leaving:
            run.thread.join()
            self._past += run.counts
        self._errors += [run.error for run in leaving if run.error is not None]
        self.sites.keep(self._runs)

    def _lost(self, partitions: list[int]) -> None:
        _log.warning("kafka source: partitions %s were given to another replica; going on without them", partitions)
        for partition in partitions:
            if partition in self._runs:
                self._runs[partition].abandon()
        self._leaving(partitions)


class _PartitionRun:
    """The path for one partition; opens everything, and again from the last commit when it fails."""

    def __init__(self, replica: Replica, partition: int) -> None:
        self._replica, self._partition = replica, partition
        self.stop, self.ended = Event(), False
        self.error: BaseException | None = None
        self.counts: list[Counts] = []
        self._writer: Writer | None = None
        self._source: PartitionSource | None = None
        self.thread = Thread(target=self._guarded, name=f"partition-{partition}", daemon=True)
        self.thread.start()

    def abandon(self) -> None:
        """Stop without another commit."""
        self.stop.set()
        if self._writer is not None:
            self._writer.abandon()

    def standing(self) -> Standing:
        """How far it is."""
        newest = [one.newest_us for one in self.counts if one.newest_us is not None]
        return Standing(self._source.behind if self._source else None, max(newest, default=None))

    def _guarded(self) -> None:
        try:
            self._until_stopped()
        except BaseException as error:  # noqa: BLE001  # the replica raises it
            self.error = error
        self.ended = True

    def _until_stopped(self) -> None:
        failures = 0
        while True:
            kept = [0]
            try:
                return self._once(kept)
            except RecordsGone:
                raise
            except (SourceError, SinkError) as error:
                failures = 1 if kept[0] else failures + 1
                if self.stop.is_set():
                    _log.warning("%s; it goes on elsewhere", error)
                    return None
                if failures >= _TRIES:
                    raise
                _log.warning("%s; trying again from the last commit", error)
                self.stop.wait(min(_WAIT_S, 2.0 ** (failures - 1)))

    def _once(self, kept: list[int]) -> None:
        replica, topic = self._replica, self._replica.topic
        name = f"eddyline-{topic.group}-{topic.where.topic}-{self._partition}"
        with ExitStack() as ends:
            writer = ends.enter_context(closing(Writer(topic.where, name)))
            self._writer = writer
            ledger = Ledger(
                topic.where, replica.state, self._partition, writer, replica.model.fingerprint, replica.member
            )
            left = ledger.read() or Remembered(Commit(None))
            if not left.same_model:
                _log.warning("kafka source: partition %d: another model than before; its memory begins anew",
                             self._partition)  # fmt: skip

            def keep(commit: Commit) -> None:
                replica.sites.claim(self._partition, commit.sites)
                ledger.keep(commit, rejects.until)
                kept[0] += 1

            rejects = _Rejects(left.rejected_until)
            source = ends.enter_context(
                closing(PartitionSource(topic, self._partition, left.commit.position, keep, left.rejected_until))
            )
            self._source = source
            commit = _going_on(left.commit, source.now_us)
            sinks: list[Sink] = [*replica.shared, *(KafkaSink(output, writer) for output in replica.own), rejects]
            settings = replica.settings
            run = EmbeddedRun(
                source, replica.model, sinks, settings.windows.settings(), settings.alerts.settings(),
                FlushSettings(settings.flush_flows, None if topic.bounded else settings.flush_s), settings.queue,
                self.stop, commit,
            )  # fmt: skip
            self.counts.append(run.counts)
            run.run()


def _going_on(commit: Commit, now_us: int) -> Commit:
    """The commit as if no time had passed since: else the clock of a site that comes second would close its windows."""
    sites = {
        site: replace(state, lead_us=None if state.lead_us is None else now_us - state.watermark_us)
        for site, state in commit.sites.items()
    }
    return replace(commit, sites=sites)


def run(settings: RunSettings, stop: Event, report: Callable[[Counts], None]) -> Counts:
    """Open what `settings` name and be one of the replicas of its group until `stop`; raises what went wrong."""
    use_threads(settings.threads)
    topic, model = read_topic(settings.source), model_of(settings)
    exactly = settings.delivery == "exactly_once"
    own = [read_output(url) for url in settings.sink if exactly and url.startswith("kafka://")]
    if exactly and not own:
        raise ConfigError("config: `delivery` = exactly_once needs a sink kafka://…; others write at least once")
    for output in own:
        if output.where.servers != topic.where.servers:
            raise ConfigError(f"config: `delivery` = exactly_once: {output.where} is not at the source's brokers "
                              f"{topic.where.servers}; a transaction spans one cluster")  # fmt: skip
    others = [url for url in settings.sink if not (exactly and url.startswith("kafka://"))]
    with ExitStack() as ends:
        shared = [ends.enter_context(closing(open_sink(url, live=not topic.bounded, replays=True))) for url in others]
        return Replica(settings, topic, model, shared, own).run(stop, report)
