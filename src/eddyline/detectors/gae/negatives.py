"""Flows that were not there, and what else tells one recipe from another: features and sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.features import TITLES, Feature, Transform, excess, raw_features
from eddyline.detectors.gae.model import Sizes
from eddyline.graphs import FlowGraph

Features: TypeAlias = tuple[Feature, ...]
PUBLISHED: Final = ("bytes", "rev_bytes", "duration_us")
SERVICES: Final = (22, 25, 53, 80, 88, 123, 161, 389, 443, 445, 993, 3389)  # destination ports told apart one by one
PROTOCOLS: Final = (1, 6, 17, 58)

_EXCESS: Final = 2.0  # standard deviations above the mean of a quantity from where on it counts twice
_KINDS: Final = (0.3, 0.5, 0.8)  # up to here: other hosts, features of another flow, single features; then scaled
_BEYOND: Final = (-2.5, 6.5)  # single features are drawn between these, in standard deviations
_SCALED: Final = (3.0, 9.0)  # a direction is scaled up by a factor with its natural logarithm between these


@dataclass(frozen=True, slots=True)
class Recipe:
    """What differs between recipes.

    Args:
        features: fits the features on training windows.
        sizes: of the model; the number of features is put in later.
        negatives: (edges, generator, features) to as many flows that were not there, or fewer.
        surroundings: (edges, generator, features) to the window that hosts are embedded in while flows are judged.
    """

    features: Callable[[Sequence[FlowGraph]], Features]
    sizes: Sizes
    negatives: Callable[..., Edges]
    surroundings: Callable[..., Edges]


def published_features(graphs: Sequence[FlowGraph]) -> Features:
    """Bytes each way and duration, standardised as they are."""
    return _fitted(graphs, [(name, "identity", 0.0) for name in PUBLISHED])


def eddyline_features(graphs: Sequence[FlowGraph]) -> Features:
    """Logarithms of all counters and counts, then one column per service, per protocol, and for a missing reply."""
    wanted: list[tuple[str, Transform, float]] = [(name, "log", 0.0) for name in TITLES]
    wanted += [(name, "excess", _EXCESS) for name in TITLES]
    wanted += [("dst_port", "equals", float(port)) for port in SERVICES]
    wanted += [("proto", "equals", float(proto)) for proto in PROTOCOLS]
    return _fitted(graphs, [*wanted, ("rev_packets", "equals", 0.0)])


def _fitted(graphs: Sequence[FlowGraph], wanted: Sequence[tuple[str, Transform, float]]) -> Features:
    windows = [raw_features(graph, [name for name, *_ in wanted]) for graph in graphs]
    values = {name: torch.cat([window[name].cpu() for window in windows]) for name in windows[0]}
    return tuple(Feature.fit(name, transform, values[name], value) for name, transform, value in wanted)


def strangers(edges: Edges, generator: torch.Generator, features: Sequence[Feature]) -> Edges:
    """Random pairs of hosts without a flow between them, with the mean flow's features, as published.

    As many as there are flows; fewer where the window is nearly complete, so that most draws meet.
    """
    drawn = torch.randint(edges.hosts, (2, len(edges)), generator=generator).to(edges.pairs.device)
    known = edges.pairs[0] * edges.hosts + edges.pairs[1]
    drawn = drawn[:, ~torch.isin(drawn[0] * edges.hosts + drawn[1], known)]
    return Edges.of(drawn, edges.attr.new_zeros(drawn.shape[1], len(features)), edges.hosts)


def near_misses(edges: Edges, generator: torch.Generator, features: Sequence[Feature]) -> Edges:
    """One negative per flow, wrong in one respect drawn at random; never from another window."""
    flows, device = len(edges), edges.attr.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    kind = uniform(flows)
    moved = (kind < _KINDS[0]) & (uniform(2, flows) < torch.tensor([[0.3], [0.8]], device=device))
    anyone = torch.randint(edges.hosts, (2, flows), generator=generator).to(device)
    ends = torch.where(moved, anyone, edges.pairs[:, edges.pair])

    other = edges.attr[torch.randint(flows, (flows,), generator=generator).to(device)]
    swapped = (kind >= _KINDS[0]) & (kind < _KINDS[1])
    attr = torch.where(swapped[:, None], other, edges.attr)

    quantities = torch.tensor([feature.explained for feature in features], device=device)
    few = uniform(flows, 1) * 0.6 + 0.05  # from one feature to most of them
    drawn = (uniform(flows, len(features)) < few) & quantities & ((kind >= _KINDS[1]) & (kind < _KINDS[2]))[:, None]
    low, high = _BEYOND
    attr = torch.where(drawn, low + (high - low) * uniform(flows, len(features)), attr)

    more = torch.where((kind >= _KINDS[2])[:, None], _more(uniform, flows, features), torch.zeros_like(attr))
    return Edges.of(ends, _consistent(attr + more, features), edges.hosts)


def _more(uniform: Callable[..., Tensor], flows: int, features: Sequence[Feature]) -> Tensor:
    """What scaling up one direction of an exchange adds to its features: bytes, packets, and some of the duration."""
    by = _SCALED[0] + (_SCALED[1] - _SCALED[0]) * uniform(flows)
    out = (uniform(flows) < 0.65).float()  # more often what is sent: data theft is the case that matters
    parts = {
        "bytes": by * out,
        "packets": 0.9 * by * out,
        "rev_bytes": by * (1 - out),
        "rev_packets": 0.9 * by * (1 - out),
    }
    parts["duration_us"] = 0.3 * by * uniform(flows)
    none = torch.zeros_like(by)
    columns = [parts.get(f.name, none) / f.scale if f.transform == "log" else none for f in features]
    return torch.stack(columns, 1)


def _consistent(attr: Tensor, features: Sequence[Feature]) -> Tensor:
    """Recompute every `excess` column from the `log` column of the same name, (E, F)."""
    place = {feature.name: column for column, feature in enumerate(features) if feature.transform == "log"}
    beyond = [(column, place[f.name], f.value) for column, f in enumerate(features) if f.transform == "excess"]
    if beyond:
        to, of, above = (torch.tensor(column, device=attr.device) for column in zip(*beyond, strict=True))
        attr = attr.index_copy(1, to, excess(attr[:, of], above))
    return attr


def quiet(edges: Edges, generator: torch.Generator, features: Sequence[Feature]) -> Edges:
    """Return the window as it is."""
    del generator, features
    return edges


def crowded(edges: Edges, generator: torch.Generator, features: Sequence[Feature]) -> Edges:
    """Every other window gets a burst of one strange kind of flow: from one host, to one host, or between two.

    Without this, a flood elsewhere in the window moves its summary and its embeddings so far that most benign flows of
    that minute look strange. Flows that are judged keep their own features.
    """
    if torch.rand(1, generator=generator) < 0.5:
        return edges
    device = edges.attr.device
    flows = int(len(edges) * math.exp(4 * float(torch.rand(1, generator=generator)) - 2)) + 1
    ends = torch.randint(edges.hosts, (2, flows), generator=generator)
    fixed = int(torch.randint(3, (1,), generator=generator))
    for end in (0, 1) if fixed == 2 else (fixed,):
        ends[end] = ends[end, 0]
    quantities = torch.tensor([feature.explained for feature in features])
    low, high = _BEYOND
    drawn = (torch.rand(len(features), generator=generator) < 0.5) & quantities
    like = edges.attr[int(torch.randint(len(edges), (1,), generator=generator))].cpu()
    one = torch.where(drawn, low + (high - low) * torch.rand(len(features), generator=generator), like)
    attr = one + 0.1 * quantities * torch.randn(flows, len(features), generator=generator)
    here = torch.cat([edges.pairs[:, edges.pair], ends.to(device)], 1)
    return Edges.of(here, torch.cat([edges.attr, _consistent(attr.to(device), features)]), edges.hosts)


RECIPES: Final[Mapping[str, Recipe]] = {
    "published": Recipe(published_features, Sizes(), strangers, quiet),
    "eddyline": Recipe(eddyline_features, Sizes(in_channels=16, hidden=32, global_dim=32), near_misses, crowded),
}
