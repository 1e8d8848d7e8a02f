"""Sparse matrices: CSR tensors, products with dense ones, and a square by torch alone, where numba does not reach."""

from __future__ import annotations

import warnings
from typing import Final, TypeAlias

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from eddyline.detectors.gae.kernels import Ints, array, by_group, spread

Values: TypeAlias = NDArray[np.float64]
_NARROW: Final = 8  # columns; with fewer, torch's own product is faster

with warnings.catch_warnings():  # torch says once per process that CSR is in beta: let it be said here
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    torch.eye(1).to_sparse_csr()


def csr(entries_per_row: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """A sparse matrix from entries that lie row by row; the one place that says what torch may skip checking."""
    starts = torch.cat([entries_per_row.new_zeros(1), entries_per_row.cumsum(0)])
    return torch.sparse_csr_tensor(starts, columns, values, (len(entries_per_row), width), check_invariants=False)


def entries(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and value of each entry of a CSR matrix."""
    starts = matrix.crow_indices()
    rows = torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())
    return rows, matrix.col_indices(), matrix.values()


def square(weights: Tensor, kept: Tensor, most_steps: int) -> Tensor | None:
    """((W + I)²)[kept, kept] without its diagonal, CSR; None where it takes more multiplications than `most_steps`."""
    left, right = rows_of(weights, kept), _columns(weights, kept)
    if _steps(left, right) > most_steps:
        return None
    return _product(left, right, _columns(left, kept))


def rows_of(matrix: Tensor, kept: Tensor) -> Tensor:
    """Some rows of a CSR matrix, in their order."""
    starts = matrix.crow_indices()
    counts = starts.diff()[kept]
    shift = starts[kept] - (counts.cumsum(0) - counts)
    picked = torch.arange(int(counts.sum()), device=kept.device) + shift.repeat_interleave(counts)
    return csr(counts, matrix.col_indices()[picked], matrix.values()[picked], matrix.shape[1])


def _columns(matrix: Tensor, kept: Tensor) -> Tensor:
    place = torch.full((matrix.shape[1],), -1, device=kept.device)
    place[kept] = torch.arange(len(kept), device=kept.device)
    rows, columns, values = entries(matrix)
    moved = place[columns]
    stays = moved >= 0
    return csr(torch.bincount(rows[stays], minlength=matrix.shape[0]), moved[stays], values[stays], len(kept))


def _steps(left: Tensor, right: Tensor) -> int:
    """Multiplications of `left @ right`, so also a bound on its entries."""
    through = torch.bincount(left.col_indices(), minlength=left.shape[1])
    return int((through * right.crow_indices().diff()).sum())


def _product(left: Tensor, right: Tensor, direct: Tensor) -> Tensor:
    """`left @ right + 2 direct` without its diagonal.

    By way of COO throughout: CSR products and sums of torch 2.13 on the CPU never give their memory back.
    """
    left, right, own = (matrix.to_sparse(layout=torch.sparse_coo) for matrix in (left, right, direct))
    steps = left @ right
    places = torch.cat([steps._indices(), own._indices()], 1)
    values = torch.cat([steps._values(), 2 * own._values()])
    summed = torch.sparse_coo_tensor(places, values, steps.shape, check_invariants=False).coalesce()
    product = summed.to_sparse(layout=torch.sparse_csr)
    rows, columns, values = entries(product)
    values.masked_fill_(rows == columns, 0)
    return product


def dense(matrix: Tensor) -> Tensor:
    """A CSR matrix written out; ten times as fast as `to_dense`."""
    rows, columns, values = entries(matrix)
    full = values.new_zeros(matrix.shape)
    full.view(-1)[rows * matrix.shape[1] + columns] = values
    return full


def times(weights: Tensor, x: Tensor) -> Tensor:
    """Multiply `weights` @ x, for weights dense or CSR and x (N, C); differentiable in x."""
    if not weights.is_sparse_csr or x.requires_grad or x.is_cuda or x.shape[1] < _NARROW:
        return weights @ x
    out = np.zeros((weights.shape[0], x.shape[1]), x.numpy().dtype)
    given = array(weights.crow_indices()), array(weights.col_indices()), array(weights.values()), array(x), out
    spread(lambda first, last: _times(first, last, *given), len(out), len(weights.values()) * x.shape[1])
    return torch.from_numpy(out)


def transposed(weights: Tensor) -> Tensor:
    """Turn a CSR matrix over, into another."""
    rows, columns, values = entries(weights)
    if weights.is_cuda:
        order, counts = torch.argsort(columns), torch.bincount(columns, minlength=weights.shape[1])
    else:
        order, starts = (torch.from_numpy(part) for part in by_group(array(columns), weights.shape[1]))
        counts = starts.diff()
    return csr(counts, rows[order], values[order], weights.shape[0])


@njit(cache=True, nogil=True)
def _times(first: int, last: int, starts: Ints, columns: Ints, values: Values, x: Values, out: Values) -> None:
    for row in range(first, last):
        entry = starts[row]
        while entry + 4 <= starts[row + 1]:  # four rows at a time, for each pass over `out`
            a, b, c, d = columns[entry], columns[entry + 1], columns[entry + 2], columns[entry + 3]
            _add_four(values[entry : entry + 4], x[a], x[b], x[c], x[d], out[row])
            entry += 4
        while entry < starts[row + 1]:
            _add_scaled(values[entry], x[columns[entry]], out[row])
            entry += 1


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _add_four(weights: Values, a: Values, b: Values, c: Values, d: Values, out: Values) -> None:
    first, second, third, fourth = weights[0], weights[1], weights[2], weights[3]
    for channel in range(len(out)):
        out[channel] += first * a[channel] + second * b[channel] + third * c[channel] + fourth * d[channel]


@njit(nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _add_scaled(weight: float, row: Values, out: Values) -> None:
    for channel in range(len(out)):
        out[channel] += weight * row[channel]


def returns(weights: Tensor) -> Tensor:
    """Sum of w_ij w_ji over j for every row of a CSR matrix, (N,)."""
    if weights.is_cuda:
        return returns_by_search(weights)
    forward, backward = (
        (array(matrix.crow_indices()), array(matrix.col_indices()), array(matrix.values()))
        for matrix in (weights, transposed(weights))
    )
    return torch.from_numpy(_returns(*forward, *backward))


def returns_by_search(weights: Tensor) -> Tensor:
    """The same where numba does not reach: every entry looks for the one opposite; summed in the order of entries."""
    rows, columns, values = entries(weights)
    if not len(rows):
        return values.new_zeros(len(weights))
    keys, order = torch.sort(rows * len(weights) + columns)
    opposite = columns * len(weights) + rows
    at = torch.searchsorted(keys, opposite).clamp_(max=len(keys) - 1)
    products = torch.where(keys[at] == opposite, values * values[order[at]], 0)
    return torch.segment_reduce(products, "sum", offsets=weights.crow_indices(), initial=0)


@njit(cache=True, nogil=True)
def _returns(starts: Ints, columns: Ints, values: Values, ends: Ints, sources: Ints, weights: Values) -> Values:
    found, sent = np.zeros(len(starts) - 1), np.zeros(len(starts) - 1)
    for row in range(len(found)):
        for entry in range(starts[row], starts[row + 1]):
            sent[columns[entry]] = values[entry]
        for entry in range(ends[row], ends[row + 1]):
            found[row] += sent[sources[entry]] * weights[entry]
        for entry in range(starts[row], starts[row + 1]):
            sent[columns[entry]] = 0
    return found
