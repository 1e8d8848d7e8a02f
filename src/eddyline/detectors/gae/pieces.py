"""A ReLU layer of few inputs, then a matrix, for a fraction of the products: exact, because it is linear by pieces.

Each hidden unit is zero on one side of a plane and linear on the other. Flows are sorted into small boxes of feature
space (a k-d tree: Bentley, 1975); most planes miss a box, so there most units are zero, or linear for all its flows.
The linear ones add up to one small matrix per box, and only units whose plane cuts the box are worked out per flow.
With three features, 256 units and boxes of 256 of 65,536 flows, 25 (log-normal features) to 61 (uniform) are cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from eddyline.detectors.gae.kernels import FEW, Floats, Ints, array

BOX: Final = 256  # flows; fewer are cut by fewer planes, more make larger products
_GROUP: Final = 4  # boxes that are handed on together
_LEAST_UNITS: Final = 64  # with fewer, the plain product is as fast
_LEAST_FLOWS: Final = 8 * BOX


def worth(flows: int, features: int, units: int) -> bool:
    """Whether boxes pay: in more dimensions than a few, every plane cuts every box."""
    return features <= FEW and units >= _LEAST_UNITS and flows >= _LEAST_FLOWS


def products(attr: Tensor, weight: Tensor, bias: Tensor, after: Tensor) -> Iterator[tuple[Ints, Tensor]]:
    """Yield relu(attr weight^T + bias) after, some boxes at a time: rows of `attr`, and their products.

    Products are overwritten by the next. In bfloat16 where `after` is: then products of flows are rounded to it.

    Args:
        attr: float32 (n, F). weight: (U, F). bias: (U,). after: (U, C), contiguous.
    """
    columns = np.zeros((FEW, len(attr)), np.float32)
    columns[: attr.shape[1]] = attr.T.numpy()
    planes = np.zeros((FEW + 1, len(bias)), np.float32)
    planes[: attr.shape[1]], planes[FEW] = array(weight.T), array(bias)
    order, starts = boxes(columns, np.abs(planes[:FEW]).sum(1), BOX)
    over, cut = sides(columns, order, starts, planes)
    centre = np.add.reduceat(columns[:, order], starts[:-1], axis=1, dtype=np.float32) / np.diff(starts)
    centre = np.nan_to_num(centre.T.astype(np.float32))  # features are taken from there: no large products cancel
    around = np.repeat(planes[None], len(over), 0)
    around[:, FEW] += centre @ planes[:FEW]
    linear = (torch.from_numpy(around * over[:, None]).view(-1, len(bias)) @ after.float()).to(after)
    left, right = torch.empty(BOX, FEW + 1 + len(bias)), after.new_empty(FEW + 1 + len(bias), after.shape[1])
    found = after.new_empty(_GROUP * BOX, after.shape[1])
    for box, common in enumerate(linear.view(len(over), FEW + 1, -1)):
        first, stop, units = starts[box], starts[box + 1], np.flatnonzero(cut[box])
        group = starts[box - box % _GROUP]
        wide = FEW + 1 + len(units)
        right[: FEW + 1] = common  # what the box's flows have in common
        torch.index_select(after, 0, torch.from_numpy(units), out=right[FEW + 1 : wide])
        fill(columns, order[first:stop], centre[box], planes, units, left.numpy())
        given = left[: stop - first, :wide].to(after.dtype)
        torch.mm(given, right[:wide], out=found[first - group : stop - group])
        if (box + 1) % _GROUP == 0 or box + 1 == len(over):
            yield order[group:stop], found[: stop - group].float()


@njit(cache=True, nogil=True)
def boxes(columns: Floats, weight: Floats, size: int) -> tuple[Ints, Ints]:
    """Split flows at medians, always along the widest side, into boxes of at most `size`.

    Args:
        columns: features, (4, n). weight: of each feature when sides are compared, (4,).

    Returns:
        Flows box by box, (n,), and where each box starts, (boxes + 1,).
    """
    flows = columns.shape[1]
    order = np.arange(flows)
    starts = [0]
    waiting = [(0, flows)]
    while len(waiting):
        first, last = waiting.pop()
        parts = -(-(last - first) // size)
        if parts < 2:
            starts.append(last)
            continue
        side = columns[_widest(columns, weight, order[first:last])]
        middle = first + (last - first) * (parts // 2) // parts
        _split(side, order, first, last, middle)
        waiting.append((middle, last))
        waiting.append((first, middle))
    return order, np.array(starts)


@njit(nogil=True)
def _widest(columns: Floats, weight: Floats, rows: Ints) -> int:
    found, width = 0, -1.0
    for feature in range(len(columns)):
        low = high = columns[feature, rows[0]]
        for row in rows:
            low, high = min(low, columns[feature, row]), max(high, columns[feature, row])
        if (high - low) * weight[feature] > width:
            found, width = feature, (high - low) * weight[feature]
    return found


@njit(nogil=True)
def _split(values: Floats, order: Ints, first: int, last: int, middle: int) -> None:
    """Rearrange order[first:last] so that no value before `middle` exceeds one after it (Hoare's selection, 1961)."""
    while last - first > 1:
        pivot = values[order[(first + last) // 2]]
        low, high = first, last - 1
        while low <= high:
            while values[order[low]] < pivot:
                low += 1
            while values[order[high]] > pivot:
                high -= 1
            if low <= high:
                order[low], order[high] = order[high], order[low]
                low, high = low + 1, high - 1
        if middle <= high:
            last = high + 1
        elif middle >= low:
            first = low
        else:
            return


@njit(cache=True, nogil=True)
def sides(columns: Floats, order: Ints, starts: Ints, planes: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Per box and unit: 1 where all its flows lie on the unit's linear side, and whether some do and some do not.

    A flow that rounding puts on the wrong side of a plane lies in it: its value there is 0 on both sides.

    Args:
        columns: (4, n). order, starts: of the boxes. planes: weights and, last, biases, (5, U).
    """
    units = planes.shape[1]
    over = np.zeros((len(starts) - 1, units), np.float32)
    cut = np.zeros((len(starts) - 1, units), np.bool_)
    mine = np.empty((FEW, BOX), np.float32)
    for box in range(len(starts) - 1):
        rows = order[starts[box] : starts[box + 1]]
        for feature in range(FEW):
            for place in range(len(rows)):
                mine[feature, place] = columns[feature, rows[place]]
        for unit in range(units):
            linear = _on_linear_side(mine[0, : len(rows)], mine[1], mine[2], mine[3], planes[:, unit])
            over[box, unit] = linear == len(rows)
            cut[box, unit] = 0 < linear < len(rows)
    return over, cut


@njit(nogil=True, fastmath=True)
def _on_linear_side(first: Floats, second: Floats, third: Floats, fourth: Floats, plane: Floats) -> Any:
    found = np.float32(0)  # a float, because LLVM counts those eight at a time
    for row in range(len(first)):
        value = plane[4] + plane[0] * first[row] + plane[1] * second[row]
        value += plane[2] * third[row] + plane[3] * fourth[row]
        found += np.float32(1) if value > np.float32(0) else np.float32(0)
    return found


@njit(cache=True, nogil=True)
def fill(columns: Floats, rows: Ints, centre: Floats, planes: Floats, units: Ints, out: Floats) -> None:
    """Write what is multiplied, per flow of a box: features from its centre, 1, units that are cut, (n, 5 + cut)."""
    weights = planes[0][units], planes[1][units], planes[2][units], planes[3][units]
    bias = planes[FEW][units]
    for place in range(len(rows)):
        _relu(columns[:, rows[place]], weights, bias, out[place, FEW + 1 :])
        for feature in range(FEW):
            out[place, feature] = columns[feature, rows[place]] - centre[feature]
        out[place, FEW] = 1


@njit(nogil=True, fastmath={"contract", "nsz"})
def _relu(attr: Floats, weights: tuple[Floats, ...], bias: Floats, out: Floats) -> None:
    first, second, third, fourth = weights
    one, two, three, four = attr[0], attr[1], attr[2], attr[3]
    for unit in range(len(bias)):
        value = bias[unit] + one * first[unit] + two * second[unit] + three * third[unit] + four * fourth[unit]
        out[unit] = max(value, np.float32(0))
