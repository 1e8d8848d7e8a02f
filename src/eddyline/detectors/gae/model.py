"""The guided graph autoencoder: node features and flows of a window in, one logit per flow out.

    x (N, D) --attention over flows--> ELU, BatchNorm --Graph U-Net--> z (N, H)
    z_source * z_target, flow features, mean of the window's features --MLP--> logit: is this flow usual?

Attention is GATv2 with edge features (Brody et al., 2022), the U-Net is Gao and Ji's (2019) with improved GCN steps,
and layers, sizes and results are those of NVIDIA's published `gnn-netflow-ad`; the arithmetic is arranged differently.
What depends on the window is computed once per window, what depends on the pair once per pair, and nothing as wide as
a hidden layer is ever held for all flows at once. One window is one graph: pooling never ranks hosts of two windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eddyline.detectors.gae import compiled, fused
from eddyline.detectors.gae.adjacency import Adjacency, Limits, Smoothing, adjacency_of, pooled, smoothing
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.kernels import array, mean_of, usable
from eddyline.detectors.gae.sparse import csr
from eddyline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Sizes:
    """How wide and deep; the defaults are the published ones.

    Args:
        in_channels: D, node features. hidden: H. heads: of the attention. edge_dim: F, features per flow.
        global_dim: width of the window's summary. depth: poolings. ratio: share of the hosts kept by each.
    """

    in_channels: int = 32
    hidden: int = 256
    heads: int = 4
    edge_dim: int = 3
    global_dim: int = 128
    depth: int = 3
    ratio: float = 0.5

    def __post_init__(self) -> None:
        least = min(self.in_channels, self.hidden, self.heads, self.edge_dim, self.global_dim, self.depth)
        if least < 1 or not 0 < self.ratio < 1:
            raise ConfigError(f"gae: sizes {self} are impossible; counts are at least 1 and 0 < ratio < 1")


class GuidedGae(nn.Module):
    """One window in, one logit per flow out; differentiable throughout, and exact at any chunk size.

    In eval mode a window's result depends on nothing but the window and the weights. In train mode BatchNorm uses the
    statistics of the windows encoded together, and needs two hosts among them at least.

    Args:
        sizes: of the layers.
        chunk: most values of one intermediate array, see `fused.chunk_for`; results do not depend on it.
    """

    def __init__(self, sizes: Sizes | None = None, chunk: int = 1 << 18) -> None:
        super().__init__()
        self.sizes = sizes = sizes or Sizes()
        self.attention = Attention(sizes, chunk)
        self.norm = nn.BatchNorm1d(sizes.heads * sizes.hidden)
        self.unet = GraphUNet(sizes)
        self.summarize = nn.Sequential(
            nn.Linear(sizes.edge_dim, sizes.global_dim), nn.ReLU(), nn.Linear(sizes.global_dim, sizes.global_dim)
        )
        self.decoder = Decoder(sizes, chunk)

    def encode(self, windows: Sequence[tuple[Tensor, Edges]]) -> list[Tensor]:
        """Embed the hosts of several windows: z (N, H) per window, pooled per window, normalised together.

        Args:
            windows: node features (N, D) and flows of each.
        """
        attended = [F.elu(self.attention(x, edges)) for x, edges in windows]
        normal = self.norm(torch.cat(attended)).split([len(x) for x in attended])
        return [self.unet(x, edges) for x, (_, edges) in zip(normal, windows, strict=True)]

    def embed(self, x: Tensor, edges: Edges) -> Tensor:
        """Embed the hosts of one window: node features (N, D) to z (N, H)."""
        return self.encode([(x, edges)])[0]

    def summary(self, attr: Tensor) -> Tensor:
        """Condense the features of a window's flows, (E, F) in any order, to one vector (G,)."""
        mean = torch.from_numpy(mean_of(array(attr))) if usable(attr) else attr.double().mean(0).to(attr.dtype)
        found: Tensor = self.summarize(mean)
        return found

    def logits(self, z: Tensor, edges: Edges, summary: Tensor) -> Tensor:
        """Judge flows, or candidates that never were flows: one logit each, (E,), in the window's order, high = usual.

        Args:
            z: host embeddings (N, H). edges: what to judge. summary: of the window that the judgement is about, (G,).
        """
        found: Tensor = self.decoder(z, edges, summary)
        return found

    @torch.no_grad()
    def score(self, x: Tensor, edges: Edges) -> Tensor:
        """Score the flows of one window: 1 - sigmoid(logit), (E,), in the window's order, high = anomalous."""
        return torch.sigmoid(-self.logits(self.embed(x, edges), edges, self.summary(edges.given)))


class Attention(nn.Module):
    """GATv2 with edge features: (N, D) and flows to (N, heads * hidden).

    logit(flow) = att · leaky_relu(L x_source + R x_target + M attr); a host sums L x_source over its incoming flows,
    weighted by the softmax of their logits. Self loops: `Edges.with_mean_loops`.
    """

    def __init__(self, sizes: Sizes, chunk: int) -> None:
        super().__init__()
        width = sizes.heads * sizes.hidden
        self.rows = max(1, chunk // width)
        self.source = nn.Linear(sizes.in_channels, width)
        self.target = nn.Linear(sizes.in_channels, width)
        self.flow = nn.Linear(sizes.edge_dim, width, bias=False)
        self.att = nn.Parameter(torch.empty(sizes.heads, sizes.hidden))
        self.bias = nn.Parameter(torch.zeros(width))
        for layer in (self.source, self.target, self.flow):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.xavier_uniform_(self.att)

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Attend: node features (N, D) to (N, heads * hidden)."""
        by_kernels = fused.usable(x, edges.given)
        if usable(x, edges.given) and not by_kernels:
            layers = self.source, self.target, self.flow
            return compiled.attention(x, edges, layers, self.att, self.rows).add_(self.bias)
        edges = edges.with_mean_loops()
        sent, met = self.source(x), self.target(x)
        if by_kernels:
            weights = fused.attention_weights(sent, met, edges, self.flow.weight, self.att)
        else:
            weights = _softmax_by_pair(self._logits(sent, met, edges), edges)
        return _mix(weights, sent, edges) + self.bias

    def _logits(self, sent: Tensor, met: Tensor, edges: Edges) -> Tensor:
        found = [sent.new_empty(0, len(self.att))]
        space = _Workspace(sent, self.rows)
        for flows, pairs, place in edges.chunks(self.rows):
            source, target = edges.pairs[:, pairs]
            of_pair = space.rows_of(sent, source, 0).add_(space.rows_of(met, target, 1))
            rows = space.rows_of(of_pair, place, 1).addmm_(edges.attr[flows], self.flow.weight.T)
            by_head = F.leaky_relu_(rows, 0.2).view(len(rows), *self.att.shape)
            found.append(torch.stack([by_head[:, head] @ att for head, att in enumerate(self.att)], 1))
        return torch.cat(found)


class _Workspace:
    """Two arrays that all chunks share while nothing is differentiated: fresh memory would cost more than the sums."""

    def __init__(self, like: Tensor, rows: int) -> None:
        self.arrays = None if torch.is_grad_enabled() else like.new_empty(2, rows, like.shape[1])

    def rows_of(self, table: Tensor, index: Tensor, which: int) -> Tensor:
        """table[index], which may overwrite the last rows given from array `which`."""
        out = None if self.arrays is None else self.arrays[which, : len(index)]
        return torch.index_select(table, 0, index, out=out)


def _softmax_by_pair(logits: Tensor, edges: Edges) -> Tensor:
    """Softmax of (E, heads) over what each host receives, summed over the flows of a pair: (P, heads)."""
    heads = logits.shape[1]
    receiver = edges.pairs[1]
    of_flow = receiver[edges.pair]
    lowest = logits.new_full((edges.hosts, heads), -torch.inf)
    peak = lowest.scatter_reduce(0, of_flow[:, None].expand(-1, heads), logits.detach(), "amax")
    share = torch.exp(logits - peak[of_flow])
    of_pair = share.new_zeros(len(receiver), heads).index_add(0, edges.pair, share)
    total = share.new_zeros(edges.hosts, heads).index_add(0, receiver, of_pair)
    return of_pair / total[receiver]


def _mix(weights: Tensor, sent: Tensor, edges: Edges) -> Tensor:
    """What every host receives: per head the sum of `sent` (N, heads * hidden) over its pairs, weighted (P, heads)."""
    source, target = edges.pairs
    heads = weights.shape[1]
    by_head = sent.view(len(sent), heads, sent.shape[1] // heads)
    if weights.requires_grad:  # the gradient of a weight needs its message
        return torch.zeros_like(by_head).index_add(0, target, weights[:, :, None] * by_head[source]).view_as(sent)
    order = torch.argsort(target)
    entries, source, weights = torch.bincount(target, minlength=len(sent)), source[order], weights[order].T.contiguous()
    mixed = torch.empty_like(by_head)
    for head in range(heads):
        mixed[:, head] = csr(entries, source, weights[head], len(sent)) @ by_head[:, head]
    return mixed.view_as(sent)


class GraphUNet(nn.Module):
    """Halve the hosts `depth` times and put them back, smoothing at every size: (N, heads * hidden) to (N, hidden)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.hidden
        self.ratio = sizes.ratio
        self.limits = Limits()
        self.down = nn.ModuleList(
            [GcnStep(width if level else sizes.heads * width, width) for level in range(sizes.depth + 1)]
        )
        self.rank = nn.ParameterList([_uniform(1, width) for _ in range(sizes.depth)])
        self.up = nn.ModuleList([GcnStep(width, width) for _ in range(sizes.depth)])

    def forward(self, x: Tensor, edges: Edges) -> Tensor:
        """Smooth at every size: (N, heads * hidden) to (N, hidden)."""
        adjacency: Adjacency = adjacency_of(edges.pairs, edges.flows_per_pair(), edges.hosts, self.limits)
        smooth = smoothing(adjacency, _first_loops(edges), x.dtype)
        x = F.relu(self.down[0](x, smooth))
        levels: list[tuple[Tensor, Smoothing, Tensor]] = []
        for conv, rank in zip(self.down[1:], self.rank, strict=True):
            kept, gate = self._top(x, rank)
            levels.append((x, smooth, kept))
            adjacency = pooled(adjacency, kept, self.limits)
            smooth = smoothing(adjacency, torch.full_like(kept, 2, dtype=torch.float64), x.dtype)
            x = F.relu(conv(x[kept] * gate[:, None], smooth))
        for conv in self.up:
            wide, smooth, kept = levels.pop()
            x = conv(wide.index_add(0, kept, x), smooth)
            x = F.relu(x) if levels else x
        return x

    def _top(self, x: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
        """The hosts that stay, ascending, and the gate of each: the tanh of its rank, so its gradient trains `rank`."""
        score = torch.tanh((x * rank).sum(-1) / rank.norm())
        best = torch.sort(score.detach(), descending=True).indices[: ceil(self.ratio * len(x))]
        kept = torch.sort(best).values
        return kept, score[kept]


class GcnStep(nn.Module):
    """One graph convolution: mix channels, smooth along edges, add a bias."""

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(narrow, wide))
        self.bias = nn.Parameter(torch.zeros(narrow))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, x: Tensor, smooth: Smoothing) -> Tensor:
        """(N, wide) to (N, narrow)."""
        return smooth(F.linear(x, self.weight)) + self.bias


def _first_loops(edges: Edges) -> Tensor:
    """Weight of each host's self loop before any pooling: 2, but 1 where a flow to itself is already there."""
    source, target = edges.pairs
    loops = torch.full((edges.hosts,), 2.0, dtype=torch.float64, device=source.device)
    loops[source[source == target]] = 1.0
    return loops


def _uniform(rows: int, columns: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, columns).uniform_(-1 / sqrt(columns), 1 / sqrt(columns)))


class Decoder(nn.Module):
    """Logit of a flow from its two hosts, its features and the window's summary.

    The first layer is linear in three parts side by side, so the hosts' part is computed once per pair, the window's
    part once, and only the features' part per flow.

    `products` may be set to torch.bfloat16: while nothing is differentiated, the first layer then multiplies in it,
    for the same ranking by and large; `kernels.bfloat16_is_fast` says where that pays.
    """

    def __init__(self, sizes: Sizes, chunk: int) -> None:
        super().__init__()
        width = sizes.hidden
        self.rows = max(1, chunk // (3 * width))
        self.products, self.precision = torch.float32, fused.EXACT
        self.fc_edge = nn.Linear(sizes.edge_dim, width)
        self.fc_global = nn.Linear(sizes.global_dim, width)
        self.fc1 = nn.Linear(3 * width, 3 * width)
        self.fc = nn.Linear(3 * width, 1)

    def forward(self, z: Tensor, edges: Edges, summary: Tensor) -> Tensor:
        """Judge every flow: z (N, hidden) to logits (E,) in the window's order."""
        of_hosts, of_flow, of_window = torch.split(self.fc1.weight.T, z.shape[1])
        constant = torch.addmv(self.fc1.bias, of_window.T, F.relu(self.fc_global(summary)))
        by_kernels = fused.usable(z, edges.given)
        if by_kernels or usable(z, edges.given):
            parts = of_hosts.to(self.products).contiguous(), of_flow.to(self.products).contiguous()
            layers = self.fc_edge, *parts, self.fc
            if by_kernels:
                return fused.decode(z, edges, constant, layers, self.precision)
            return compiled.decode(z, edges, constant, layers, self.rows)
        found = [z.new_empty(0)]
        space = _Workspace(constant[None], self.rows)
        for flows, pairs, place in edges.chunks(self.rows):
            source, target = edges.pairs[:, pairs]
            of_pair = torch.addmm(constant, z.index_select(0, source) * z.index_select(0, target), of_hosts)
            rows = space.rows_of(of_pair, place, 0).addmm_(F.relu_(self.fc_edge(edges.attr[flows])), of_flow)
            found.append(self.fc(F.elu_(rows))[:, 0])
        return edges.in_window_order(torch.cat(found))
