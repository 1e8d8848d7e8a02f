"""What the memory says of a window, by hand.

Lessons wait one window, so the memory that reads minute 3 knows minute 1, one window faded: f = exp(-1/10,000).
"""

import numpy as np
import pytest

from eddyline.graphs import FlowGraph, columns_of
from eddyline.habits import TAU, HabitColumns, Habits
from tests.habits import Flow, live, lived, window

F = float(np.exp(-1 / TAU))
AB, AC = Flow("a", "b"), Flow("a", "c")


def seen(habits: Habits, *flows: Flow, minute: int = 3) -> tuple[FlowGraph, HabitColumns]:
    graph, _ = live(habits, window(flows, minute))
    return graph, columns_of(graph)


def test_an_empty_memory_claims_little() -> None:
    _, found = seen(Habits.empty(), AB, AC.silent)
    for nothing in (found.known, found.host_known, found.service_known, found.port_known, found.size_known):
        assert not nothing.any()
    for chance in (found.meets, found.tries, found.silence):
        np.testing.assert_allclose(chance, 0.5)
    np.testing.assert_allclose(found.sent_usual, np.broadcast_to([0.0, 1.0], found.sent_usual.shape))
    np.testing.assert_allclose(found.size_mean, 0)
    np.testing.assert_allclose(found.size_sd, 4)


def test_reading_changes_nothing() -> None:
    habits = lived([AB], [AB, AC])
    before = habits.parts()
    habits.read(seen(Habits.empty(), AB, Flow("new", "newer"))[0].conversations(), 900)
    for name, values in habits.parts().items():
        np.testing.assert_array_equal(values, before[name])


def test_counts_come_with_new_peers_and_the_widest_spread() -> None:
    """Columns: flows, peers, ports, unanswered, bytes, new peers, spread; a knows b and not c."""
    _, found = seen(lived([AB], []), AB, Flow("a", "b", 80).silent, AC)
    np.testing.assert_allclose(found.sent[0], np.log1p([3, 2, 2, 1, 3_000, 1, 2]), rtol=1e-6)
    np.testing.assert_allclose(found.received[1], np.log1p([2, 1, 2, 1, 2_000, 0, 1]), rtol=1e-6)
    np.testing.assert_allclose(found.received[2], np.log1p([1, 1, 1, 0, 1_000, 1, 1]), rtol=1e-6)
    np.testing.assert_allclose(found.of_pair, np.log1p([[2, 2], [1, 1]]))
    np.testing.assert_allclose(found.spread, np.log1p([[2, 1], [1, 1], [2, 1]]))


def test_a_pair_is_known_in_either_direction() -> None:
    _, found = seen(lived([AB], []), AB, Flow("b", "a", 50_000, src_port=443), AC)
    np.testing.assert_allclose(found.known, [F, F, 0])


def test_the_chance_to_meet_somebody_new_by_hand() -> None:
    """One new pair of one: the site has r = (f + .5) / (f + 1), about 3/4, a and b (f + 2 r) / (f + 2), c has r."""
    _, found = seen(lived([AB], []), AB, AC)
    site = (F + 0.5) / (F + 1)
    own = (F + 2 * site) / (F + 2)
    np.testing.assert_allclose(found.meets, [own, own], rtol=1e-6)  # the larger of both ends
    np.testing.assert_allclose(found.meets, [0.8333, 0.8333], atol=1e-3)
    np.testing.assert_allclose(found.tries, [own, own], rtol=1e-6)


def test_a_meeting_is_no_stranger_than_to_the_end_that_meets_more_new_hosts() -> None:
    """a and b always met each other, d somebody new in half of its minutes: only from d's side is b no surprise."""
    minutes = [[AB, Flow("d", f"new{minute}" if minute % 2 else "old")] for minute in range(101)]
    _, found = seen(lived(*minutes), AC, Flow("d", "b"), minute=102)
    site = 54.5 / 201  # in 100 windows known: pairs new and all; each was new twice, for the second knew not the first
    own, often = (2 + 2 * site) / 102, (52 + 2 * site) / 102
    np.testing.assert_allclose(found.meets, [max(own, site), often], rtol=0.03)


def test_hosts_are_pulled_to_the_site_by_hand() -> None:
    """a had 1 flow, c had 3: ln 2 and ln 4. Site mean 1.5 ln 2, squares ln2^2 / 2; a is pulled by two windows."""
    _, found = seen(lived([AB, *[Flow("c", "d")] * 3], []), AB, Flow("new", "b"))
    near, site = np.log(2), 1.5 * np.log(2)
    spread = (np.log(2) ** 2 / 2 + 2) / (2 + 2)
    own = (near + 2 * site) / 3
    around = ((near - own) ** 2 + 2 * (spread + (own - site) ** 2)) / 3
    np.testing.assert_allclose(found.sent_usual[0, 0], [own, np.sqrt(around)], rtol=1e-3)
    np.testing.assert_allclose(found.sent_usual[1, 0], [site, np.sqrt(spread)], rtol=1e-3)
    np.testing.assert_allclose(found.sent_usual[0, 0], [0.924, 0.632], atol=1e-3)


def test_a_habit_of_hundred_equal_windows_is_as_sure_as_the_floor_allows() -> None:
    _, found = seen(lived(*[[AB, AB]] * 102), AB, minute=103)
    np.testing.assert_allclose(found.sent_usual[0, 0], [np.log(3), 0.3], rtol=1e-4)
    np.testing.assert_allclose(found.pair_usual[0, 0], [np.log(3), 0.3], rtol=1e-4)


def test_windows_with_a_service_and_with_a_port_are_counted() -> None:
    _, found = seen(lived([AB, AB], [AB], [AC]), AB, Flow("a", "b", 80), Flow("c", "b"), AC, minute=4)
    np.testing.assert_allclose(found.service_known, [2, 0, 2, 0], rtol=1e-3)  # of the destination
    np.testing.assert_allclose(found.port_known, [2, 0, 0, 2], rtol=1e-3)  # of the source
    np.testing.assert_allclose(found.host_known[[0, 2]], [[2, 0], [0, 2]], rtol=1e-3)  # a c b


def test_the_chance_of_silence_is_narrowed_from_the_site_to_the_pair() -> None:
    """One answered flow is known at all five levels: 1/2 -> 1/4 -> 1/6 -> 1/9 -> 2/27 -> 4/81."""
    _, found = seen(lived([AB], []), AB, AB.silent, Flow("a", "b", 80).silent, Flow("x", "y").silent)
    np.testing.assert_allclose(found.silence[:2], 4 / 81, rtol=1e-3)
    np.testing.assert_allclose(found.silence[2], 1 / 4, rtol=1e-3)  # only the site is known
    np.testing.assert_allclose(found.silence[3], 1 / 6, rtol=1e-3)  # and the service


def test_a_silent_service_is_expected_to_be_silent() -> None:
    _, found = seen(lived(*[[AB.silent]] * 60), AB.silent, AB, minute=61)
    assert (found.silence > 0.97).all()
    assert (found.silence <= 0.999).all()


def narrowed(levels: list[tuple[float, float, float]]) -> tuple[float, float]:
    """Mean and deviation of one size from (n, mean, squares) by level, coarsest first: the recipe's section 1.2."""
    mean, variance = 0.0, 16.0
    for level, (n, seen_mean, square) in enumerate(levels):
        if not n:
            continue
        pull = 2.0 if level else 0.1
        own = (n * seen_mean + pull * mean) / (n + pull)
        variance = (square + n * (seen_mean - own) ** 2 + pull * (variance + (own - mean) ** 2)) / (n + pull)
        mean = own
    return mean, max(np.sqrt(variance), 0.3)


def test_sizes_are_narrowed_from_the_site_to_the_pair() -> None:
    """a to b sent e^2 - 1 and e^4 - 1 bytes, c to b e^6 - 1: ln(1 + value) is 2, 4 and 6."""
    sent = [round(np.expm1(one)) for one in (2, 4, 6)]
    two, four, six = np.log1p(sent)
    first = [Flow("a", "b", sent=sent[0]), Flow("a", "b", sent=sent[1]), Flow("c", "b", sent=sent[2])]
    _, found = seen(lived(first, []), AB, Flow("c", "x"), Flow("x", "y", 80))
    everyone = (3, (two + four + six) / 3, float(np.var([two, four, six]) * 3))
    both = (2, (two + four) / 2, float(np.var([two, four]) * 2))
    one = (1, six, 0.0)
    wants = [
        narrowed([everyone, everyone, both, everyone, both]), narrowed([everyone, everyone, one]), narrowed([everyone])
    ]  # fmt: skip
    np.testing.assert_allclose(np.stack([found.size_mean[:, 0], found.size_sd[:, 0]], 1), wants, rtol=1e-3)
    np.testing.assert_allclose(found.size_known, [[3, 3, 2, 3, 2], [3, 3, 1, 0, 0], [3, 0, 0, 0, 0]], rtol=1e-3)


def test_sizes_of_unanswered_flows_stand_apart() -> None:
    _, found = seen(lived([AB], []), AB.silent)
    assert not found.size_known.any()
    np.testing.assert_allclose(found.size_sd, 4)


@pytest.mark.parametrize("after", [10_000, 30_000])
def test_what_is_not_seen_again_fades(after: int) -> None:
    _, found = seen(lived([AB], []), AB, minute=2 + after)
    np.testing.assert_allclose(found.known, np.exp(-after / TAU), rtol=1e-3)
    np.testing.assert_allclose(found.host_known[0, 0], np.exp(-after / TAU), rtol=1e-3)
