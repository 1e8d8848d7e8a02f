"""Bounded tables of fading statistics, against a dictionary of float64."""

from dataclasses import dataclass, field
from math import exp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.habits.tables import Table

TAU = 50.0


@dataclass
class Plain:
    """The same table the long way."""

    rows: dict[int, list] = field(default_factory=dict)  # key -> weight, sums, means, squares, last

    def take(
        self, keys: np.ndarray, now: int, weight: np.ndarray, mean: np.ndarray, square: np.ndarray, more: np.ndarray
    ) -> None:
        for place, key in enumerate(keys.tolist()):
            columns, sums = mean.shape[1], more.shape[1]
            n, plain, means, squares, last = self.rows.get(
                key, [0.0, np.zeros(sums), np.zeros(columns), np.zeros(columns), now]
            )
            left = exp(-max(now - last, 0) / TAU)
            n, plain, squares = n * left, plain * left + more[place], squares * left
            if weight[place] > 0:
                w, away = float(weight[place]), mean[place] - means
                squares = squares + square[place] + away**2 * n * w / (n + w)
                means, n = means + away * w / (n + w), n + w
            self.rows[key] = [n, plain, means, squares, max(now, last)]


def keys_of(*keys: int) -> np.ndarray:
    return np.array(keys, np.uint64)


def observe(table: Table, keys: np.ndarray, now: int, weight: float = 1.0) -> None:
    """Add plain observations of weight only."""
    shape = (len(keys), table.columns)
    more = np.zeros((len(keys), table.sums), np.float32)
    table.take(keys[None], now, np.full(len(keys), weight, np.float32), *(np.zeros(shape, np.float32),) * 2, more)


def test_three_observations_of_one_key_by_hand() -> None:
    """Values 2, 4 and 9, weights 1, 1 and 2: mean 24 / 4 = 6, squares 16 + 4 + 2 * 9 = 38."""
    table = Table.empty(1_000, 1, 1, TAU)
    values, more = np.array([[2], [4], [9]], np.float32), np.array([[1], [10], [100]], np.float32)
    table.take(keys_of(7, 7, 7)[None], 5, np.array([1, 1, 2], np.float32), values, np.zeros((3, 1), np.float32), more)
    assert table.size == 1
    np.testing.assert_allclose(table.rows[0], [4, 111, 6, 38], rtol=1e-6)
    assert table.weights(table.find(keys_of(7)), 5).tolist() == [4.0]


def test_everything_but_the_mean_fades_and_a_look_does_not_fade_it() -> None:
    table = Table.empty(1_000, 1, 1, TAU)
    one = np.ones((1, 1), np.float32)
    table.take(keys_of(7)[None], 0, np.ones(1, np.float32), 3 * one, 8 * one, 5 * one)
    place = table.find(keys_of(7))
    for _ in range(2):
        np.testing.assert_allclose(table.weights(place, 50), [exp(-1)], rtol=1e-6)
        np.testing.assert_allclose(table.weights(place, 50, 1), [5 * exp(-1)], rtol=1e-6)
    table.take(
        keys_of(7)[None], 50, np.zeros(1, np.float32), 99 * one, 99 * one, one
    )  # weight 0: only the plain sum counts
    np.testing.assert_allclose(table.rows[place[0]], [exp(-1), 5 * exp(-1) + 1, 3, 8 * exp(-1)], rtol=1e-6)


def test_an_unknown_key_has_no_row_and_no_weight() -> None:
    table = Table.empty(1_000, 0, 0, TAU)
    assert table.find(keys_of(1, 2)).tolist() == [-1, -1]
    assert table.weights(table.find(keys_of(1, 2)), 9).tolist() == [0.0, 0.0]
    assert table.add(keys_of(5, 6, 5), 0).tolist() == [0, 1, 0]


def test_a_late_window_does_not_turn_time_back() -> None:
    table = Table.empty(1_000, 0, 0, TAU)
    observe(table, keys_of(7), 100)
    observe(table, keys_of(7), 40)
    assert table.last[0] == 100
    assert table.weights(np.zeros(1, np.int64), 40).tolist() == [2.0]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_random_streams_agree_with_the_plain_table(seed: int, sums: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    table, plain, now = Table.empty(10_000, sums, columns, TAU), Plain(), 0
    alphabet = rng.integers(0, 2**64, 400, np.uint64)
    for _ in range(12):
        now += int(rng.integers(0, 40))
        n = int(rng.integers(0, 120))
        keys = rng.choice(alphabet, n)
        weight = rng.choice(np.array([0, 0.25, 1, 3], np.float32), n)
        mean, square = (rng.normal(5, 2, (n, columns)).astype(np.float32) for _ in range(2))
        more = rng.integers(0, 4, (n, sums)).astype(np.float32)
        square = square**2
        table.take(keys[None], now, weight, mean, square, more)
        plain.take(keys, now, weight, mean, square, more)
        assert table.size == len(plain.rows)
    for key, (n, added, means, squares, last) in plain.rows.items():
        place = int(table.find(keys_of(key))[0])
        assert table.keys[place] == key
        assert table.last[place] == last
        np.testing.assert_allclose(table.rows[place], np.r_[n, added, means, squares], rtol=2e-3, atol=1e-3)


def test_forgetting_keeps_what_weighs_most_and_of_equals_what_was_seen_last() -> None:
    """Limit 1,000: when the 1,001st key comes, 750 stay: the 300 heavy ones and the latest 450 light ones."""
    table = Table.empty(1_000, 0, 0, 1e9)
    heavy, early, later = np.arange(300), np.arange(1_000, 1_300), np.arange(2_000, 2_400)
    for now in range(5):
        observe(table, heavy.astype(np.uint64), now)
    observe(table, early.astype(np.uint64), 5)
    observe(table, later.astype(np.uint64), 6)
    observe(table, keys_of(9_999), 7)
    assert table.size == 751
    assert (table.find(heavy.astype(np.uint64)) >= 0).all()
    assert (table.find(later.astype(np.uint64)) >= 0).all()
    assert np.flatnonzero(table.find(early.astype(np.uint64)) >= 0).tolist() == [*range(50)]  # equal in all but key
    assert table.find(keys_of(9_999))[0] >= 0


@pytest.mark.parametrize("limit", [100, 1_000, 1_024])
def test_a_scan_never_exceeds_the_limit_and_pushes_out_nothing_that_lasts(limit: int) -> None:
    table, lasting = Table.empty(limit, 1, 2, 10_000.0), np.arange(limit // 2).astype(np.uint64)
    for now in range(3):
        observe(table, lasting, now)
    for now in range(3, 43):
        observe(table, np.arange(now * 10_000, now * 10_000 + 5_000).astype(np.uint64), now)
        assert table.size <= limit
        assert len(table.keys) <= limit
    found = table.find(lasting)
    assert (found >= 0).all()
    np.testing.assert_allclose(table.weights(found, 2), 3, rtol=1e-2)


def test_where_not_even_forgetting_makes_room_the_rest_has_no_row() -> None:
    table = Table.empty(1_000, 0, 0, TAU)
    places = table.add(np.arange(3_000).astype(np.uint64), 0)
    assert table.size == 1_000
    assert sorted(places[places >= 0].tolist()) == [*range(1_000)]
    assert (places < 0).sum() == 2_000
    observe(table, np.arange(3_000).astype(np.uint64), 1)  # and taking them harms nobody
    assert table.size <= 1_000


def test_the_same_stream_forgets_the_same_rows() -> None:
    def run() -> dict[str, np.ndarray]:
        rng, table = np.random.default_rng(4), Table.empty(500, 0, 1, TAU)
        for now in range(30):
            keys = (rng.zipf(1.3, 200) % 5_000).astype(np.uint64)
            values = rng.normal(size=(200, 1)).astype(np.float32)
            table.take(keys[None], now, np.ones(200, np.float32), values, 0 * values, np.zeros((200, 0), np.float32))
        return table.parts()

    first, second = run(), run()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


@given(st.integers(0, 2**32 - 1), st.integers(0, 25))
@settings(max_examples=20, deadline=None)
def test_a_table_read_back_goes_on_bit_for_bit(seed: int, stop: int) -> None:
    rng, table = np.random.default_rng(seed), Table.empty(300, 1, 1, TAU)
    other = table
    for now in range(26):
        if now == stop:
            other = Table.of(table.parts(), 300, 1, 1, TAU)
        keys = (rng.zipf(1.3, 60) % 2_000).astype(np.uint64)
        values, more = rng.normal(size=(60, 1)).astype(np.float32), rng.random((60, 1)).astype(np.float32)
        for one in {id(table): table, id(other): other}.values():
            one.take(keys[None], now, np.ones(60, np.float32), values, values**2, more)
    for name, values in table.parts().items():
        assert values.dtype == other.parts()[name].dtype
        np.testing.assert_array_equal(values, other.parts()[name])
    np.testing.assert_array_equal(table.find(table.keys[: table.size]), np.arange(table.size))


def test_parts_are_copies() -> None:
    table = Table.empty(1_000, 0, 0, TAU)
    observe(table, keys_of(1), 0)
    before = table.parts()
    observe(table, keys_of(1, 2), 0)
    assert before["rows"].tolist() == [[1.0]]
    assert before["keys"].tolist() == [1]
