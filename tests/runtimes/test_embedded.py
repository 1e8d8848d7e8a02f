"""The embedded runtime: overlap, order, stopping, failing, committing."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from eddyline.alerts import Alert, AlertSettings
from eddyline.calibration import Calibration
from eddyline.combine import ScoredFlows
from eddyline.contracts import Model
from eddyline.errors import ArtifactError, SinkError, SourceError
from eddyline.flows import REJECTED_SCHEMA, FlowBatch
from eddyline.runtimes.embedded import EmbeddedRun, FlushSettings
from eddyline.scoring import Memory
from eddyline.sources.netflow.udp import NetflowSource
from eddyline.windows import Commit, WindowSettings
from tests.detectors.test_conformance import gae, score, some_window
from tests.sources.netflow_bytes import data_set, v5, v5_record, v9
from tests.test_windows import batch

SETTINGS = WindowSettings(length_us=10_000_000, lateness_us=0)


def model() -> Model:
    detector = gae()
    return Model("test", [detector], {"gae": Calibration.of(score(detector, some_window(seed=9)))})


@dataclass
class ListSource:
    """A source over batches in memory that remembers its commits, and can end in an error or never end."""

    batches: Sequence[FlowBatch]
    error: Exception | None = None
    endless: bool = False
    resumes: bool = True
    commits: list[Commit] = field(default_factory=list)
    handed_out: int = 0
    closed: threading.Event = field(default_factory=threading.Event)

    def __iter__(self) -> Iterator[FlowBatch]:
        while not self.closed.is_set():
            for each in self.batches:
                if self.closed.is_set():
                    return
                self.handed_out += 1
                yield each
            if not self.endless:
                break
        if self.error:
            raise self.error

    def commit(self, commit: Commit) -> None:
        self.commits.append(commit)

    def close(self) -> None:
        self.closed.set()


@dataclass
class ListSink:
    """Keeps what it is given; fails at the given write or flush."""

    fail_at_write: int | None = None
    delay_s: float = 0.0
    written: list[ScoredFlows] = field(default_factory=list)
    durable: int = 0
    rejected: list[pa.Table] = field(default_factory=list)

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        time.sleep(self.delay_s)
        if len(self.written) == self.fail_at_write:
            raise SinkError(f"list: window {len(self.written)} is not in the output")
        self.written.append(scored)

    def reject(self, rejected: pa.Table) -> None:
        self.rejected.append(rejected)

    def flush(self) -> None:
        self.durable = len(self.written)

    def close(self) -> None:
        self.flush()


def start(
    source: ListSource,
    *sinks: ListSink,
    stop: threading.Event | None = None,
    size: int = 2,
    flush: int = 1,
    resume: Commit | None = None,
    memories: Mapping[str, Mapping[str, Any]] | None = None,
) -> EmbeddedRun:
    scored_by = replace(model(), memories=memories or {})
    return EmbeddedRun(
        source,
        scored_by,
        sinks,
        SETTINGS,
        AlertSettings(),
        FlushSettings(flush),
        size,
        stop or threading.Event(),
        resume,
    )


def minutes(count: int) -> list[FlowBatch]:
    """`count` batches of three flows, ten seconds apart, so each closes the window of the one before."""
    return [batch(*[("a", 10 * i + j) for j in range(3)], first=3 * i, position=i + 1) for i in range(count)]


def rows(sink: ListSink) -> list[int]:
    return [row for scored in sink.written for row in scored.window.flows["source_row"].to_pylist()]


def test_every_flow_reaches_every_sink_in_order() -> None:
    source, first, second = ListSource(minutes(5)), ListSink(), ListSink()
    counts = start(source, first, second).run()
    assert rows(first) == rows(second) == list(range(15))
    assert (counts.flows, counts.scored, counts.windows, counts.late) == (15, 15, 5, 0)
    assert source.commits[-1].position == 5


def test_a_commit_never_runs_ahead_of_the_sinks() -> None:
    source, sink = ListSource(minutes(8)), ListSink()
    start(source, sink, flush=1).run()
    positions = [commit.position or 0 for commit in source.commits]
    assert positions == sorted(positions)
    assert positions[0] <= 1


def test_the_memory_of_each_site_travels_with_the_commit() -> None:
    source = ListSource(minutes(5))
    start(source, ListSink()).run()
    memory = Memory.of(source.commits[-1].memories["a"])
    assert memory.habits.windows == 5
    assert len(memory.habits.waiting) == 1  # the last window is not learned yet: what windows are scored with lags


def test_a_memory_that_another_version_saved_is_refused_by_name() -> None:
    known = {name: part for name, part in Memory.empty().parts().items() if name != "habits/probes/keys"}
    with pytest.raises(ArtifactError, match=r"site `a` lacks 'probes/keys'.*train the model again"):
        start(ListSource(minutes(2)), ListSink(), memories={"a": known}).run()


def test_no_memory_is_copied_for_a_source_that_does_not_resume() -> None:
    source = ListSource(minutes(5), resumes=False)
    start(source, ListSink()).run()
    assert [commit.memories for commit in source.commits] == [{}] * len(source.commits)
    assert source.commits[-1].position == 5


def test_a_resumed_run_continues_memory_and_windows() -> None:
    batches = minutes(6)
    whole, crashed, resumed = ListSink(), ListSink(fail_at_write=3), ListSink()
    start(ListSource(batches), whole).run()
    source = ListSource(batches)
    with pytest.raises(SinkError):
        start(source, crashed).run()
    commit = source.commits[-1]
    after = ListSource([b for b in batches if b.position > (commit.position or 0)])
    start(after, resumed, resume=commit).run()
    written = {w.window.start_us: w.p.tobytes() for w in [*crashed.written, *resumed.written]}
    assert written == {w.window.start_us: w.p.tobytes() for w in whole.written}
    assert Memory.of(after.commits[-1].memories["a"]).habits.windows == 6


def test_a_resumed_run_that_is_stopped_before_its_first_batch_forgets_nothing() -> None:
    source = ListSource(minutes(3))
    start(source, ListSink()).run()
    left = source.commits[0]
    assert left.sites
    again = ListSource([])
    again.unfinished = True  # type: ignore[attr-defined]
    start(again, ListSink(), resume=left).run()
    assert (again.commits[-1].position, again.commits[-1].seen) == (left.position, left.seen)
    assert again.commits[-1].sites == left.sites


def test_a_failing_sink_stops_the_run_and_nothing_after_it_is_committed() -> None:
    source, sink = ListSource(minutes(50)), ListSink(fail_at_write=3)
    with pytest.raises(SinkError, match="window 3 is not in the output"):
        start(source, sink).run()
    assert max(commit.position or 0 for commit in source.commits) <= 3
    assert source.handed_out < 50


def test_a_failing_source_still_raises_its_own_error() -> None:
    with pytest.raises(SourceError, match="the cable is out"):
        start(ListSource(minutes(2), error=SourceError("list: the cable is out")), ListSink()).run()


def test_a_stop_drains_what_was_read() -> None:
    stop, sink = threading.Event(), ListSink()
    source = ListSource([batch(("a", 1), ("a", 2))], endless=True)
    threading.Timer(0.5, stop.set).start()
    counts = start(source, sink, stop=stop).run()
    assert counts.flows == 2 * source.handed_out == sum(map(len, sink.written))


def test_a_slow_sink_holds_the_source_back() -> None:
    source, sink = ListSource(minutes(40)), ListSink(delay_s=0.05)
    run = start(source, sink, size=1)
    seen: list[int] = []
    run.run(lambda counts: seen.append(source.handed_out - len(sink.written)))
    assert max(seen) <= 8  # two queues of one, three threads with one batch each, one window still open


def test_bad_records_are_counted_by_reason_and_reach_the_sinks() -> None:
    bad = pa.table(
        {
            "reason": ["torn", "torn", "noise"],
            "origin": ["x"] * 3,
            "source_row": [1, 2, None],
            "raw": [b"a", b"b", b"c"],
        },
        REJECTED_SCHEMA,
    )
    good = minutes(1)[0]
    sink = ListSink()
    counts = start(ListSource([FlowBatch(good.table, 1, bad)]), sink).run()
    assert dict(counts.rejected) == {"torn": 2, "noise": 1}
    assert sink.rejected[0].equals(bad)


def test_the_summary_says_what_happened() -> None:
    said = dict(start(ListSource(minutes(5)), ListSink()).run().summary())
    assert (said["flows"], said["windows"], said["late flows"]) == ("15", "5", "0")
    assert said["window close to sink"].startswith("p50 ")


def test_what_the_source_counted_on_the_way_is_in_the_summary() -> None:
    source = NetflowSource("127.0.0.1", 0, gather_datagrams=2)
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 1_000, 2_000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for raw in (v5([record]), v5([record], sequence=8), v9(data_set(256, bytes(12)))):
            out.sendto(raw, ("127.0.0.1", source.port))
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    run = EmbeddedRun(source, model(), [ListSink()], SETTINGS, AlertSettings(), FlushSettings(), 2, stop)
    said = dict(run.run().summary())
    assert (said["sequence gaps"], said["missing flows"], said["unknown templates"]) == ("1", "7", "1")
    assert list(said).count("flows") == 1
    assert said["flows"] == "2"


def test_scores_do_not_depend_on_how_the_stream_is_batched() -> None:
    one, many = ListSink(), ListSink()
    pieces = minutes(4)
    start(ListSource(pieces), many).run()
    joined = FlowBatch(pa.concat_tables([b.table for b in pieces]).unify_dictionaries(), 1)
    start(ListSource([joined]), one).run()
    assert [w.p.tolist() for w in one.written] == [w.p.tolist() for w in many.written]
    assert np.isfinite(one.written[0].p).all()
