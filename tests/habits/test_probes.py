"""First meetings without an answer, counted over a day."""

import numpy as np

from eddyline.detectors.habits.terms import burst
from eddyline.graphs import columns_of
from eddyline.habits import Habits
from eddyline.habits.probes import DAY
from tests.habits import Flow, live, lived, window

USUAL = Flow("a", "b")


def test_a_probe_is_a_first_meeting_without_an_answer() -> None:
    known = lived([USUAL], [])
    graph, _ = live(known, window([USUAL.silent, Flow("a", "c").silent, Flow("a", "d")], 3))
    assert columns_of(graph).probes.of.tolist() == [False, True, False]


def test_one_stranger_on_many_ports_is_one_probe() -> None:
    flows = [Flow("a", "b", port).silent for port in (22, 23, 80)]
    graph, _ = live(Habits.empty(), window([*flows, Flow("a", "c").silent], 1))
    found = columns_of(graph).probes
    assert found.sent.tolist() == [2, 0, 0]
    np.testing.assert_allclose(found.lately, np.log1p([2, 0, 0]))


def test_probes_of_a_day_add_up_by_hand() -> None:
    """One probe in minutes 1, 2 and 3; minute 5 knows all three, each faded by its age since it was learned."""
    habits = lived(*[[Flow("a", f"x{minute}").silent] for minute in (1, 2, 3)], [])
    graph, _ = live(habits, window([Flow("a", "y").silent], 5))
    # Learned in minutes 2, 3 and 4, a window after each.
    wanted = np.log1p(1 + sum(np.exp(-(5 - learned) / DAY) for learned in (2, 3, 4)))
    np.testing.assert_allclose(columns_of(graph).probes.lately[0], wanted, rtol=1e-6)


def test_flagged_probes_are_counted_and_teach_no_usual_number() -> None:
    habits = Habits.empty()
    for minute in (1, 2):
        _, habits = live(habits, window([Flow("a", f"x{minute}").silent], minute), [0.0])
    assert len(habits.tables["probes"].parts()["keys"]) == 1
    assert len(habits.tables["probing"].parts()["keys"]) == 0


def test_a_lesson_moves_the_usual_number_by_one_deviation_at_most() -> None:
    """Nothing known: mean 0, deviation 1, and half a probe's noise: a hundred probes teach sqrt(1.5), not ln 101."""
    graph, _ = live(Habits.empty(), window([Flow("a", f"x{host}").silent for host in range(100)], 1))
    found = columns_of(graph).probes
    np.testing.assert_allclose(found.lately[0], np.log(101))
    np.testing.assert_allclose(found.taught[0], np.sqrt(1.5))


def test_a_slow_scan_is_stranger_after_an_hour_and_the_hosts_other_flows_are_not() -> None:
    """A host of three hours meets one silent stranger a minute: no minute is strange, the hour is."""
    habits, strange = lived(*[[USUAL]] * 180), []
    for minute in range(181, 241):
        graph, habits = live(habits, window([USUAL, Flow("a", f"x{minute}").silent], minute))
        strange.append(burst(graph.conversations(), columns_of(graph)))
    usual, probe = np.array(strange).T
    assert probe[-1] > probe[0] + 3
    assert usual[-1] < 3
