"""What the guided GAE sees of a flow: its own counters, how busy its hosts and its pair are in the window, its service.

Attention averages and cannot count, so counts come in as features: exact, one pass over the window each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, Self, TypeAlias

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from eddyline.flows import EDGE_FEATURES
from eddyline.graphs import FlowGraph, distinct_pairs

Transform: TypeAlias = Literal["identity", "log", "excess", "equals"]
_PORTS: Final = 1 << 16  # stands for an unknown port, one beyond the last

TITLES: Final[Mapping[str, str]] = {
    "bytes": "bytes sent",
    "rev_bytes": "bytes received",
    "packets": "packets sent",
    "rev_packets": "packets received",
    "duration_us": "duration",
    "src_flows": "flows of the source",
    "src_peers": "hosts the source contacts",
    "src_ports": "ports the source tries",
    "src_unanswered": "unanswered flows of the source",
    "dst_flows": "flows to the destination",
    "dst_peers": "hosts that contact the destination",
    "dst_ports": "ports tried at the destination",
    "dst_unanswered": "unanswered flows to the destination",
    "pair_flows": "flows between the two hosts",
    "pair_ports": "ports tried between the two hosts",
}  # what a person reads, for every feature that explanations name

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("bytes", "rev_bytes", "packets", "rev_packets", "duration_us"), "size"),
    **dict.fromkeys(("src_flows", "dst_flows", "pair_flows", "dst_peers"), "burst"),
    **dict.fromkeys(
        ("src_peers", "src_ports", "dst_ports", "pair_ports", "src_unanswered", "dst_unanswered"), "probing"
    ),
}  # what sort of strangeness a feature stands for

_COUNTS: Final[Mapping[str, Callable[[FlowGraph], Tensor]]] = {
    "src_flows": lambda graph: _per(graph.edge_index[0]),
    "src_peers": lambda graph: _counted(graph.pairs()[0][0])[graph.edge_index[0]],
    "src_ports": lambda graph: _distinct(graph.edge_index[0], _ports(graph)),
    "src_unanswered": lambda graph: _per(graph.edge_index[0], _unanswered(graph)),
    "dst_flows": lambda graph: _per(graph.edge_index[1]),
    "dst_peers": lambda graph: _counted(graph.pairs()[0][1])[graph.edge_index[1]],
    "dst_ports": lambda graph: _distinct(graph.edge_index[1], _ports(graph)),
    "dst_unanswered": lambda graph: _per(graph.edge_index[1], _unanswered(graph)),
    "pair_flows": lambda graph: _per(graph.pairs()[1]),
    "pair_ports": lambda graph: _distinct(graph.pairs()[1], _ports(graph)),
}  # name to count per flow, float32 (E,)


class Feature(BaseModel):
    """One flow feature as the model sees it: (transformed value - mean) / scale; unknown values count as the mean.

    Args:
        name: a column of EDGE_FEATURES or one of the counts; `unit` is its unit.
        transform: identity, log for ln(1 + value), excess for how many standard deviations beyond `value`
            of them that is, or equals for "is it `value`?".
        mean, scale: over the training flows, after the transform.
        usual: median over the training flows, before it; what explanations compare with.
        value: what `equals` compares with, or where `excess` begins.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str
    transform: Transform
    mean: float
    scale: float
    usual: float
    value: float = 0.0

    @classmethod
    def fit(cls, name: str, transform: Transform, values: Tensor, value: float = 0.0) -> Self:
        """Fit on the values of training flows, float32 (n,), NaN where unknown."""
        unit = EDGE_FEATURES.get(name, "")
        known = values[~values.isnan()].double()
        if transform == "equals" or not len(known):
            return cls(name=name, unit=unit, transform=transform, mean=0.0, scale=1.0, usual=0.0, value=value)
        seen = torch.log1p(known) if transform in ("log", "excess") else known
        scale = float(seen.std(correction=0)) or 1.0
        usual = float(known.median())
        return cls(
            name=name, unit=unit, transform=transform, mean=float(seen.mean()), scale=scale, usual=usual, value=value
        )

    @property
    def explained(self) -> bool:
        """Whether it is a quantity, which explanations can compare with what is usual."""
        return self.transform in ("identity", "log")

    def scaled(self, values: Tensor) -> Tensor:
        """Scale values (E,) to float32 (E,); in float64 between, for large counters lose digits in float32."""
        if self.transform == "equals":
            return (values == self.value).float()
        seen = torch.log1p(values.double()) if self.transform in ("log", "excess") else values.double()
        scaled = torch.nan_to_num((seen - self.mean) / self.scale, nan=0.0).float()
        return excess(scaled, self.value) if self.transform == "excess" else scaled


def excess(scaled: Tensor, above: float | Tensor) -> Tensor:
    """How far scaled values lie beyond `above`: zero for almost every benign flow, so any of it can weigh heavily."""
    return torch.relu(scaled - above)


def raw_features(graph: FlowGraph, names: Iterable[str]) -> dict[str, Tensor]:
    """Values before any transform, float32 (E,) each, every name once."""
    return {name: _COUNTS[name](graph) if name in _COUNTS else graph.feature(name) for name in dict.fromkeys(names)}


def scaled_features(graph: FlowGraph, features: Sequence[Feature]) -> Tensor:
    """Features as the model sees them, float32 (E, F)."""
    raw = raw_features(graph, (feature.name for feature in features))
    return torch.stack([feature.scaled(raw[feature.name]) for feature in features], 1)


def _counted(of: Tensor, weights: Tensor | None = None) -> Tensor:
    """How often each value occurs, or what weights fall on it, float32 (largest value + 1,)."""
    return torch.bincount(of, weights).float()


def _per(of: Tensor, weights: Tensor | None = None) -> Tensor:
    """For each flow, how many flows have its value of `of` (E,), or the weights of those."""
    return _counted(of, weights)[of]


def _distinct(of: Tensor, over: Tensor) -> Tensor:
    """How many distinct values of `over` go with each flow's value of `of`; both int64 (E,)."""
    both, _ = distinct_pairs(torch.stack([of, over]), max(_size(of), _PORTS + 1))
    return _counted(both[0])[of]


def _size(of: Tensor) -> int:
    return int(of.max()) + 1 if len(of) else 1


def _ports(graph: FlowGraph) -> Tensor:
    return torch.nan_to_num(graph.feature("dst_port"), nan=float(_PORTS)).long()


def _unanswered(graph: FlowGraph) -> Tensor:
    """1 where a two-way record saw no packet come back; one-way records cannot tell and count 0."""
    return (graph.feature("rev_packets") == 0).float()
