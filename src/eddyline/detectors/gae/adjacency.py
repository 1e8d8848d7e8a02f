"""Who is within two steps of whom, as a Graph U-Net asks it, in bounded memory.

Every pooling joins hosts within two steps and keeps half of them: W' = offdiag((W + I)²)[kept, kept]. Here the square
over all hosts is never formed. While few enough, the entries between kept hosts are held, sparse or dense; beyond that
W' is only ever applied (W twice, less the walks that come straight home). Weights grow like the eighth power of a flow
count, past float32 (Gao and Ji, Graph U-Nets, 2019), so they are float64 until normalised.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

_BLOCK: Final = 128  # columns at a time where a lazy matrix is applied to unit vectors

with warnings.catch_warnings():  # torch says once per process that CSR is in beta: let it be said here
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    torch.eye(1).to_sparse_csr()


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a pooled adjacency may get before it is only applied, never held.

    Args:
        sparse_entries: of a sparse matrix. Beyond about a million, applying A twice is cheaper than the entries are,
            and the next square of so many entries would take minutes.
        dense_entries: of a dense matrix; 2^25 take 256 MiB. Twice as many where that ends a lazy chain.
    """

    sparse_entries: int = 1 << 20
    dense_entries: int = 1 << 25


@dataclass(frozen=True, slots=True)
class Explicit:
    """Adjacency held entry by entry.

    Args:
        weights: float64 (N, N), dense or CSR, entry (i, j) the weight of j -> i, nothing on the diagonal.
    """

    weights: Tensor

    def __len__(self) -> int:
        return self.weights.shape[0]

    def receive(self, x: Tensor) -> Tensor:
        """What every host gets from its senders: W x, for float64 (N, C)."""
        return self.weights @ x

    def returns(self) -> Tensor:
        """Weight of the walks i -> j -> i that start and end at each host, float64 (N,)."""
        if not self.weights.is_sparse_csr:
            return (self.weights * self.weights.T).sum(1)
        rows, columns, values = _entries(self.weights)
        there, order = torch.sort(rows * len(self) + columns)
        back = columns * len(self) + rows
        place = torch.searchsorted(there, back).clamp(max=max(len(there) - 1, 0))
        twin = torch.where(there[place] == back, values[order[place]], 0)
        return values.new_zeros(len(self)).index_add(0, rows, values * twin)


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """Adjacency of the kept hosts of `inner` within two steps, never written out.

    Args:
        inner: adjacency over M hosts.
        kept: int64 (N,), which of them are left, ascending.
        closed: `inner.returns()[kept]`, what has to be taken off the diagonal.
    """

    inner: Adjacency
    kept: Tensor
    closed: Tensor

    def __len__(self) -> int:
        return len(self.kept)

    def receive(self, x: Tensor) -> Tensor:
        """What every host gets from its senders: W x, for float64 (N, C)."""
        spread = x.new_zeros(len(self.inner), x.shape[1]).index_copy(0, self.kept, x)
        return _two_steps(self.inner, spread, self.kept) - self.closed[:, None] * x

    def returns(self) -> Tensor:
        """Weight of the walks i -> j -> i that start and end at each host, float64 (N,)."""
        found = torch.empty_like(self.closed)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(self)))
            diagonal = torch.arange(block.stop - start, device=self.kept.device)
            unit = self.closed.new_zeros(len(self), len(diagonal))
            unit[start + diagonal, diagonal] = 1
            once = self.receive(unit)
            once[start + diagonal, diagonal] = 0  # exactly, whatever rounding left
            found[block] = self.receive(once)[start + diagonal, diagonal]
        return found


Adjacency: TypeAlias = Explicit | TwoSteps


def _two_steps(inner: Adjacency, x: Tensor, kept: Tensor) -> Tensor:
    """Rows `kept` of ((W + I)² - I) x."""
    once = inner.receive(x)
    return (inner.receive(once) + 2 * once)[kept]


def adjacency_of(pairs: Tensor, flows: Tensor, hosts: int) -> Explicit:
    """Adjacency of a window: entry (i, j) counts the flows j -> i; flows of a host to itself are left out.

    Args:
        pairs: distinct (source, target), int64 (2, P).
        flows: how many flows each pair has, (P,).
        hosts: N.
    """
    proper = pairs[0] != pairs[1]
    source, target = pairs[:, proper]
    order = torch.argsort(target)
    values = flows[proper].double()[order]
    return Explicit(csr(torch.bincount(target, minlength=hosts), source[order], values, hosts))


def csr(entries_per_row: Tensor, columns: Tensor, values: Tensor, width: int) -> Tensor:
    """A sparse matrix from entries that lie row by row; the one place that says what torch may skip checking."""
    starts = torch.cat([entries_per_row.new_zeros(1), entries_per_row.cumsum(0)])
    return torch.sparse_csr_tensor(starts, columns, values, (len(entries_per_row), width), check_invariants=False)


def _entries(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    starts = matrix.crow_indices()
    rows = torch.arange(len(starts) - 1, device=starts.device).repeat_interleave(starts.diff())
    return rows, matrix.col_indices(), matrix.values()


def pooled(adjacency: Adjacency, kept: Tensor, limits: Limits) -> Adjacency:
    """Adjacency of the hosts `kept` (int64, ascending) within two steps: offdiag((W + I)²)[kept, kept].

    Exact in float64 whichever form comes out; the form is chosen by the work and the memory that it takes.
    """
    if isinstance(adjacency, Explicit) and not adjacency.weights.is_sparse_csr:
        left = adjacency.weights[kept]
        product = left @ adjacency.weights[:, kept] + 2 * left[:, kept]
        return Explicit(product.fill_diagonal_(0))
    fits = len(kept) ** 2 <= limits.dense_entries * (2 if isinstance(adjacency, TwoSteps) else 1)
    if isinstance(adjacency, Explicit):
        left, right = _rows(adjacency.weights, kept), _columns(adjacency.weights, kept)
        if _steps(left, right) <= (limits.dense_entries if fits else limits.sparse_entries):
            return Explicit(_sparse_product(left, right, _columns(left, kept), limits))
    if fits:
        return Explicit(_by_blocks(adjacency, kept))
    return TwoSteps(adjacency, kept, adjacency.returns()[kept])


def _rows(matrix: Tensor, kept: Tensor) -> Tensor:
    starts = matrix.crow_indices()
    counts = starts.diff()[kept]
    shift = starts[kept] - (counts.cumsum(0) - counts)
    picked = torch.arange(int(counts.sum()), device=kept.device) + shift.repeat_interleave(counts)
    return csr(counts, matrix.col_indices()[picked], matrix.values()[picked], matrix.shape[1])


def _columns(matrix: Tensor, kept: Tensor) -> Tensor:
    place = torch.full((matrix.shape[1],), -1, device=kept.device)
    place[kept] = torch.arange(len(kept), device=kept.device)
    rows, columns, values = _entries(matrix)
    moved = place[columns]
    stays = moved >= 0
    return csr(torch.bincount(rows[stays], minlength=matrix.shape[0]), moved[stays], values[stays], len(kept))


def _steps(left: Tensor, right: Tensor) -> int:
    """Multiplications of `left @ right`, so also a bound on its entries."""
    through = torch.bincount(left.col_indices(), minlength=left.shape[1])
    return int((through * right.crow_indices().diff()).sum())


def _sparse_product(left: Tensor, right: Tensor, direct: Tensor, limits: Limits) -> Tensor:
    """`left @ right + 2 direct` without its diagonal, CSR or dense.

    By way of COO throughout: CSR products and sums of torch 2.13 on the CPU never give their memory back.
    """
    left, right, own = (matrix.to_sparse(layout=torch.sparse_coo) for matrix in (left, right, direct))
    steps = left @ right
    places = torch.cat([steps._indices(), own._indices()], 1)
    values = torch.cat([steps._values(), 2 * own._values()])
    summed = torch.sparse_coo_tensor(places, values, steps.shape, check_invariants=False).coalesce()
    product = summed.to_sparse(layout=torch.sparse_csr)
    entries, full = product.values().numel(), product.shape[0] ** 2
    if full <= limits.dense_entries and (8 * entries > full or entries > limits.sparse_entries):
        return _dense(product).fill_diagonal_(0)
    rows, columns, values = _entries(product)
    values.masked_fill_(rows == columns, 0)
    return product


def _dense(matrix: Tensor) -> Tensor:
    rows, columns, values = _entries(matrix)
    full = values.new_zeros(matrix.shape)
    full.view(-1)[rows * matrix.shape[1] + columns] = values  # ten times as fast as `to_dense`
    return full


def _by_blocks(adjacency: Adjacency, kept: Tensor) -> Tensor:
    product = torch.empty(len(kept), len(kept), dtype=torch.float64, device=kept.device)
    for start in range(0, len(kept), _BLOCK):
        block = kept[start : start + _BLOCK]
        unit = product.new_zeros(len(adjacency), len(block))
        unit[block, torch.arange(len(block), device=kept.device)] = 1
        product[:, start : start + len(block)] = _two_steps(adjacency, unit, kept)
    return product.fill_diagonal_(0)


@dataclass(frozen=True, slots=True)
class Smoothing:
    """One graph convolution's neighbourhood: x -> D^-1/2 (W + diag(loops)) D^-1/2 x (Kipf and Welling, 2017).

    Linear in x and differentiable; the weights themselves are constants of the window.

    Args:
        edges: the normalised weights in x's type, dense or CSR; or a lazy adjacency, not normalised.
        loops: what of its own value every host keeps, (N, 1).
        scale: D^-1/2, float64 (N, 1), needed for a lazy adjacency only.
    """

    edges: Tensor | TwoSteps
    loops: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Smooth x (N, C) along the edges."""
        if isinstance(self.edges, TwoSteps):
            received = (self.scale * self.edges.receive(self.scale * x.double())).to(x.dtype)
        else:
            received = self.edges @ x
        return received + self.loops * x


def smoothing(adjacency: Adjacency, loops: Tensor, dtype: torch.dtype) -> Smoothing:
    """Normalise `adjacency` with self-loop weights `loops`, float64 (N,); D are its weighted in-degrees."""
    degree = adjacency.receive(torch.ones_like(loops)[:, None])[:, 0] + loops
    scale = degree.rsqrt()
    return Smoothing(_normalised(adjacency, scale, dtype), (loops / degree).to(dtype)[:, None], scale[:, None])


def _normalised(adjacency: Adjacency, scale: Tensor, dtype: torch.dtype) -> Tensor | TwoSteps:
    if isinstance(adjacency, TwoSteps):
        return adjacency
    weights = adjacency.weights
    if not weights.is_sparse_csr:
        return (weights * scale).mul_(scale[:, None]).to(dtype)
    rows, columns, values = _entries(weights)
    return csr(weights.crow_indices().diff(), columns, (values * scale[rows] * scale[columns]).to(dtype), len(scale))
