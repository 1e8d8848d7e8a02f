"""Who is within two steps of whom, as a Graph U-Net asks it, in bounded memory.

Every pooling joins hosts within two steps and keeps half of them: W' = offdiag((W + I)²)[kept, kept]. Here the square
over all hosts is never formed. While few enough, the entries between kept hosts are held, sparse or dense; beyond that
W' is only ever applied (W twice, less the walks that come straight home). Weights grow like the eighth power of a flow
count, past float32 (Gao and Ji, Graph U-Nets, 2019), so they are float64 until normalised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from eddyline.detectors.gae.sparse import csr, dense, entries, returns, square, times, transposed
from eddyline.detectors.gae.squares import Square, Walks

_FILLED: Final = 4  # a matrix is held dense if more than one entry in so many is there
_BY_TORCH: Final = 1 << 20  # entries of a sparse square that torch makes on the GPU
_VALUES: Final = 1 << 20  # of one array where a lazy matrix is applied
_BLOCK: Final = 128  # columns at a time where a lazy matrix is applied to unit vectors


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a pooled adjacency may get before it is only applied, never held.

    Args:
        sparse_entries: of a sparse matrix; 2^25 take 512 MiB.
        dense_entries: of a dense matrix; 2^25 take 256 MiB. Twice as many where that ends a lazy chain.
        steps: multiplications that an explicit square may take; beyond `easy_steps`, about 0.2 s on one core, hubs are
            taken out of it.
        small: hosts up to which a dense matrix is as fast as any.
    """

    sparse_entries: int = 1 << 25
    dense_entries: int = 1 << 25
    steps: int = 1 << 30
    easy_steps: int = 1 << 27
    small: int = 256


@dataclass(frozen=True, slots=True)
class Explicit:
    """Adjacency held entry by entry, but for what goes through hubs: W = weights + into out^T.

    Args:
        weights: float64 (N, N), dense or CSR, entry (i, j) the weight of j -> i. The diagonal of W is zero: that of
            `weights` takes away what the other part has there.
        into, out: float64 (N, R), where there are hubs.
    """

    weights: Tensor
    into: Tensor | None = None
    out: Tensor | None = None

    def __len__(self) -> int:
        return self.weights.shape[0]

    def receive(self, x: Tensor) -> Tensor:
        """What every host gets from its senders: W x, for float64 (N, C)."""
        direct = times(self.weights, x)
        return direct if self.into is None or self.out is None else direct + self.into @ (self.out.T @ x)

    def send(self, x: Tensor) -> Tensor:
        """What every host gets from its receivers: W^T x, for float64 (N, C)."""
        direct = times(transposed(self.weights), x) if self.weights.is_sparse_csr else self.weights.T @ x
        return direct if self.into is None or self.out is None else direct + self.out @ (self.into.T @ x)

    def around_hubs(self) -> tuple[Tensor, Tensor]:
        """Two steps of which a hub is one: (W + I)² = (weights + I)² + left right^T, float64 (N, 2 R) both."""
        if self.into is None or self.out is None:
            none = torch.empty(len(self), 0, dtype=torch.float64, device=self.weights.device)
            return none, none
        left = torch.cat([self.receive(self.into) + self.into, self.into], 1)
        return left, torch.cat([self.out, times(transposed(self.weights), self.out) + self.out], 1)

    def returns(self, hosts: Tensor) -> Tensor:
        """Weight of the walks i -> j -> i that start and end at each of `hosts` (n,), float64 (n,)."""
        if not self.weights.is_sparse_csr:
            return (self.weights * self.weights.T).sum(1)[hosts]
        found = returns(self.weights)[hosts]
        if self.into is None or self.out is None:
            return found
        left, right = self.around_hubs()
        return found + ((left * right).sum(1) - 2 * (self.into * self.out).sum(1))[hosts]


@dataclass(frozen=True, slots=True)
class TwoSteps:
    """Adjacency of the kept hosts of `inner` within two steps, never written out.

    Args:
        inner: adjacency over M hosts.
        kept: int64 (N,), which of them are left, ascending.
        closed: `inner.returns(kept)`, what has to be taken off the diagonal.
    """

    inner: Adjacency
    kept: Tensor
    closed: Tensor

    def __len__(self) -> int:
        return len(self.kept)

    def receive(self, x: Tensor) -> Tensor:
        """What every host gets from its senders: W x, for float64 (N, C)."""
        return self._twice(self.inner.receive, x)

    def send(self, x: Tensor) -> Tensor:
        """What every host gets from its receivers: W^T x, for float64 (N, C)."""
        return self._twice(self.inner.send, x)

    def _twice(self, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        spread = x.new_zeros(len(self.inner), x.shape[1]).index_copy(0, self.kept, x)
        return _two_steps(step, spread, self.kept) - self.closed[:, None] * x

    def returns(self, hosts: Tensor) -> Tensor:
        """Weight of the walks i -> j -> i that start and end at each of `hosts` (n,), float64 (n,)."""
        look: Callable[[Tensor], tuple[Tensor, Tensor]] = self._walk
        if isinstance(self.inner, Explicit) and self.inner.weights.is_sparse_csr and not hosts.is_cuda:
            look = self._look_up(self.inner)
        found = [self.closed.new_empty(0)]
        for block in torch.split(hosts, _BLOCK):
            there, back = look(block)
            found.append(there.scatter_(1, block[:, None], 0).mul_(back).sum(1))  # W has nothing on its diagonal
        return torch.cat(found)

    def _walk(self, hosts: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns of W for some hosts, (n, N) both, by applying it."""
        unit = self.closed.new_zeros(len(self), len(hosts))
        unit[hosts, torch.arange(len(hosts), device=hosts.device)] = 1
        return self._twice(self.inner.send, unit).T, self._twice(self.inner.receive, unit).T

    def _look_up(self, inner: Explicit) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        """The same but for the diagonal, from entries: a hundred times as fast where those are few."""
        weights, (left, right) = inner.weights, inner.around_hubs()
        forward, backward = Walks.of(weights, self.kept), Walks.of(transposed(weights), self.kept)

        def look(hosts: Tensor) -> tuple[Tensor, Tensor]:
            mine = self.kept[hosts]
            there = forward.add_to(left[mine] @ right[self.kept].T, mine)
            return there, backward.add_to(right[mine] @ left[self.kept].T, mine)

        return look


Adjacency: TypeAlias = Explicit | TwoSteps


def _two_steps(step: Callable[[Tensor], Tensor], x: Tensor, kept: Tensor) -> Tensor:
    """Rows `kept` of ((W + I)² - I) x, or of its transpose."""
    once = step(x)
    return (step(once) + 2 * once)[kept]


def adjacency_of(pairs: Tensor, flows: Tensor, hosts: int, limits: Limits) -> Explicit:
    """Adjacency of a window: entry (i, j) counts the flows j -> i; flows of a host to itself are left out.

    Args:
        pairs: distinct (source, target), int64 (2, P).
        flows: how many flows each pair has, (P,).
        hosts: N.
        limits: how many of them make a dense matrix.
    """
    proper = pairs[0] != pairs[1]
    source, target = pairs[:, proper]
    if hosts <= limits.small:
        weights = torch.zeros(hosts, hosts, dtype=torch.float64, device=pairs.device)
        weights[target, source] = flows[proper].double()
        return Explicit(weights)
    order = torch.argsort(target)
    values = flows[proper].double()[order]
    return Explicit(csr(torch.bincount(target, minlength=hosts), source[order], values, hosts))


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
        found = (_by_torch if kept.is_cuda else _by_rows)(adjacency, kept, limits, fits)
        if found is not None:
            return found
    if fits:
        return Explicit(_by_blocks(adjacency, kept))
    return TwoSteps(adjacency, kept, adjacency.returns(kept))


def _by_rows(adjacency: Explicit, kept: Tensor, limits: Limits, fits: bool) -> Explicit | None:
    """The square of a sparse matrix, dense where that is little or much of it is filled; None where it is too large."""
    plan = Square.of(adjacency.weights, kept, limits.easy_steps)
    full = len(kept) ** 2
    if fits and (len(kept) <= limits.small or plan.steps > full or plan.entries > limits.sparse_entries):
        if adjacency.into is None:
            return Explicit(Square.of(adjacency.weights, kept).dense())
        return Explicit(_by_blocks(adjacency, kept))
    if plan.entries > limits.sparse_entries or plan.steps > limits.steps:
        return None
    weights = csr(*plan.sparse(), len(kept))
    if adjacency.into is None and not plan.walks.hub.any():
        if fits and _FILLED * len(weights.values()) > full:
            return Explicit(dense(weights))
        return Explicit(weights)
    into, out = plan.hubs()
    left, right = adjacency.around_hubs()
    into, out = torch.cat([into, left[kept]], 1), torch.cat([out, right[kept]], 1)
    return Explicit(_with_diagonal(weights, -(into * out).sum(1)), into, out)


def _with_diagonal(weights: Tensor, diagonal: Tensor) -> Tensor:
    """Put one more entry into each row of a CSR matrix that has none on its diagonal."""
    rows, columns, values = entries(weights)
    own = torch.arange(len(diagonal))
    order = torch.argsort(torch.cat([rows, own]), stable=True)
    counts = weights.crow_indices().diff() + 1
    return csr(counts, torch.cat([columns, own])[order], torch.cat([values, diagonal])[order], len(diagonal))


def _by_torch(adjacency: Explicit, kept: Tensor, limits: Limits, fits: bool) -> Explicit | None:
    found = square(adjacency.weights, kept, limits.dense_entries if fits else min(limits.sparse_entries, _BY_TORCH))
    if found is None:
        return None
    much = _FILLED * len(found.values()) > len(kept) ** 2 or len(found.values()) > limits.sparse_entries
    return Explicit(dense(found) if fits and much else found)


def _by_blocks(adjacency: Adjacency, kept: Tensor) -> Tensor:
    product = torch.empty(len(kept), len(kept), dtype=torch.float64, device=kept.device)
    for start in range(0, len(kept), _BLOCK):
        block = kept[start : start + _BLOCK]
        unit = product.new_zeros(len(adjacency), len(block))
        unit[block, torch.arange(len(block), device=kept.device)] = 1
        product[:, start : start + len(block)] = _two_steps(adjacency.receive, unit, kept)
    return product.fill_diagonal_(0)


@dataclass(frozen=True, slots=True)
class Smoothing:
    """One graph convolution's neighbourhood: x -> D^-1/2 (W + diag(loops)) D^-1/2 x (Kipf and Welling, 2017).

    Linear in x and differentiable; the weights themselves are constants of the window.

    Args:
        edges: the normalised weights in x's type, dense with the loops or CSR without; or a lazy adjacency, not
            normalised.
        loops: what of its own value every host keeps, (N, 1).
        scale: D^-1/2, float64 (N, 1), needed for a lazy adjacency only.
    """

    edges: Tensor | Adjacency
    loops: Tensor
    scale: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Smooth x (N, C) along the edges."""
        if isinstance(self.edges, Tensor):
            whole = times(self.edges, x)
            return whole + self.loops * x if self.edges.is_sparse_csr else whole
        parts = torch.split(x, max(8, _VALUES // len(x)), 1)  # fresh memory costs more than the sums
        received = [(self.scale * self.edges.receive(self.scale * part.double())).to(x.dtype) for part in parts]
        return torch.cat(received, 1) + self.loops * x


def smoothing(adjacency: Adjacency, loops: Tensor, dtype: torch.dtype) -> Smoothing:
    """Normalise `adjacency` with self-loop weights `loops`, float64 (N,); D are its weighted in-degrees."""
    degree = adjacency.receive(torch.ones_like(loops)[:, None])[:, 0] + loops
    scale, kept = degree.rsqrt(), (loops / degree)[:, None]
    return Smoothing(_normalised(adjacency, scale, kept, dtype), kept.to(dtype), scale[:, None])


def _normalised(adjacency: Adjacency, scale: Tensor, kept: Tensor, dtype: torch.dtype) -> Tensor | Adjacency:
    if isinstance(adjacency, TwoSteps) or adjacency.into is not None:
        return adjacency
    weights = adjacency.weights
    if not weights.is_sparse_csr:
        full = (weights * scale).mul_(scale[:, None])
        full.diagonal().add_(kept[:, 0])
        return full.to(dtype)
    counts, columns = weights.crow_indices().diff(), weights.col_indices()
    values = (weights.values() * scale[columns]).mul_(scale.repeat_interleave(counts))
    return csr(counts, columns, values.to(dtype), len(scale))
