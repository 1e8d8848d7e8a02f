"""Windows: what closes when, what is late, and what a crash may not lose or repeat."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.flows import FlowBatch, flow_table
from eddyline.windows import Commit, Window, Windower, WindowSettings

SECOND = 1_000_000
MINUTE = WindowSettings(length_us=60 * SECOND, lateness_us=10 * SECOND)


def batch(*flows: tuple[str, float | None], first: int = 0, position: int = 0, now: float | None = None) -> FlowBatch:
    """Flows as (site, seconds or None), numbered from `first`."""
    times = pa.array([None if t is None else int(t * SECOND) for _, t in flows], pa.int64())
    columns = {
        "ts_end": times.cast(pa.timestamp("us", tz="UTC")),
        "src_addr": ["10.0.0.1"] * len(flows),
        "dst_addr": ["10.0.0.2"] * len(flows),
        "site": [site for site, _ in flows],
        "source_row": np.arange(first, first + len(flows)),
    }
    return FlowBatch(flow_table(columns, len(flows)), position, now_us=None if now is None else int(now * SECOND))


def shape(window: Window) -> tuple[str, float | None, bool, int, list[int]]:
    start = None if window.start_us is None else window.start_us / SECOND
    return window.site, start, window.late, window.part, window.flows["source_row"].to_pylist()


def test_a_window_closes_when_the_watermark_reaches_its_end() -> None:
    windower = Windower(MINUTE)
    assert windower.add(batch(("a", 5), ("a", 59))).closed == ()
    assert windower.add(batch(("a", 69.9), first=2)).closed == ()
    (window,) = windower.add(batch(("a", 70), first=3)).closed
    assert shape(window) == ("a", 0, False, 0, [0, 1])
    assert (window.start_us, window.end_us) == (0, 60 * SECOND)


def test_order_inside_a_window_is_the_order_of_arrival() -> None:
    windower = Windower(MINUTE)
    step = windower.add(batch(("a", 50), ("a", 61), ("a", 10), ("a", 62), ("a", 30), ("a", 130)))
    assert [shape(w) for w in step.closed] == [("a", 0, False, 0, [0, 2, 4]), ("a", 60, False, 0, [1, 3])]


def test_a_late_flow_comes_out_in_a_late_window_of_its_own() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 5), ("a", 75)))
    step = windower.add(batch(("a", 6), ("a", 7), ("a", 140), first=2))
    assert step.late == 2
    assert [shape(w) for w in step.closed] == [("a", 0, True, 0, [2, 3]), ("a", 60, False, 0, [1])]


def test_sites_have_their_own_windows_and_watermarks() -> None:
    windower = Windower(MINUTE)
    step = windower.add(batch(("a", 5), ("b", 6), ("a", 100)))
    assert [shape(w) for w in step.closed] == [("a", 0, False, 0, [0])]
    assert [shape(w) for w in windower.finish().closed] == [("a", 60, False, 0, [2]), ("b", 0, False, 0, [1])]


def test_a_window_that_reaches_max_flows_is_cut_into_parts() -> None:
    windower = Windower(WindowSettings(length_us=60 * SECOND, lateness_us=0, max_flows=2))
    step = windower.add(batch(*[("a", 1)] * 5))
    assert [shape(w) for w in step.closed] == [("a", 0, False, 0, [0, 1]), ("a", 0, False, 1, [2, 3])]
    assert [shape(w) for w in windower.finish().closed] == [("a", 0, False, 2, [4])]


def test_flows_without_a_time_go_by_count() -> None:
    windower = Windower(WindowSettings(count=2))
    step = windower.add(batch(("a", None), ("a", 5), ("a", None), ("a", None)))
    assert [shape(w) for w in step.closed] == [("a", None, False, 0, [0, 2])]
    assert [shape(w) for w in windower.finish().closed] == [("a", None, False, 1, [3]), ("a", 0, False, 0, [1])]


def test_count_windows_ignore_time() -> None:
    windower = Windower(WindowSettings(by="count", count=2))
    step = windower.add(batch(("a", 900), ("a", 5), ("a", None)))
    assert [shape(w) for w in step.closed] == [("a", None, False, 0, [0, 1])]


def test_a_quiet_live_source_lets_windows_close_by_its_clock() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 5), now=1000))  # the exporter's clock is 995 s behind: only the difference counts
    assert windower.add(batch(now=1064)).closed == ()
    (window,) = windower.add(batch(now=1066)).closed
    assert shape(window) == ("a", 0, False, 0, [0])


def test_a_quiet_site_closes_beside_a_busy_one() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 5), ("b", 5), now=1000))
    step = windower.add(batch(("b", 20), first=2, now=1070))
    assert [shape(w) for w in step.closed] == [("a", 0, False, 0, [0])]


def test_an_exporter_with_a_slow_clock_does_not_hold_up_the_site_it_is_left_alone_with() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 600), ("a", 5), now=1000))  # the second exporter is ten minutes behind
    (late,) = windower.add(batch(("a", 60), first=2, now=1079)).closed
    step = windower.add(batch(("a", 62), first=3, now=1080))  # 590 + 80 - 10: as in silence, but 10 s behind
    assert (late.late, step.late) == (True, 1)
    assert [shape(w) for w in step.closed] == [("a", 60, True, 1, [3]), ("a", 600, False, 0, [0])]


def test_flows_a_little_out_of_order_leave_the_watermark_to_the_flows() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 65), now=1000))
    assert windower.add(batch(("a", 58), first=1, now=1004)).closed == ()
    assert windower.add(batch(("a", 63), first=2, now=1008)).closed == ()
    (window,) = windower.add(batch(("a", 70), first=3, now=1010)).closed
    assert shape(window) == ("a", 0, False, 0, [1])


def test_a_file_without_a_clock_never_closes_on_an_empty_batch() -> None:
    windower = Windower(MINUTE)
    windower.add(batch(("a", 5)))
    assert windower.add(batch()).closed == ()


def test_only_positions_whose_flows_are_all_out_are_committed() -> None:
    windower = Windower(MINUTE)
    assert windower.add(batch(("a", 5), position=1)).commit.position is None
    assert windower.add(batch(("a", 65), ("a", 6), first=1, position=2)).commit.position is None
    assert windower.add(batch(("a", 71), first=3, position=3)).commit.position == 1
    assert windower.finish().commit.position == 3


def test_before_1970_windows_still_start_on_their_multiples() -> None:
    (window,) = Windower(MINUTE).add(batch(("a", -1), ("a", 90))).closed
    assert window.start_us == -60 * SECOND


flows_strategy = st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.integers(0, 40)))
streams = st.lists(
    st.tuples(st.lists(flows_strategy, max_size=12), st.one_of(st.none(), st.integers(0, 60))), max_size=10
)
cuts = st.builds(
    WindowSettings,
    by=st.sampled_from(["time", "time", "time", "count"]),
    length_us=st.just(7 * SECOND),
    lateness_us=st.integers(0, 8).map(lambda s: s * SECOND),
    max_flows=st.integers(1, 6),
    count=st.integers(1, 5),
)


def batches_of(stream: list[tuple[list[tuple[str, int | None]], int | None]]) -> list[FlowBatch]:
    made, rows = [], 0
    for number, (flows, now) in enumerate(stream, 1):
        made.append(batch(*flows, first=rows, position=number, now=now))
        rows += len(flows)
    return made


def run(windower: Windower, batches: list[FlowBatch]) -> tuple[list[list[Window]], list[Commit]]:
    steps = [windower.add(b) for b in batches]
    last = windower.finish()
    return [list(s.closed) for s in [*steps, last]], [s.commit for s in [*steps, last]]


def keyed(windows: list[Window]) -> dict[tuple[str, float | None, bool, int], list[int]]:
    table = {}
    for window in windows:
        *key, rows = shape(window)
        assert tuple(key) not in table, "two windows with one key"
        table[tuple(key)] = rows
    return table


@given(streams, cuts)
@settings(deadline=None, max_examples=150)
def test_every_flow_is_in_exactly_one_window_of_its_own_site_and_time(stream: list, cut: WindowSettings) -> None:
    batches = batches_of(stream)
    windows = [w for closed in run(Windower(cut), batches)[0] for w in closed]
    keyed(windows)
    rows = [row for w in windows for row in w.flows["source_row"].to_pylist()]
    assert sorted(rows) == list(range(sum(map(len, batches))))
    for window in windows:
        assert window.flows["site"].unique().to_pylist() == [window.site]
        assert len(window) <= (cut.count if window.start_us is None else 10**9 if window.late else cut.max_flows)
        assert window.flows["source_row"].to_pylist() == sorted(window.flows["source_row"].to_pylist())
        if window.start_us is not None:
            ends = window.flows["ts_end"].cast(pa.int64()).to_numpy()
            assert window.start_us <= ends.min()
            assert ends.max() < window.end_us


@given(streams, cuts)
@settings(deadline=None, max_examples=150)
def test_after_a_crash_at_any_point_the_windows_equal_those_of_an_uninterrupted_run(
    stream: list, cut: WindowSettings
) -> None:
    batches = batches_of(stream)
    emitted, commits = run(Windower(cut), batches)
    whole = keyed([w for closed in emitted for w in closed])
    for crash in range(len(batches)):
        commit = commits[crash]
        before = keyed([w for closed in emitted[: crash + 1] for w in closed])
        replayed = [b for b in batches if b.position > (commit.position or 0)]
        after = keyed([w for closed in run(Windower(cut, commit), replayed)[0] for w in closed])
        assert not before.keys() & after.keys(), "a window came out twice"
        assert before | after == whole


@given(streams, cuts, st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_windows_written_but_not_committed_come_again_the_same(stream: list, cut: WindowSettings, crash: int) -> None:
    batches = batches_of(stream)
    emitted, commits = run(Windower(cut), batches)
    whole = keyed([w for closed in emitted for w in closed])
    commit = commits[min(crash, len(batches) - 1)] if batches else Commit(None)
    replayed = [b for b in batches if b.position > (commit.position or 0)]
    after = keyed([w for closed in run(Windower(cut, commit), replayed)[0] for w in closed])
    assert after.items() <= whole.items()


def test_a_commit_is_plain_enough_for_json() -> None:
    windower = Windower(WindowSettings(length_us=60 * SECOND, lateness_us=0, max_flows=2))
    commit = windower.add(batch(*[("a", 1)] * 3, position=1)).commit
    assert commit.sites["a"].parts == {0: (1, 2)}
    assert commit.position is None


def test_batches_of_another_schema_are_refused_with_the_column_named() -> None:
    table = batch(("a", 1)).table
    with pytest.raises(Exception, match="column 0 is `ts_end`, expected `ts_start`"):
        FlowBatch(table.drop_columns(["ts_start"]))
