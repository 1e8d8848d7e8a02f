"""A service that crashed and goes on after its last commit scores and alerts as if nothing had happened."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from threading import Event

import numpy as np
import pyarrow as pa
import pytest

from eddyline.alerts import Alert, AlertSettings
from eddyline.calibration import Calibration
from eddyline.combine import ScoredFlows
from eddyline.contracts import Model
from eddyline.detectors.habits.detector import HabitsDetector
from eddyline.drift import EMBARGO, FREE
from eddyline.errors import SinkError
from eddyline.flows import FlowBatch, flow_table
from eddyline.runtimes.embedded import EmbeddedRun, FlushSettings
from eddyline.training import pair_minutes, remember
from eddyline.windows import Commit, Windower, WindowSettings
from tests.runtimes.test_embedded import ListSink, ListSource

MINUTE_US = 60_000_000
SETTINGS = WindowSettings(length_us=MINUTE_US, lateness_us=0)
TAUGHT = 260  # minutes of training
GAP = EMBARGO + 20  # minutes into the stream, when the first strange host is no news any more
STRANGE = int(FREE) + 2  # minutes in a row with a host nobody has seen, more than the bucket holds for free


def minute(number: int, position: int, strange: int | None = None) -> FlowBatch:
    """Eight clients at their server, and what host `strange` pushes out, if there is one."""
    rng = np.random.default_rng(number)
    flows = 8 + (strange is not None)
    columns = {
        "ts_end": pa.array(number * MINUTE_US + np.arange(flows) * 1_000).cast(pa.timestamp("us", tz="UTC")),
        "src_addr": [f"10.0.1.{client}" for client in range(8)] + [f"10.9.9.{strange}"] * (flows - 8),
        "dst_addr": [f"10.0.2.{client % 3}" for client in range(8)] + [f"10.8.8.{strange}"] * (flows - 8),
        "dst_port": [443] * 8 + [6667] * (flows - 8),
        "proto": [6] * flows,
        "bytes": [int(size) for size in rng.lognormal(7, 0.4, 8)] + [10**12] * (flows - 8),
        "packets": [12] * flows,
        "rev_bytes": [int(size) for size in rng.lognormal(8, 0.4, 8)] + [40] * (flows - 8),
        "rev_packets": [10] * flows,
        "site": ["office"] * flows,
    }
    return FlowBatch(flow_table(columns, flows), position)


def stream() -> list[FlowBatch]:
    """Strange hosts, one a minute, the last of them twice more; hours later the first again; quiet around."""
    numbers = [*range(1, STRANGE + 6), *range(GAP, GAP + 6)]
    strange = {3 + host: host for host in range(STRANGE)}
    strange |= dict.fromkeys((STRANGE + 3, STRANGE + 4), STRANGE - 1) | dict.fromkeys((GAP + 3, GAP + 4), 0)
    return [minute(TAUGHT + number, place + 1, strange.get(number)) for place, number in enumerate(numbers)]


@cache
def model() -> Model:
    """The habits of quiet minutes."""
    windower = Windower(SETTINGS)
    steps = [windower.add(minute(number, number)) for number in range(TAUGHT)]
    windows = [window for step in (*steps, windower.finish()) for window in step.closed]
    graphs, memories = remember(windows, "cpu", lambda what, done, of, words: None)
    fresh = graphs[len(graphs) // 3 :]
    detector = HabitsDetector.fit(fresh)
    raw = np.concatenate([detector.score(graph).numpy() for graph in fresh])
    calibration = Calibration.of(raw, pair_minutes(fresh), 1.0)
    saved = {site: memory.parts() for site, memory in memories.items()}
    return Model("test", [detector], {"habits": calibration}, memories=saved)


def run(
    source: ListSource, sink: ListSink, flush: int, resume: Commit | None = None,
    alerts: AlertSettings = AlertSettings(),  # noqa: B008  # frozen
) -> None:  # fmt: skip
    EmbeddedRun(source, model(), [sink], SETTINGS, alerts, FlushSettings(flush), 2, Event(), resume).run()


def bits(windows: Sequence[ScoredFlows]) -> dict[int | None, tuple[bytes, ...]]:
    """Everything that scoring says of each window but its alerts, by its start."""
    found = {}
    for scored in windows:
        assert scored.custom is not None
        parts = (scored.raw["habits"], scored.by_detector["habits"], scored.p, np.float64(scored.factor), scored.custom)
        found[scored.window.start_us] = tuple(part.tobytes() for part in parts)
    return found


def test_the_stream_raises_p_in_both_ways() -> None:
    """Or the comparison below would say nothing of what a memory holds."""
    sink = ListSink()
    run(ListSource(stream()), sink, 1)
    assert max(scored.factor for scored in sink.written) > 2
    customs = [scored.custom.max() for scored in sink.written if scored.custom is not None]
    assert [place for place, custom in enumerate(customs) if custom > 0] == [STRANGE + 8, STRANGE + 9]
    assert min(scored.p.min() for scored in sink.written) < 1e-4


@pytest.mark.parametrize(
    ("crash", "flush"),
    [(3, 1), (8, 1), (STRANGE + 2, 1), (STRANGE + 7, 1), (STRANGE + 9, 1), (8, 40), (STRANGE + 8, 40)],
)
def test_a_run_that_goes_on_after_a_commit_scores_like_one_that_never_stopped(crash: int, flush: int) -> None:
    batches = stream()
    whole, crashed, resumed = ListSink(), ListSink(fail_at_write=crash), ListSink()
    run(ListSource(batches), whole, flush)
    source = ListSource(batches)
    with pytest.raises(SinkError):
        run(source, crashed, flush)
    commit = source.commits[-1]
    assert commit.position > 0
    run(ListSource(batches[commit.position :]), resumed, flush, commit)
    assert len(resumed.written) < len(whole.written)
    assert bits([*crashed.written, *resumed.written]) == bits(whole.written)


@dataclass
class AlertSink(ListSink):
    """Keeps the alerts of each window, too, by the window's start."""

    told: dict[int | None, list[Alert]] = field(default_factory=dict)

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        super().write(scored, alerts)
        self.told[scored.window.start_us] = list(alerts)


FEW = AlertSettings(p=0.2, lone=1.0, per_hour=4, per_day=5)  # much is strange enough, and the budget shows


def test_the_stream_spends_its_budget_and_updates_what_it_opened() -> None:
    """Or the comparison below would say nothing of what a book holds."""
    sink, free = AlertSink(), AlertSink()
    run(ListSource(stream()), sink, 1, alerts=FEW)
    told = [alert for alerts in sink.told.values() for alert in alerts]
    assert sum(alert.update == 0 for alert in told) == 5
    assert max(alert.update for alert in told) == 5
    run(ListSource(stream()), free, 1, alerts=replace(FEW, per_hour=100, per_day=100))
    assert sum(alert.update == 0 for alerts in free.told.values() for alert in alerts) > 5


@pytest.mark.parametrize(("crash", "flush"), [(1, 1), (4, 1), (9, 1), (STRANGE + 9, 1), (8, 40)])
def test_a_run_that_goes_on_after_a_commit_alerts_like_one_that_never_stopped(crash: int, flush: int) -> None:
    batches = stream()
    whole, crashed, resumed, forgetful = AlertSink(), AlertSink(fail_at_write=crash), AlertSink(), AlertSink()
    run(ListSource(batches), whole, flush, alerts=FEW)
    source = ListSource(batches)
    with pytest.raises(SinkError):
        run(source, crashed, flush, alerts=FEW)
    commit = source.commits[-1]
    run(ListSource(batches[commit.position :]), resumed, flush, commit, FEW)
    assert crashed.told | resumed.told == whole.told
    run(ListSource(batches[commit.position :]), forgetful, flush, replace(commit, book={}), FEW)
    assert crashed.told | forgetful.told != whole.told
