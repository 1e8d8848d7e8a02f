"""The square of a sparse matrix between some of its rows, row by row (Gustavson, 1978), and who makes it large.

A host that many send to and that sends to many fills the square alone: `in` times `out` entries. What goes through
such a hub is one column times one row, so hubs are left out here and kept as that: two thin matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from eddyline.detectors.gae.kernels import Ints, array, spread
from eddyline.detectors.gae.sparse import Values

_HUBS: Final = 64  # most hosts that are taken out of one square
_DENSE_STEPS: Final = 25  # multiplications in a dense product that take as long as one here


@dataclass(frozen=True, slots=True)
class Walks:
    """Walks of two steps that end at some hosts, hubs apart: (W + I)²[:, kept].

    Args:
        rows: W, CSR as (starts, columns, values). columns: W[:, kept], CSR.
        place: of each host among those kept, or -1, (N,). hub: hosts that no walk goes through, (N,).
    """

    rows: tuple[Ints, Ints, Values]
    columns: tuple[Ints, Ints, Values]
    place: Ints
    hub: NDArray[np.bool_]

    @classmethod
    def of(cls, weights: Tensor, kept: Tensor) -> Walks:
        """Prepare those of `weights`, float64 CSR; without hubs."""
        rows = array(weights.crow_indices()), array(weights.col_indices()), array(weights.values())
        place = np.full(weights.shape[0], -1, np.int64)
        place[array(kept)] = np.arange(len(kept))
        return cls(rows, _columns(*rows, place), place, np.zeros(len(place), np.bool_))

    def add_to(self, out: Tensor, hosts: Tensor) -> Tensor:
        """Add the walks from some hosts (n,) to `out`, float64 (n, kept); returns it."""
        given = array(hosts), *self.rows, *self.columns, self.place, self.hub, out.numpy()
        spread(lambda first, last: _dense(first, last, *given), len(hosts), out.numel())
        return out


@dataclass(frozen=True, slots=True)
class Square:
    """What has to be done for ((W + I)²)[kept, kept], before any of it is.

    Args:
        walks: to the hosts kept; their hubs are what is left out.
        kept: the hosts that stay, ascending, (n,).
        bound: most entries of each row of the result, summed up, (n + 1,). steps: multiplications in all.
    """

    walks: Walks
    kept: Ints
    bound: Ints
    steps: int

    @classmethod
    def of(cls, weights: Tensor, kept: Tensor, easy_steps: int | None = None) -> Square:
        """Plan the square of `weights`, float64 CSR.

        Args:
            easy_steps: multiplications beyond which the largest hubs are taken out. None takes out every host whose
                part is done faster by a dense product.
        """
        walks, hosts = Walks.of(weights, kept), array(kept)
        (starts, columns, _), ends, hub = walks.rows, walks.columns[0], walks.hub
        through = _received(starts, columns, hosts, len(hub)) * (np.diff(ends) + (walks.place >= 0))
        if easy_steps is None:
            hub[through * _DENSE_STEPS > len(hosts) ** 2] = True
        elif through.sum() > easy_steps:
            largest = np.argsort(through)[::-1][:_HUBS]
            left = through.sum() - np.cumsum(through[largest])
            hub[largest[: int((left > easy_steps).sum()) + 1]] = True
        bound = _bound(starts, columns, hosts, ends, walks.place, hub)
        return cls(walks, hosts, bound, int(through[~hub].sum()))

    @property
    def entries(self) -> int:
        """Most entries that the result can have."""
        return int(self.bound[-1])

    def hubs(self) -> tuple[Tensor, Tensor]:
        """Columns (W + I)[kept, hubs] and rows (W + I)[hubs, kept] transposed: float64 (n, hubs) both."""
        walks = self.walks
        hubs = np.flatnonzero(walks.hub)
        number = np.full(len(walks.place), -1, np.int64)
        number[hubs] = np.arange(len(hubs))
        into = _thin(*walks.rows, self.kept, number, len(hubs))
        out = _thin(*walks.columns, hubs, np.arange(len(self.kept)), len(self.kept)).T.copy()
        own = walks.place[hubs]
        into[own[own >= 0], np.flatnonzero(own >= 0)] += 1
        out[own[own >= 0], np.flatnonzero(own >= 0)] += 1
        return torch.from_numpy(into), torch.from_numpy(out)

    def sparse(self) -> tuple[Tensor, Tensor, Tensor]:
        """The square without hubs and without its diagonal: entries per row, columns (unordered), values."""
        found, values = np.empty(self.entries, np.int64), np.empty(self.entries, np.float64)
        counts = np.zeros(len(self.kept), np.int64)
        walks = self.walks
        given = self.kept, *walks.rows, *walks.columns, walks.place, walks.hub, self.bound
        spread(lambda first, last: _sparse(first, last, *given, found, values, counts), len(self.kept), self.steps)
        total = _close_up(self.bound, counts, found, values)
        return torch.from_numpy(counts), torch.from_numpy(found[:total]), torch.from_numpy(values[:total])

    def dense(self) -> Tensor:
        """The square, hubs and all, without its diagonal, float64 (n, n)."""
        into, out = self.hubs()
        found = self.walks.add_to(into @ out.T, torch.from_numpy(self.kept))
        return found.fill_diagonal_(0)


@njit(cache=True, nogil=True)
def _columns(starts: Ints, columns: Ints, values: Values, place: Ints) -> tuple[Ints, Ints, Values]:
    """Columns with a place, renumbered by it."""
    new = np.zeros(len(starts), np.int64)
    total = 0
    for row in range(len(starts) - 1):
        for entry in range(starts[row], starts[row + 1]):
            total += place[columns[entry]] >= 0
        new[row + 1] = total
    found, kept = np.empty(total, np.int64), np.empty(total, np.float64)
    at = 0
    for entry in range(len(columns)):
        if place[columns[entry]] >= 0:
            found[at], kept[at] = place[columns[entry]], values[entry]
            at += 1
    return new, found, kept


@njit(cache=True, nogil=True)
def _received(starts: Ints, columns: Ints, kept: Ints, hosts: int) -> Ints:
    """How many rows of W + I among those kept have an entry in each column."""
    found = np.zeros(hosts, np.int64)
    for host in kept:
        found[host] += 1
        for entry in range(starts[host], starts[host + 1]):
            found[columns[entry]] += 1
    return found


@njit(cache=True, nogil=True)
def _bound(starts: Ints, columns: Ints, kept: Ints, ends: Ints, place: Ints, hub: NDArray[np.bool_]) -> Ints:
    found = np.zeros(len(kept) + 1, np.int64)
    for row in range(len(kept)):
        most = 0 if hub[kept[row]] else ends[kept[row] + 1] - ends[kept[row]] + 1
        for entry in range(starts[kept[row]], starts[kept[row] + 1]):
            if not hub[columns[entry]]:
                most += ends[columns[entry] + 1] - ends[columns[entry]] + (place[columns[entry]] >= 0)
        found[row + 1] = found[row] + min(most, len(kept))
    return found


@njit(cache=True, nogil=True)
def _thin(starts: Ints, columns: Ints, values: Values, rows: Ints, number: Ints, width: int) -> Values:
    """Some rows, and the columns that have a number, written out."""
    found = np.zeros((len(rows), width))
    for row in range(len(rows)):
        for entry in range(starts[rows[row]], starts[rows[row] + 1]):
            if number[columns[entry]] >= 0:
                found[row, number[columns[entry]]] += values[entry]
    return found


@njit(cache=True, nogil=True)
def _dense(
    first: int, last: int, kept: Ints, starts: Ints, columns: Ints, values: Values, ends: Ints, targets: Ints,
    weights: Values, place: Ints, hub: NDArray[np.bool_], out: Values,
) -> None:  # fmt: skip
    for row in range(first, last):
        into = out[row]
        for entry in range(starts[kept[row]] - 1, starts[kept[row] + 1]):  # the first is the host itself
            own = entry < starts[kept[row]]
            through, weight = (kept[row], 1.0) if own else (columns[entry], values[entry])
            if hub[through]:
                continue
            if place[through] >= 0:
                into[place[through]] += weight
            for step in range(ends[through], ends[through + 1]):
                into[targets[step]] += weight * weights[step]


@njit(cache=True, nogil=True)
def _sparse(  # noqa: C901  # a row of the square, entry by entry
    first: int, last: int, kept: Ints, starts: Ints, columns: Ints, values: Values, ends: Ints, targets: Ints,
    weights: Values, place: Ints, hub: NDArray[np.bool_], bound: Ints, found: Ints, sums: Values, counts: Ints,
) -> None:  # fmt: skip
    total, seen = np.zeros(len(kept)), np.full(len(kept), -1, np.int64)
    for row in range(first, last):
        at = bound[row]
        seen[row] = row  # so that the diagonal is never listed
        for entry in range(starts[kept[row]] - 1, starts[kept[row] + 1]):  # the first is the host itself
            own = entry < starts[kept[row]]
            through, weight = (kept[row], 1.0) if own else (columns[entry], values[entry])
            if hub[through]:
                continue
            direct = place[through]
            if direct >= 0:
                if seen[direct] != row:
                    seen[direct], found[at] = row, direct
                    at += 1
                total[direct] += weight
            for step in range(ends[through], ends[through + 1]):
                column = targets[step]
                if seen[column] != row:
                    seen[column], found[at] = row, column
                    at += 1
                total[column] += weight * weights[step]
        for entry in range(bound[row], at):
            sums[entry] = total[found[entry]]
            total[found[entry]] = 0
        total[row] = 0
        counts[row] = at - bound[row]


@njit(cache=True, nogil=True)
def _close_up(bound: Ints, counts: Ints, found: Ints, sums: Values) -> int:
    """Move rows together, in place; how many entries there are."""
    at = 0
    for row in range(len(counts)):
        for entry in range(bound[row], bound[row] + counts[row]):
            found[at], sums[at] = found[entry], sums[entry]
            at += 1
    return at
