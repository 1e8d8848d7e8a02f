"""What drift leaves of a p-value: the bucket of alert groups and the customs of pairs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline import drift
from eddyline.drift import ALPHA, EMBARGO, FREE, MORE, QUIET, Adjusted, Drift
from eddyline.habits import Conversations, HabitColumns, Habits
from tests.habits import Flow, grouped

FLAG, USUAL = 1e-5, 0.5
AB, CD = Flow("a", "b"), Flow("c", "d")
KNOWN = 1_000.0  # windows in which the habits know a pair: what it does once is no custom


def said_of(found: Conversations, known: float = 0.0) -> HabitColumns:
    """What an empty memory says of a window, but that it knows every pair since `known` windows."""
    return replace(Habits.empty(64).read(found, 0), known=np.full(len(found.source), known))


def step(
    state: Drift, found: Conversations, p0: Sequence[float], now: int, known: float = KNOWN
) -> tuple[Adjusted, Drift]:
    """One window: what it is told, and the state after it."""
    before = np.array(p0, float)
    columns = said_of(found, known)
    adjusted = state.adjust(before, found, columns, now)
    return adjusted, state.after(before, adjusted, found, columns, now)


def flooded(state: Drift, found: Conversations, minutes: range, known: float = KNOWN) -> Drift:
    for now in minutes:
        _, state = step(state, found, [FLAG] * len(found.of_flow), now, known)
    return state


def test_where_nothing_has_happened_p_stays_as_it_is() -> None:
    p0 = [1e-9, ALPHA, 0.3, 1.0]
    adjusted, after = step(Drift.empty(10), grouped(AB, AB, CD, Flow("e", "f")), p0, 1)
    assert adjusted.p.tolist() == p0
    assert adjusted.factor == 1
    assert not adjusted.custom.any()
    assert step(Drift.empty(10), grouped(AB), [ALPHA * 1.0001], 1)[1].level == 0  # no alert
    assert after.level == 1 - ALPHA * 3  # three sources were active, two pairs alerted at once


@pytest.mark.parametrize(("level", "factor"), [(0, 1), (FREE, 1), (FREE + 1, MORE), (FREE + 2, MORE**2)])
def test_each_group_beyond_the_free_ones_raises_what_must_be_proved(level: float, factor: float) -> None:
    state = Drift.empty(10)
    state.level = level
    adjusted, _ = step(state, grouped(AB, CD), [1e-6, 0.6], 1)
    assert adjusted.factor == factor
    np.testing.assert_allclose(adjusted.p, [1e-6 * factor, min(0.6 * factor, 1)])


def test_a_day_of_one_flood_is_one_group_that_leaks_away_and_raises_nobody_elses_p() -> None:
    flood, state, highest, seen = grouped(AB, AB, AB, CD), Drift.empty(2), 0.0, 0
    for now in range(1, 1_441):
        adjusted, state = step(state, flood, [FLAG] * 3 + [USUAL], now)
        assert adjusted.p[3] == USUAL
        assert adjusted.factor == 1
        highest = max(highest, state.level)
        seen += adjusted.p[0] <= ALPHA
    assert highest == 1 - ALPHA * 2
    assert state.level == 0
    assert seen >= EMBARGO
    adjusted, _ = step(state, grouped(CD, Flow("x", "y")), [FLAG, 2e-3], 1_441)
    assert adjusted.p.tolist() == [FLAG, 2e-3]


@pytest.mark.parametrize(
    "flows",
    [
        [Flow("a", f"h{n}") for n in range(50)],  # a scan
        [Flow(f"h{n}", "b") for n in range(50)],  # many sources, one victim
        [Flow(f"h{n}", f"h{n + 1}") for n in range(50)],  # a worm's chain
    ],
    ids=["scan", "sources", "chain"],
)
def test_what_shares_an_end_is_one_group_however_long_it_lasts(flows: list[Flow]) -> None:
    state = flooded(Drift.empty(0), grouped(*flows), range(1, 100))
    assert state.level == 1


def test_a_victim_of_ever_new_sources_is_one_group() -> None:
    state = Drift.empty(0)
    for now in range(1, 60):
        _, state = step(state, grouped(*[Flow(f"{now}-{n}", "b") for n in range(20)]), [FLAG] * 20, now)
    assert state.level == 1


def test_more_spoofed_sources_than_a_table_holds_are_still_one_group() -> None:
    """Each window has three times as many new sources as fit; whoever is forgotten, it must not be the victim."""
    for victim in ("b", "victim", "10.0.0.1", "10.0.0.2", "192.0.2.7"):
        state = Drift.empty(0, limit=512)
        for now in range(1, 6):
            flood = grouped(*[Flow(f"{now}-{n}", victim) for n in range(1_500)])
            _, state = step(state, flood, [FLAG] * 1_500, now)
        assert state.alerted.size <= 512
        assert state.level == 1, victim


def test_ten_unrelated_bursts_are_ten_groups_at_most() -> None:
    state = Drift.empty(10)
    for number in range(10):
        burst = grouped(*[Flow(f"s{number}", f"t{number}")] * 30)
        _, state = step(state, burst, [FLAG] * 30, number)
    np.testing.assert_allclose(state.level, 10 - 10 * ALPHA)
    adjusted, _ = step(state, grouped(CD), [1e-4], 11)
    np.testing.assert_allclose(adjusted.p, 1e-4 * MORE ** max(state.level - FREE, 0))


def test_the_bucket_holds_no_more_than_its_full() -> None:
    state = Drift.empty(0)
    for number in range(40):
        _, state = step(state, grouped(Flow(f"s{number}", f"t{number}")), [1e-9], number)
    assert state.level == drift._FULL
    assert step(state, grouped(AB), [1e-9], 50)[0].factor == MORE ** (drift._FULL - FREE)


@pytest.mark.parametrize(("pause", "groups"), [(QUIET, 1), (QUIET + 1, 2)])
def test_a_host_that_was_quiet_for_an_hour_opens_a_new_group(pause: int, groups: int) -> None:
    state = flooded(Drift.empty(0), grouped(AB), range(1, 4))
    _, state = step(state, grouped(Flow("a", "x")), [FLAG], 3 + pause)
    assert state.level == groups


def test_both_ends_must_have_been_quiet() -> None:
    state = flooded(Drift.empty(0), grouped(AB, CD), range(1, 2))
    for flow in (Flow("a", "new"), Flow("newer", "b"), Flow("d", "c"), Flow("a", "d")):
        _, state = step(state, grouped(flow), [FLAG], 2)
    assert state.level == 1
    _, state = step(state, grouped(Flow("x", "y")), [FLAG], 2)
    assert state.level == 2


def test_spoofed_sources_do_not_drain_the_bucket() -> None:
    """200 sources a window, where three are usual: it leaks as if three were active."""
    state = Drift.empty(3)
    state.level = 8.0
    for now in range(1, 11):
        _, state = step(state, grouped(*[Flow(f"{now}-{n}", "b") for n in range(200)]), [0.2] * 200, now)
    np.testing.assert_allclose(state.level, 8 - 10 * 3 * ALPHA)


def test_few_sources_leak_less_and_never_below_empty() -> None:
    state = Drift.empty(3)
    state.level = 1.5 * ALPHA
    levels = [(state := step(state, grouped(AB), [USUAL], now)[1]).level for now in (1, 2)]
    np.testing.assert_allclose(levels, [0.5 * ALPHA, 0])


def test_the_embargo_holds_to_the_minute() -> None:
    """Strange in minute 100: the pair's custom after minute 100 + EMBARGO has been seen, and not before."""
    found = grouped(AB)
    _, state = step(Drift.empty(1), found, [FLAG], 100)
    for now in range(101, 100 + EMBARGO + 1):
        assert state.adjust(np.array([FLAG]), found, said_of(found), now).p.tolist() == [FLAG]
        _, state = step(state, found, [USUAL], now)
    adjusted = state.adjust(np.array([FLAG]), found, said_of(found), 101 + EMBARGO)
    np.testing.assert_allclose(adjusted.p, 1 / 5, rtol=1e-3)


def test_a_custom_is_the_share_of_the_pairs_minutes_that_were_as_strange() -> None:
    """Ten strange minutes of a pair known in 86 more: 10 / (10 + 86 + 4), once they have been visible long enough."""
    state = flooded(Drift.empty(1), grouped(AB), range(1, 11))
    _, state = step(state, grouped(CD), [USUAL], 10 + EMBARGO)
    adjusted, _ = step(state, grouped(AB, Flow("a", "x"), Flow("x", "b"), Flow("b", "a")), [FLAG] * 4, 11 + EMBARGO, 86)
    np.testing.assert_allclose(adjusted.custom, [0.1, 0, 0, 0], rtol=1e-3)  # of the pair alone, never of its ends
    np.testing.assert_allclose(adjusted.p, [0.1, FLAG, FLAG, FLAG], rtol=1e-3)


def test_less_than_two_percent_of_its_minutes_is_no_custom() -> None:
    state = flooded(Drift.empty(1), grouped(AB), range(1, 11))
    _, state = step(state, grouped(CD), [USUAL], 10 + EMBARGO)
    for known, custom in ((485.0, 10 / 499), (487.0, 0)):
        adjusted, _ = step(Drift.of(state.parts()), grouped(AB), [FLAG], 11 + EMBARGO, known)
        np.testing.assert_allclose(adjusted.custom, [custom], rtol=1e-3)


def test_what_is_stranger_than_a_pairs_customs_is_none_of_them() -> None:
    state = Drift.empty(1)
    for now, p0 in ((1, 1e-3), (2, 1e-3), (3, 1e-5)):
        _, state = step(state, grouped(AB), [p0], now)
    _, state = step(state, grouped(CD), [USUAL], 3 + EMBARGO)
    flows = grouped(*[AB] * 4)
    adjusted, _ = step(state, flows, [1e-3, 1e-5, 1e-7, 0.02], 4 + EMBARGO, known=0)
    np.testing.assert_allclose(adjusted.custom, [3 / 7, 1 / 7, 0, 0], rtol=1e-3)
    np.testing.assert_allclose(adjusted.p, [3 / 7, 1 / 7, 1e-7, 0.02], rtol=1e-3)


def test_a_minute_counts_once_by_its_strangest_flow() -> None:
    _, state = step(Drift.empty(1), grouped(*[AB] * 50), [FLAG] + [5e-3] * 49, 1)
    _, state = step(state, grouped(CD), [USUAL], 1 + EMBARGO)
    adjusted, _ = step(state, grouped(AB), [FLAG], 2 + EMBARGO, known=0)
    np.testing.assert_allclose(adjusted.custom, [1 / 5], rtol=1e-3)


def test_customs_fade_too() -> None:
    _, state = step(Drift.empty(1), grouped(AB), [FLAG], 1)
    _, state = step(state, grouped(CD), [USUAL], 1 + EMBARGO)
    adjusted, _ = step(state, grouped(AB), [FLAG], 1 + EMBARGO + 10_000, known=0)
    np.testing.assert_allclose(adjusted.custom, [np.exp(-1) / (np.exp(-1) + 4)], rtol=1e-3)


def test_a_flood_of_strange_pairs_never_becomes_a_custom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "_WAITING", 20)
    flood = grouped(*[Flow("a", f"h{n}") for n in range(21)])
    _, state = step(Drift.empty(1), flood, [FLAG] * 21, 1)
    _, state = step(state, flood, [USUAL] * 21, 1 + EMBARGO)
    assert not step(state, flood, [FLAG] * 21, 2 + EMBARGO, known=0)[0].custom.any()


Past: TypeAlias = list[tuple[Conversations, np.ndarray, int]]


def busy(seed: int, minutes: int) -> tuple[Drift, Past]:
    """A state that has seen bursts, customs and all, and the windows that led to it."""
    rng, state, seen = np.random.default_rng(seed), Drift.empty(4), []
    now = 0
    for _ in range(minutes):
        now += int(rng.choice([1, 1, 1, 30, 200]))
        flows = [Flow(f"h{rng.integers(9)}", f"h{rng.integers(9)}") for _ in range(int(rng.integers(1, 12)))]
        p0 = np.exp(-rng.exponential(4, len(flows)))
        found = grouped(*flows)
        _, state = step(state, found, p0.tolist(), now, known=3)
        seen.append((found, p0, now))
    return state, seen


@given(st.integers(0, 2**32 - 1), st.floats(0, 12))
@settings(max_examples=10, deadline=None)
def test_p_is_never_below_p0_and_never_above_one(seed: int, level: float) -> None:
    state, seen = busy(seed, 30)
    state.level = level
    for found, p0, _ in seen:
        adjusted, _ = step(Drift.of(state.parts()), found, p0.tolist(), seen[-1][2] + 1, known=3)
        assert (adjusted.p >= p0).all()
        assert (adjusted.p <= 1).all()
        np.testing.assert_array_equal(adjusted.p, np.clip(np.maximum(adjusted.factor * p0, adjusted.custom), 0, 1))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_permuting_rows_inside_a_window_changes_nothing(seed: int) -> None:
    state, _ = busy(seed, 25)
    rng = np.random.default_rng(seed)
    flows = [Flow(f"h{rng.integers(9)}", f"h{rng.integers(9)}") for _ in range(30)]
    p0, order = np.exp(-rng.exponential(4, 30)), rng.permutation(30)
    mixed, other = grouped(*[flows[row] for row in order]), Drift.of(state.parts())
    said, state = step(state, grouped(*flows), p0.tolist(), 9_000, known=3)
    again, other = step(other, mixed, p0[order].tolist(), 9_000, known=3)
    np.testing.assert_array_equal(again.p, said.p[order])
    np.testing.assert_array_equal(again.custom, said.custom[order])
    assert other.level == state.level
    for name in ("alerted", "customs"):
        first, second = getattr(state, name), getattr(other, name)
        place = second.find(first.keys[: first.size])
        assert first.size == second.size
        np.testing.assert_array_equal(second.last[place], first.last[: first.size])
        np.testing.assert_array_equal(second.rows[place], first.rows[: first.size])
    for (when, pairs, bins), (then, others, places) in zip(state.waiting, other.waiting, strict=True):
        assert when == then
        assert dict(zip(pairs.tolist(), bins.tolist(), strict=True)) == dict(
            zip(others.tolist(), places.tolist(), strict=True)
        )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_a_restart_from_its_parts_changes_not_a_bit_of_what_follows(seed: int) -> None:
    state, seen = busy(seed, 20)
    other = Drift.of(state.parts())
    for found, p0, now in seen:
        later = now + seen[-1][2] + 1
        said, state = step(state, found, p0.tolist(), later, known=3)
        again, other = step(other, found, p0.tolist(), later, known=3)
        np.testing.assert_array_equal(said.p, again.p)
    parts = state.parts()
    for name, values in other.parts().items():
        assert values.dtype == parts[name].dtype
        np.testing.assert_array_equal(values, parts[name], err_msg=name)


def test_the_parts_of_nothing_are_read_back_and_a_missing_one_is_an_error() -> None:
    parts = Drift.empty(7.5).parts()
    read = Drift.of(parts)
    assert (read.sources, read.level, read.waiting, read.alerted.size) == (7.5, 0, (), 0)
    del parts["bucket"]
    with pytest.raises(KeyError, match="bucket"):
        Drift.of(parts)


@pytest.mark.parametrize("p0", [np.finfo(float).tiny, 1e-300])
def test_the_smallest_p_is_as_good_as_any(p0: float) -> None:
    _, state = step(Drift.empty(1), grouped(AB), [p0], 1)
    _, state = step(state, grouped(CD), [USUAL], 1 + EMBARGO)
    adjusted, _ = step(state, grouped(AB), [p0], 2 + EMBARGO, known=0)
    np.testing.assert_allclose(adjusted.custom, [1 / 5], rtol=1e-3)
