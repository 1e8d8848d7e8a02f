"""The flows of a window grouped by pair, because most of the model's work depends on the pair only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from eddyline.detectors.gae.kernels import by_group
from eddyline.graphs import distinct_pairs


@dataclass(frozen=True, slots=True)
class Edges:
    """Flows in the order of their pairs; build one with `Edges.of`.

    Args:
        pairs: distinct (source, target), int64 (2, P).
        pair: the pair of each flow, int64 (E,), never falling.
        row: which row of the window each flow is, int64 (E,).
        given: features of the flows, (n, F); `place` says which row of it belongs to which flow, (E,).
        hosts: N, so that every end lies in [0, N).
    """

    pairs: Tensor
    pair: Tensor
    row: Tensor
    given: Tensor
    place: Tensor
    hosts: int
    _made: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, edge_index: Tensor, attr: Tensor, hosts: int, pairs: tuple[Tensor, Tensor] | None = None) -> Edges:
        """Group flows by pair.

        Args:
            edge_index: source row, target row, int64 (2, E).
            attr: scaled features, (E, F), on the same device.
            hosts: N.
            pairs: `FlowGraph.pairs()` where it is at hand, else it is computed here.
        """
        distinct, pair_of_edge = pairs or distinct_pairs(edge_index, hosts)
        if pair_of_edge.is_cuda:
            pair, row = torch.sort(pair_of_edge, stable=True)
            return cls(distinct, pair, row, attr, row, hosts)
        order, first = by_group(pair_of_edge.numpy(), distinct.shape[1])  # counted: sorting costs ten times as much
        row = torch.from_numpy(order)
        return cls(distinct, pair_of_edge[row], row, attr, row, hosts, {"starts": torch.from_numpy(first)})

    @property
    def attr(self) -> Tensor:
        """Features of each flow, (E, F), in the order of the pairs; copied when first asked for."""
        if "attr" not in self._made:
            self._made["attr"] = self.given[self.place]
        return self._made["attr"]

    def __len__(self) -> int:
        return len(self.pair)

    @property
    def starts(self) -> Tensor:
        """Where the flows of each pair begin, and E, int64 (P + 1,)."""
        if "starts" not in self._made:
            counts = torch.bincount(self.pair, minlength=self.pairs.shape[1])
            self._made["starts"] = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return self._made["starts"]

    def flows_per_pair(self) -> Tensor:
        """How many flows each pair has, int64 (P,)."""
        return self.starts.diff()

    def in_window_order(self, values: Tensor) -> Tensor:
        """Put one value per flow, (E,), back where the flows came from; differentiable."""
        return torch.empty_like(values).index_copy(0, self.row, values)

    def with_mean_loops(self) -> Edges:
        """Replace every flow of a host to itself by one loop per host, with the mean features of what it receives.

        That is how the published attention sees a window (PyG, `add_self_loops(fill_value="mean")`); a host that
        receives nothing gets zeros. The loops come last; `row` counts on from E for them.
        """
        proper = self.without_loops()
        own = torch.arange(self.hosts, device=self.pair.device)
        mean = _mean_received(proper)
        attr = torch.cat([proper.attr, mean])
        return Edges(
            torch.cat([proper.pairs, own.expand(2, -1)], 1),
            torch.cat([proper.pair, own + proper.pairs.shape[1]]),
            torch.cat([proper.row, own + len(self)]),
            attr,
            torch.arange(len(attr), device=own.device),
            self.hosts,
            {"attr": attr},
        )

    def without_loops(self) -> Edges:
        """Leave out every flow of a host to itself; `row` stays what it was."""
        proper = self.pairs[0] != self.pairs[1]
        if proper.all():
            return self
        stays = proper[self.pair]
        pair = (proper.cumsum(0) - 1)[self.pair[stays]]
        return Edges(self.pairs[:, proper], pair, self.row[stays], self.given, self.place[stays], self.hosts)

    def chunks(self, rows: int) -> Iterator[tuple[slice, slice, Tensor]]:
        """Up to `rows` flows at a time: the flows, their pairs, and each flow's place among those pairs.

        A pair on the border belongs to both chunks.
        """
        flows = [slice(start, min(start + rows, len(self))) for start in range(0, len(self), rows)]
        if not flows:
            return
        firsts = self.pair[::rows].tolist()  # one wait for the device, not one per chunk
        lasts = self.pair[[chunk.stop - 1 for chunk in flows]].tolist()
        for chunk, first, last in zip(flows, firsts, lasts, strict=True):
            yield chunk, slice(first, last + 1), self.pair[chunk] - first


def _mean_received(edges: Edges) -> Tensor:
    """Mean features of the flows that each host receives, (N, F), zeros where none; the same bits on every run.

    Summed by pair, then by host, in float64, for a busy host adds up a whole window; no atomics.
    """
    target, flows = edges.pairs[1], edges.flows_per_pair()
    order = torch.argsort(target, stable=True)
    received = torch.bincount(target, flows, minlength=edges.hosts)[:, None]
    ends = torch.bincount(target, minlength=edges.hosts).cumsum(0)
    by_pair = _sums(edges.attr.double(), edges.starts)
    by_host = _sums(by_pair[order], torch.cat([ends.new_zeros(1), ends]))
    return (by_host / received.clamp(min=1)).to(edges.attr.dtype)


def _sums(rows: Tensor, starts: Tensor) -> Tensor:
    """Sum groups of rows (n, F) that lie together, (groups, F)."""
    if not len(rows):
        return rows.new_zeros(len(starts) - 1, rows.shape[1])
    return torch.segment_reduce(rows, "sum", offsets=starts, initial=0)
