"""What a window teaches: once per key, by the share of its flows that were not flagged."""

from collections.abc import Sequence

import numpy as np

from eddyline.graphs import build_graph
from eddyline.habits import FLAGGED, Habits
from eddyline.habits.keys import PAIR, RECEIVED, SENT, SITE, WindowKeys, marked
from eddyline.habits.lessons import Lesson, lesson
from tests.habits import Flow, window

AB, AC = Flow("a", "b"), Flow("a", "c")


def taught(flows: Sequence[Flow], weight: Sequence[float]) -> tuple[Lesson, WindowKeys]:
    """What a window teaches a memory that knows nothing."""
    found = build_graph(window(flows)).conversations()
    columns = Habits.empty().read(found, 1)
    return lesson(found, columns, np.array(weight, float), FLAGGED), WindowKeys.of(found)


def row(found: Lesson, table: str, key: np.uint64) -> tuple[float, list[float], list[float]]:
    """Weight, means and plain sums of the one observation of a key."""
    batch = found[table]
    places = np.nonzero(batch.keys == key)[1]
    assert len(places) == 1
    return float(batch.weight[places[0]]), batch.mean[places[0]].tolist(), batch.more[places[0]].tolist()


def test_a_key_counts_once_per_window_however_many_flows_it_has() -> None:
    found, keys = taught([AB, AB, AB, AC], [1] * 4)
    for table, key in (
        ("hosts", keys.sent[0]),
        ("hosts", keys.received[1]),
        ("pairs", keys.pair[0]),
        ("seen", keys.service[0]),
        ("seen", keys.port[0]),
    ):
        assert row(found, table, key)[0] == 1
    assert found["seen"].keys[0].tolist() == [*dict.fromkeys(keys.service.tolist()), keys.port[0]]


def test_a_host_teaches_its_counts_and_how_many_of_its_pairs_and_ports_were_new() -> None:
    found, keys = taught([AB, AB, Flow("a", "b", 80), AC], [1] * 4)
    weight, mean, more = row(found, "hosts", keys.sent[0])
    np.testing.assert_allclose(mean, np.log1p([4, 2, 2, 0, 4_000, 2, 2]), rtol=1e-6)
    assert (weight, more) == (1, [2, 2, 2, 2])  # new pairs, pairs, new ports, ports
    assert row(found, "hosts", keys.received[1])[2] == [1, 1, 0, 0]  # ports are the source's


def test_everybody_teaches_the_site() -> None:
    found, _ = taught([AB, AB, AC, Flow("d", "c")], [1] * 4)
    for role, hosts, flows in ((SENT, 2, [3, 1]), (RECEIVED, 2, [2, 2])):
        mine = found["hosts"].keys[1] == marked(SITE, role, 0)[0]
        assert mine.sum() == hosts
        np.testing.assert_allclose(found["hosts"].mean[mine, 0], np.log1p(flows))
    assert (found["pairs"].keys == marked(SITE, PAIR, 0)[0]).sum() == 3


def test_flagged_flows_teach_no_counts_no_sizes_and_no_rates() -> None:
    found, keys = taught([AB, AC], [0, 0])
    assert found["hosts"].keys.size == 0
    assert found["sizes"].keys.size == 0
    assert found["pairs"].weight.tolist() == [0] * 2
    np.testing.assert_allclose(found["pairs"].more[:, 0], FLAGGED)  # they met all the same
    np.testing.assert_allclose(found["seen"].weight, FLAGGED)
    assert set(found["pairs"].keys[0].tolist()) == set(keys.pair.tolist())


def test_a_key_counts_by_the_share_of_its_flows_that_were_not_flagged() -> None:
    """a to b: one of four flagged; a to c: the only one flagged."""
    found, keys = taught([AB, AB, AB, AB, AC], [1, 1, 0, 1, 0])
    assert row(found, "pairs", keys.pair[0])[0] == 0.75
    np.testing.assert_allclose(row(found, "pairs", keys.pair[0])[2], [0.75 + 0.25 * FLAGGED])
    np.testing.assert_allclose(row(found, "pairs", keys.pair[1])[2], [FLAGGED], rtol=1e-6)
    weight, _, more = row(found, "hosts", keys.sent[0])
    np.testing.assert_allclose([weight, *more], [0.6, 0.75, 0.75, 0.6, 0.6], rtol=1e-6)
    assert keys.received[2] not in found["hosts"].keys  # c was met by flagged flows only


def test_sizes_teach_each_flow_and_flagged_ones_not_at_all() -> None:
    flows = [AB._replace(sent=10), AB._replace(sent=1_000), AB._replace(sent=10**9)]
    found, _ = taught(flows, [1, 1, 0])
    small, large = np.log1p([10, 1_000])
    assert found["sizes"].weight.tolist() == [2]
    assert len(found["sizes"].keys) == 5  # the five levels
    np.testing.assert_allclose(found["sizes"].mean[:, 0], (small + large) / 2, rtol=1e-6)
    np.testing.assert_allclose(found["sizes"].square[:, 0], (large - small) ** 2 / 2, rtol=1e-6)
    np.testing.assert_allclose(found["sizes"].square[:, 1:4], 0, atol=1e-6)


def test_what_is_known_is_not_new() -> None:
    flows = [AB, AC]
    found = build_graph(window(flows)).conversations()
    habits = Habits.empty()
    for minute in (1, 2):
        habits = habits.after(found, habits.read(found, minute), minute, np.ones(2))
    again = lesson(found, habits.read(found, 3), np.ones(2), FLAGGED)
    keys = WindowKeys.of(found)
    assert row(again, "hosts", keys.sent[0])[2] == [0, 2, 0, 1]


def test_an_empty_window_teaches_nothing() -> None:
    found, _ = taught([], [])
    assert [batch.keys.size for batch in found.values()] == [0] * 6
