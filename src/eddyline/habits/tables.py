"""Bounded tables of fading statistics: what a memory keeps per host, pair or service.

A row is the weight n of what was seen, a few plain sums, then means and summed squared deviations, so that nothing
cancels in float32. All but the means fade with time. Beyond `limit` keys the rows that weigh least are forgotten: a
scan of ten million addresses adds keys of weight one at most, and cannot push out what has been seen day after day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.hashing import Keys, Places

Rows: TypeAlias = NDArray[np.float32]
Floats: TypeAlias = NDArray[np.float64]
Slots: TypeAlias = NDArray[np.int32]
_KEPT: Final = 0.75  # of the limit, when rows are forgotten
_LEAST: Final = 256  # rows an empty table has room for


@dataclass(slots=True)
class Table:
    """Rows by key. Places that `find` and `add` give hold until the next `add`.

    Args:
        limit: most keys.
        sums: plain columns after the weight; the statistics follow them.
        columns: things with a mean and a summed square, C.
        tau: time after which a weight has faded to 1/e, in windows.
        keys: uint64 (capacity,), the first `size` of them in use; `rows` float32 (capacity, 1 + sums + 2 C) and
            `last` int64 (capacity,), the window in which a row last faded, go with them.
        slots: open addressing: row number or -1, a power of two long.
    """

    limit: int
    sums: int
    columns: int
    tau: float
    keys: Keys
    rows: Rows
    last: Places
    slots: Slots
    size: int

    @classmethod
    def empty(cls, limit: int, sums: int, columns: int, tau: float) -> Self:
        """Return a table without rows."""
        width = 1 + sums + 2 * columns
        parts: dict[str, NDArray[Any]] = {
            "keys": np.empty(0, np.uint64), "rows": np.empty((0, width), np.float32), "last": np.empty(0, np.int64),
        }  # fmt: skip
        return cls.of(parts, limit, sums, columns, tau)

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]], limit: int, sums: int, columns: int, tau: float) -> Self:
        """Return the table that `parts()` came from, or an equal one with more room."""
        size = len(parts["keys"])
        grown = _grown(max(min(_LEAST, limit), size), parts["keys"], parts["rows"], parts["last"])
        return cls(limit, sums, columns, tau, *grown, size)

    def parts(self) -> dict[str, NDArray[Any]]:
        """Copy what `Table.of` needs."""
        return {name: getattr(self, name)[: self.size].copy() for name in ("keys", "rows", "last")}

    def find(self, keys: Keys) -> Places:
        """Row of each key (K,), -1 where it is not known."""
        return np.asarray(_find(self.slots, self.keys, keys), np.int64)

    def add(self, keys: Keys, now: int) -> Places:
        """Row of each key (K,): a fresh one where it was not known, -1 where not even forgetting made room."""
        if self.size + len(keys) > len(self.keys):
            self._make_room(int((self.find(keys) < 0).sum()), now)
        places, self.size = _add(self.slots, self.keys, self.rows, self.last, self.size, keys, now)
        return np.asarray(places, np.int64)

    def take(self, keys: Keys, now: int, weight: Rows, mean: Rows, square: Rows, more: Rows) -> None:
        """Add observations to rows, after fading those to `now`.

        Args:
            keys: of the rows that each observation belongs to, (L, K); they may repeat.
            weight: of each, (K,), 0 where only the plain sums count.
            mean, square: (K, C).
            more: for the plain sums, (K, sums).
        """
        places = self.add(keys.ravel(), now).reshape(keys.shape)
        _merge(self.rows, self.last, places, now, self.tau, weight, mean, square, more)

    def weights(self, places: Places, now: int, column: int = 0) -> Floats:
        """The weight, or a plain sum, of each row (K,), faded to `now`; 0 where there is no row."""
        return np.asarray(_faded(self.rows, self.last, places, now, self.tau, column), np.float64)

    def _make_room(self, more: int, now: int) -> None:
        if self.size + more <= len(self.keys):
            return
        if self.size + more > self.limit:
            self._forget(now)
        room = max(min(max(2 * self.size, self.size + more, _LEAST), self.limit), self.size)
        parts = self.parts()
        self.keys, self.rows, self.last, self.slots = _grown(room, parts["keys"], parts["rows"], parts["last"])

    def _forget(self, now: int) -> None:
        """Keep the rows that weigh most now; of equal ones those seen last, then by key: the same on every run."""
        keep = min(int(self.limit * _KEPT), self.size)
        every = np.arange(self.size)
        weight = sum((self.weights(every, now, column) for column in range(1 + self.sums)), np.zeros(self.size))
        order = np.lexsort((self.keys[: self.size], -self.last[: self.size], -weight))
        kept = np.sort(order[:keep])
        self.keys[:keep], self.rows[:keep], self.last[:keep] = self.keys[kept], self.rows[kept], self.last[kept]
        self.size = keep


def _grown(room: int, keys: Keys, rows: Rows, last: Places) -> tuple[Keys, Rows, Places, Slots]:
    more_keys, more_rows = np.zeros(room, np.uint64), np.zeros((room, rows.shape[1]), np.float32)
    more_last = np.zeros(room, np.int64)
    more_keys[: len(keys)], more_rows[: len(rows)], more_last[: len(last)] = keys, rows, last
    slots = np.full(1 << (2 * room - 1).bit_length(), -1, np.int32)
    _index(slots, more_keys, len(keys))
    return more_keys, more_rows, more_last, slots


@njit(cache=True)
def _index(slots: Slots, keys: Keys, size: int) -> None:
    mask = np.uint64(len(slots) - 1)
    for row in range(size):
        slot = keys[row] & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row


@njit(cache=True)
def _slot(slots: Slots, known: Keys, key: np.uint64) -> np.uint64:
    """Where a key is, or the free slot where it would be."""
    mask = np.uint64(len(slots) - 1)
    slot = key & mask
    while slots[slot] >= 0 and known[slots[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@njit(cache=True)
def _find(slots: Slots, known: Keys, keys: Keys) -> Places:
    places = np.empty(len(keys), np.int64)
    for place in range(len(keys)):
        places[place] = slots[_slot(slots, known, keys[place])]
    return places


@njit(cache=True)
def _add(slots: Slots, known: Keys, rows: Rows, last: Places, size: int, keys: Keys, now: int) -> tuple[Places, int]:
    places = np.empty(len(keys), np.int64)
    for place in range(len(keys)):
        slot = _slot(slots, known, keys[place])
        row = slots[slot]
        if row < 0 and size < len(known):
            row = size
            slots[slot], known[size], last[size] = size, keys[place], now
            rows[size] = 0
            size += 1
        places[place] = row
    return places, size


@njit(cache=True)
def _merge(
    rows: Rows, last: Places, places: Places, now: int, tau: float, weight: Rows, mean: Rows, square: Rows, more: Rows
) -> None:
    columns, sums = mean.shape[1], more.shape[1]
    for level in range(len(places)):
        for place in range(places.shape[1]):
            row = places[level, place]
            if row < 0:
                continue
            _fade(rows[row], last, row, now, tau, 1 + sums, columns)
            before = rows[row, 0]
            for column in range(sums):
                rows[row, 1 + column] += more[place, column]
            if weight[place] <= 0:
                continue
            rows[row, 0] = before + weight[place]
            share = weight[place] / (before + weight[place])
            for column in range(columns):
                mine = 1 + sums + column
                away = mean[place, column] - rows[row, mine]
                rows[row, mine] += away * share
                rows[row, mine + columns] += square[place, column] + away * away * before * share


@njit(cache=True)
def _fade(values: Rows, last: Places, row: int, now: int, tau: float, start: int, columns: int) -> None:
    if last[row] >= now:
        return
    left = np.float32(np.exp(-(now - last[row]) / tau))
    last[row] = now
    for column in range(start):
        values[column] *= left
    for column in range(start + columns, start + 2 * columns):
        values[column] *= left


@njit(cache=True)
def _faded(rows: Rows, last: Places, places: Places, now: int, tau: float, column: int) -> Floats:
    found = np.zeros(len(places))
    for place in range(len(places)):
        row = places[place]
        if row >= 0:
            found[place] = rows[row, column] * np.exp(-max(now - last[row], 0) / tau)
    return found
