"""A memory as a whole: when it learns, that order within a window is nothing to it, and that it survives a restart."""

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from eddyline.detectors.habits.terms import surprises
from eddyline.flows import FlowBatch
from eddyline.graphs import FlowGraph, columns_of
from eddyline.habits import FLAGGED, LAG, HabitColumns, Habits
from eddyline.habits.keys import WindowKeys
from eddyline.habits.reading import MET
from eddyline.scoring import remembered
from eddyline.windows import Window, Windower, WindowSettings
from tests.habits import MINUTE_US, Flow, live, lived, some_flows, window

AB, AC = Flow("a", "b"), Flow("a", "c")


def stream(seed: int, windows: int) -> list[Window]:
    rng = np.random.default_rng(seed)
    return [window(some_flows(rng, int(rng.integers(1, 40))), minute) for minute in range(1, windows + 1)]


def per_flow(graph: FlowGraph) -> dict[str, np.ndarray]:
    """Everything that is said of each flow, in the window's order."""
    found, columns = graph.conversations(), columns_of(graph)
    pair = found.pair[found.of_flow]
    ends = {"sent": found.source[pair], "received": found.target[pair], "pair": pair, "": found.of_flow}
    of = {
        "sent_usual": "sent",
        "received_usual": "received",
        "of_pair": "pair",
        "pair_usual": "pair",
        "known": "pair",
        "meets": "pair",
        "sent": "sent",
        "received": "received",
    }
    said = {
        field.name: getattr(columns, field.name)[ends[of.get(field.name, "")]]
        for field in fields(HabitColumns)
        if field.name not in ("keys", "host_known", "probes")
    }
    said["host_known"] = np.stack([columns.host_known[ends["sent"], 0], columns.host_known[ends["received"], 1]], 1)
    return said | {
        "terms": surprises(found, columns),
        "sizes": found.sizes,
        "unanswered": found.unanswered[found.of_flow],
    }


def rows_by_key(habits: Habits) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    found = {}
    for name, table in habits.tables.items():
        parts = table.parts()
        order = np.argsort(parts["keys"])
        found[name] = parts["keys"][order], parts["rows"][order]
    return found


def test_a_window_is_scored_with_the_memory_as_it_was_two_windows_before() -> None:
    assert LAG == 1
    habits, known = Habits.empty(), []
    for minute, flows in enumerate([[AB], [AB], [AB], [AC], [AC], [AC]], 1):
        graph, habits = live(habits, window(flows, minute))
        known.append(round(float(columns_of(graph).known[0]), 2))
    assert known == [0, 0, 1, 0, 0, 1]
    assert habits.windows == 6
    assert habits.now == 6


def test_an_attack_is_not_learned_however_long_it_lasts() -> None:
    """A flood of flagged flows on a known pair: its counts stay as they were; only that they met is known better."""
    usual, flood = [AB, AC], [AB] * 400
    flooded = lived(*[usual] * 20)
    calm = Habits.of(flooded.parts())
    for minute in range(21, 60):
        _, flooded = live(flooded, window(flood, minute), [0.0] * 400)
        _, calm = live(calm, window([], minute))
    after, before = (columns_of(live(habits, window(usual, 60))[0]) for habits in (flooded, calm))
    for name in ("sent_usual", "received_usual", "pair_usual", "size_mean", "size_sd", "silence", "meets", "tries"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(
        after.known - before.known, [38 * FLAGGED, 0], rtol=0.01, atol=1e-5
    )  # the last one waits


def test_a_flagged_meeting_of_strangers_becomes_known_more_slowly() -> None:
    habits = Habits.empty()
    for minute in range(1, 8):
        _, habits = live(habits, window([AB], minute), [0.0])
    table = habits.tables["pairs"]
    pair = WindowKeys.of(live(habits, window([AB], 8))[0].conversations()).pair
    np.testing.assert_allclose(table.weights(table.find(pair), 8, MET), 7 * FLAGGED, rtol=1e-3)
    np.testing.assert_allclose(table.weights(table.find(pair), 8), 0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_order_of_flows_within_a_window_is_nothing_to_the_memory(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = Habits.empty(), Habits.empty()
    for past in stream(seed, 5):
        _, one = live(one, past)
        _, other = live(other, past)
    for window_ in stream(seed + 1, 3):
        order = rng.permutation(len(window_))
        shuffled = Window(window_.site, window_.start_us, window_.end_us, 0, False, window_.flows.take(pa.array(order)))
        weight = rng.integers(0, 2, len(window_)).astype(float)
        graph, one = live(one, window_, weight.tolist())
        mixed, other = live(other, shuffled, weight[order].tolist())
        for (name, said), again in zip(per_flow(graph).items(), per_flow(mixed).values(), strict=True):
            np.testing.assert_allclose(again, said[order], rtol=1e-4, atol=1e-4, err_msg=name)
    for (keys, rows), (same, again) in zip(rows_by_key(one).values(), rows_by_key(other).values(), strict=True):
        np.testing.assert_array_equal(keys, same)
        np.testing.assert_allclose(again, rows, rtol=1e-4, atol=1e-4)


def test_of_the_same_memory_a_permuted_window_is_told_exactly_the_same() -> None:
    parts, one = lived(*[some_flows(np.random.default_rng(minute), 30) for minute in range(6)]).parts(), stream(9, 1)[0]
    order = np.random.default_rng(1).permutation(len(one))
    shuffled = Window(one.site, one.start_us, one.end_us, 0, False, one.flows.take(pa.array(order)))
    said, again = (per_flow(live(Habits.of(parts), window_)[0]) for window_ in (one, shuffled))
    for name, values in said.items():
        np.testing.assert_array_equal(again[name], values[order], err_msg=name)


@given(st.integers(0, 2**32 - 1), st.integers(0, 8))
@settings(max_examples=15, deadline=None)
def test_a_restart_from_its_parts_changes_not_a_bit_of_what_follows(seed: int, stop: int) -> None:
    habits = other = Habits.empty()
    for number, one in enumerate(stream(seed, 9)):
        if number == stop:
            other = Habits.of(load(save(habits.parts())))  # as they are kept: by a library that copies what lies there
        graph, habits = live(habits, one)
        if number >= stop:
            again, other = live(other, one)
            for field in fields(HabitColumns):
                if field.name not in ("keys", "probes"):  # keys are names, which no memory changes
                    said, same = (getattr(columns_of(made), field.name) for made in (graph, again))
                    np.testing.assert_array_equal(said, same, err_msg=field.name)
            said, same = (columns_of(made).probes for made in (graph, again))
            for field in fields(said):
                np.testing.assert_array_equal(getattr(said, field.name), getattr(same, field.name), err_msg=field.name)
    parts = habits.parts()
    assert parts.keys() == other.parts().keys()
    for name, values in other.parts().items():
        assert values.dtype == parts[name].dtype
        np.testing.assert_array_equal(values, parts[name], err_msg=name)


def test_parts_are_a_copy_and_carry_what_training_taught() -> None:
    habits = lived([AB], [AB])
    habits.taught = frozenset({5, 3})
    parts = habits.parts()
    kept = {name: values.copy() for name, values in parts.items()}
    live(habits, window([AC], 3))
    for name, values in parts.items():
        np.testing.assert_array_equal(values, kept[name])
    read = Habits.of(parts)
    assert (read.taught, read.now, read.windows, len(read.waiting)) == ({3, 5}, 2, 2, LAG)


@pytest.mark.parametrize("name", ["clock", "taught", "hosts/rows", "waiting 0/pairs/more"])
def test_a_missing_part_is_an_error(name: str) -> None:
    parts = lived([AB], [AB]).parts()
    del parts[name]
    with pytest.raises(KeyError):
        Habits.of(parts)


def test_no_table_outgrows_its_limit_whatever_is_scanned() -> None:
    habits = Habits.empty(2_000)
    for minute in range(1, 30):
        scan = [Flow("a", f"10.{minute}.{host // 250}.{host % 250}") for host in range(700)]
        _, habits = live(habits, window([AB, *scan], minute))
    for table in habits.tables.values():
        assert table.size <= 2_000
    graph, _ = live(habits, window([AB], 30))
    np.testing.assert_allclose(columns_of(graph).known, 28, rtol=0.01)  # a and b are still known


def test_windows_are_numbered_by_their_time_and_counted_where_they_have_none() -> None:
    habits = lived([AB], first=7)
    assert habits.number(12 * MINUTE_US, 13 * MINUTE_US) == 12
    assert habits.number(None, None) == 8


def test_a_late_window_is_numbered_on_the_same_axis() -> None:
    """Flows of minutes 100 to 102 come after minute 103 has closed; the window they form is three minutes long."""
    minutes = [window([AB], minute).flows for minute in range(100, 104)]
    times = pa.array([minute * MINUTE_US for minute in range(100, 104)], pa.timestamp("us", tz="UTC"))
    table = pa.concat_tables(minutes)
    table = table.set_column(table.schema.get_field_index("ts_end"), table.schema.field("ts_end"), times)
    windower = Windower(WindowSettings(lateness_us=0))
    first = windower.add(FlowBatch(table.slice(3))).closed
    closed = [*first, *windower.add(FlowBatch(table.slice(0, 3))).closed, *windower.finish().closed]
    late = [one for one in closed if one.late]
    assert len(late) == 1
    assert len(late[0]) == 3
    habits = lived([AB], first=103)
    _, now = remembered(late[0], habits, "cpu")
    assert 100 <= now <= 103
