import threading
import time
import tracemalloc
from itertools import islice

import pyarrow as pa
import pytest

from eddyline.errors import ConfigError
from eddyline.sources import open_source
from eddyline.sources.simulate import KINDS, Options, Schedule, SimulateSource, flows, open_simulate, read_options
from eddyline.windows import Window, Windower, WindowSettings

SECOND_US = 1_000_000
START = Options().start_us


class Clock:
    """Simulated wall time: sleeping moves it."""

    def __init__(self) -> None:
        self.now_us = 5_000_000
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now_us

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_us += round(seconds * SECOND_US)


def test_the_url_says_everything_and_everything_has_a_default() -> None:
    assert read_options("simulate://office") == Options()
    url = (
        "simulate://office?hosts=20&seconds=90.5&speed=60&seed=3&traffic=4&campaigns=ddos,beaconing"
        "&start=2026-01-06T10:00:00Z&window=30"
    )
    asked = Options(20, 90.5, 60.0, 3, 4, ("ddos", "beaconing"), START + 26 * 3600 * SECOND_US, 30.0)
    assert read_options(url) == asked
    assert read_options("simulate://office?campaigns=none").campaigns == ()
    assert read_options("simulate://office?campaigns=all").campaigns == KINDS
    assert read_options("simulate://office?start=2026-01-05T08:00:00").start_us == START


@pytest.mark.parametrize(
    "rest",
    [
        "factory", "office?hosts=few", "office?hosts=9", "office?hosts=30001", "office?hosts=", "office?hosts=3e2",
        "office?seconds=-1", "office?seconds=nan", "office?seconds=inf", "office?speed=fast", "office?seed=-1",
        "office?traffic=x", "office?campaigns=picnic", "office?campaigns=", "office?campaigns=ddos,",
        "office?start=soon",        "office?start=1969-01-01T00:00:00Z", "office?window=0",
        "office?colour=blue", "office?seed=1&seed=2",
        "office/floor", "office?hosts", "", "office#x",
    ],
)  # fmt: skip
def test_a_wrong_url_is_one_line_with_the_remedy(rest: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_simulate(f"simulate://{rest}")
    said = str(error.value)
    assert said.startswith("simulate: ")
    assert "\n" not in said
    assert any(remedy in said for remedy in ("; give ", "; write ", "; known are "))


def test_batches_are_a_window_long_and_together_they_are_all_flows() -> None:
    source = open_source("simulate://office?hosts=20&seconds=1000&window=90&traffic=4")
    batches = list(source)
    assert [batch.position - START for batch in batches] == [min(90 * k, 1000) * SECOND_US for k in range(1, 13)]
    assert all(batch.now_us is None and batch.rejected.num_rows == 0 for batch in batches)
    assert isinstance(source, SimulateSource)
    whole = flows(source.network, START, START + 1000 * SECOND_US, 4, Schedule(source.network, 4, KINDS, START, 1000))
    together = pa.concat_tables([batch.table for batch in batches])
    for name in whole.column_names:
        column, other = together[name], whole[name]
        if pa.types.is_dictionary(column.type):
            column, other = column.cast(pa.utf8()), other.cast(pa.utf8())
        assert column.combine_chunks().equals(other.combine_chunks())
    assert list(source)[3].table.equals(batches[3].table)


def test_campaigns_none_is_training_material() -> None:
    for batch in open_simulate("simulate://office?hosts=50&seconds=1200&campaigns=none"):
        assert batch.table["attack"].null_count == len(batch)


def test_windows_of_the_stream_hold_every_flow_and_none_is_late() -> None:
    windower, seen = Windower(WindowSettings()), 0
    windows: list[Window] = []
    for batch in open_simulate("simulate://office?hosts=20&seconds=900&window=7"):
        step = windower.add(batch)
        assert step.late == 0
        windows += step.closed
        seen += len(batch)
    windows += windower.finish().closed
    assert sum(map(len, windows)) == seen
    assert len(windows) == 15


def test_at_speed_60_a_simulated_minute_lasts_a_second_and_every_batch_has_the_simulated_clock() -> None:
    clock = Clock()
    options = Options(hosts=20, seconds=600, speed=60)
    batches = list(SimulateSource(options, clock, clock.sleep))
    assert clock.now_us - 5_000_000 == 10 * SECOND_US
    assert all(seconds == pytest.approx(0.5) for seconds in clock.slept)
    assert [batch.now_us for batch in batches] == [START + 30 * k * SECOND_US for k in range(1, 21)]
    fast = list(SimulateSource(Options(hosts=20, seconds=600)))
    assert sum(map(len, batches)) == sum(map(len, fast)) > 0


def test_an_idle_live_simulation_yields_empty_batches_with_its_clock() -> None:
    clock = Clock()
    night = Options(hosts=10, seconds=300, speed=1, campaigns=(), start_us=START - 5 * 3600 * SECOND_US)
    batches = list(SimulateSource(night, clock, clock.sleep))
    assert len(batches) == 600
    assert sum(len(batch) == 0 for batch in batches) > 300
    assert all(batch.now_us is not None for batch in batches)


def test_a_slow_reader_gets_all_batches_without_waiting() -> None:
    clock = Clock()
    count = 0
    for _ in SimulateSource(Options(hosts=20, seconds=600, speed=60), clock, clock.sleep):
        clock.now_us += 2 * SECOND_US
        count += 1
    assert count == 20
    assert sum(clock.slept) == pytest.approx(0.5)


def test_real_time_passes_at_the_speed_asked_for() -> None:
    began = time.monotonic()
    list(SimulateSource(Options(hosts=20, seconds=60, speed=100)))
    assert 0.55 < time.monotonic() - began < 3


def test_closing_ends_a_live_simulation_that_waits() -> None:
    source = SimulateSource(Options(hosts=20, seconds=0, speed=1))
    taken: list[int] = []
    reader = threading.Thread(target=lambda: taken.extend(len(batch) for batch in source))
    reader.start()
    time.sleep(0.1)
    source.close()
    source.close()
    reader.join(2)
    assert not reader.is_alive()
    assert list(source) == []


def test_an_endless_simulation_keeps_no_more_memory_after_200_slots_than_after_20() -> None:
    batches = iter(SimulateSource(Options(hosts=100, seconds=0)))
    for _ in islice(batches, 20):
        pass
    tracemalloc.start()
    try:
        for _ in islice(batches, 20):
            pass
        before = tracemalloc.get_traced_memory()[0]
        arrow = pa.total_allocated_bytes()
        flows_seen = sum(len(batch) for batch in islice(batches, 200))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert flows_seen > 20_000
    assert grown < 1_000_000  # the flows seen are tens of megabytes
    assert pa.total_allocated_bytes() - arrow < 1_000_000
