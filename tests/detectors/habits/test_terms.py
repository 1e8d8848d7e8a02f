"""The five surprises, by hand."""

from dataclasses import replace
from math import e, log, sqrt
from typing import Any

import numpy as np
import pytest

from eddyline.detectors.habits.terms import BYTES, TERMS, burst, novelties, surprises, tail, volume
from eddyline.habits import Conversations, HabitColumns, Habits
from tests.habits import Flow, grouped, live, lived, window

AB, AC = Flow("a", "b"), Flow("a", "c")


def told(*flows: Flow, **said: Any) -> tuple[Conversations, HabitColumns]:
    """A window of which an empty memory says nothing but what is given."""
    found = grouped(*flows)
    columns = Habits.empty().read(found, 1)
    return found, replace(columns, **{name: np.array(value, float) for name, value in said.items()})


def test_a_count_above_its_mean_is_surprising_by_the_deviations_it_is_away() -> None:
    """z = 2 / sqrt(0.09 + 1 / (1 + e)); 1.7 nats for each, from ln 2 on."""
    z = 2 / sqrt(0.09 + 1 / (1 + e))
    np.testing.assert_allclose(tail(3.0, 1.0, 0.3, True), 1.7 * z + log(2))
    np.testing.assert_allclose(tail(3.0, 1.0, 0.3, True), 6.368, atol=1e-3)
    np.testing.assert_allclose(tail(3.0, 1.0, 0.5, False), 1.7 * 4 + log(2))


def test_few_flows_are_no_anomaly() -> None:
    assert [tail(count, 2.0, 0.3, True) for count in (0.0, 1.0, 2.0)] == [0, 0, 0]


def test_the_counting_noise_of_huge_means_does_not_overflow() -> None:
    np.testing.assert_allclose(tail(1e3 + 1, 1e3, 1.0, True), 1.7 + log(2), rtol=1e-6)


def test_burst_is_the_strangest_of_source_destination_and_pair() -> None:
    """Everything is as usual but one count at a time."""
    found, columns = told(AB, AC)
    usual = {
        "sent_usual": np.stack([columns.sent, np.full_like(columns.sent, 0.5)], -1),
        "received_usual": np.stack([columns.received, np.full_like(columns.received, 0.5)], -1),
        "pair_usual": np.stack([columns.of_pair, np.full_like(columns.of_pair, 0.5)], -1),
    }
    assert burst(found, replace(columns, **usual)).tolist() == [0, 0]
    cases = (("sent_usual", 0, 3, (0, 1)), ("received_usual", 1, 0, (0,)), ("pair_usual", 1, 1, (1,)))
    for name, row, column, of in cases:
        strange = usual[name].copy()
        strange[row, column, 0] -= 1
        want = 1.7 / sqrt(0.25 + 1 / (1 + np.exp(strange[row, column, 0]))) + log(2)
        expected = [want if place in of else 0 for place in range(2)]
        np.testing.assert_allclose(burst(found, replace(columns, **usual | {name: strange})), expected)


def test_bytes_are_a_volume_and_no_burst() -> None:
    """a sends e times as much as usual; bytes are no count, so no Poisson noise. What b gets is in the flow's size."""
    found, columns = told(AB, AC)
    counts = columns.sent, columns.received, columns.of_pair
    sent, received, pair = (np.stack([values, np.full_like(values, 0.5)], -1) for values in counts)
    sent[0, BYTES, 0] -= 1
    received[1, BYTES, 0] -= 2
    columns = replace(columns, sent_usual=sent, received_usual=received, pair_usual=pair)
    assert burst(found, columns).tolist() == [0, 0]
    np.testing.assert_allclose(volume(found, columns), [1.7 / 0.5 + log(2)] * 2)


def test_the_spread_is_judged_by_the_conversations_own_port() -> None:
    """a contacts b, c, d on 443 and b on 80; usually one host: only the flows to 443 are strange."""
    found, columns = told(AB, AC, Flow("a", "d"), Flow("a", "b", 80))
    usual = {
        name: np.stack([getattr(columns, name[:-6]), np.full_like(getattr(columns, name[:-6]), 0.3)], -1)
        for name in ("sent_usual", "received_usual")
    }
    usual["sent_usual"][0, -1, 0] = log(2)
    usual["pair_usual"] = np.stack([columns.of_pair, np.full_like(columns.of_pair, 0.3)], -1)
    want = 1.7 * (log(4) - log(2)) / sqrt(0.09 + 1 / (1 + 2)) + log(2)
    np.testing.assert_allclose(burst(found, replace(columns, **usual)), [want, want, want, 0])


def test_a_first_meeting_surprises_by_how_seldom_the_two_meet_anybody_and_less_each_time() -> None:
    found, columns = told(AB, AC, Flow("d", "c"), meets=[0.01, 0.01, 0.999], known=[0, 3, 0])
    np.testing.assert_allclose(novelties(found, columns)[0], [-log(0.01), -log(0.01) / 4, -log(0.999)])


def test_a_service_surprises_by_how_seldom_the_destination_had_it() -> None:
    """b was seen in 99 windows, never with this service, in 9, in 99: -ln((n + .3) / 100) / (1 + n), at least 0."""
    windows = [[0, 0], [0, 99]]  # a, b
    for known, want in ((0, -log(0.003)), (9, -log(0.093) / 10), (99, -log(0.993) / 100)):
        found, columns = told(AB, service_known=[known], host_known=windows)
        np.testing.assert_allclose(novelties(found, columns)[1], [want])
    found, columns = told(AB, service_known=[9], host_known=[[0, 0], [0, 8]])
    assert novelties(found, columns)[1].tolist() == [0]


def test_a_port_surprises_by_how_seldom_the_source_tries_new_ones() -> None:
    found, columns = told(AB, AC, Flow("d", "c"), tries=[0.02, 0.02, 1e-9], port_known=[0, 1, 0])
    np.testing.assert_allclose(novelties(found, columns)[2], [-log(0.02), -log(0.02) / 2, -log(1e-4)])


def test_no_answer_surprises_where_one_is_usual_and_an_answer_never_does() -> None:
    found, columns = told(AB, AB.silent, AC.silent, silence=[0.001, 0.001, 0.9])
    np.testing.assert_allclose(surprises(found, columns)[:, 3], [0, -log(0.001), -log(0.9)], rtol=1e-6)


def test_size_is_the_strangest_of_a_flows_own_either_way() -> None:
    """Usual is ln(1 + value) = the flow's own but for one: two deviations more, three less."""
    found, columns = told(AB)
    own = found.sizes[0].astype(float)
    more, less = own.copy(), own.copy()
    more[0], less[4] = own[0] + 1, own[4] - 1.5
    for mean in (more, less):
        columns = replace(columns, size_mean=mean[None], size_sd=np.full((1, 7), 0.5))
        np.testing.assert_allclose(surprises(found, columns)[:, 4], [1.7 * np.abs(mean - own).max() / 0.5], rtol=1e-5)


def test_the_size_of_an_answer_that_never_came_or_is_unknown_says_nothing() -> None:
    one_way = AC._replace(back=None, back_packets=None)
    found, columns = told(AB.silent, one_way, Flow("c", "a", back=None, back_packets=None))
    mean = np.array([found.sizes[place] for place in range(3)], float)
    mean[:, [1, 3, 6]] = 99
    columns = replace(columns, size_mean=mean, size_sd=np.ones((3, 7)))
    np.testing.assert_allclose(surprises(found, columns)[:, 4], 0, atol=1e-6)


def test_the_terms_stand_in_their_order_and_novelty_is_the_largest_of_three() -> None:
    assert TERMS == ("burst", "volume", "novelty", "no answer", "size")
    flows = (AB, AB, AC.silent, Flow("d", "e", 22))
    graph, _ = live(lived([AB], [AB]), window(flows, 3))
    found, columns = graph.conversations(), graph.habits
    assert columns is not None
    said = surprises(found, columns)
    assert said.dtype == np.float32
    assert said.shape == (4, 5)
    assert (said >= 0).all()
    np.testing.assert_allclose(said[:, 0], burst(found, columns)[found.of_flow], rtol=1e-6)
    np.testing.assert_allclose(said[:, 1], volume(found, columns)[found.of_flow], rtol=1e-6)
    np.testing.assert_allclose(said[:, 2], np.max(novelties(found, columns), 0)[found.of_flow], rtol=1e-6)
    np.testing.assert_array_equal(said[0], said[1])


@pytest.mark.parametrize("minutes", [2, 40])
def test_the_surprise_of_a_new_pair_by_hand(minutes: int) -> None:
    """a and b met in every window; now a meets c. n windows are known, the pair was new in the first two of them."""
    graph, _ = live(lived(*[[AB]] * (minutes + 1)), window([AC], minutes + 2))
    assert graph.habits is not None
    site = (2 + 0.5) / (minutes + 1)
    rate = (2 + 2 * site) / (minutes + 2)  # of a; nobody knows c, who is taken for one of the site
    want = -log(min(max(rate, site), 0.999))
    np.testing.assert_allclose(novelties(graph.conversations(), graph.habits)[0], [want], rtol=0.01)
