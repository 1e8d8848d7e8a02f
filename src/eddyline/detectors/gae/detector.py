"""The guided graph autoencoder as a detector: a window's graph in, how little each flow is expected out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.features import KINDS, TITLES, Feature, raw_features, scaled_features
from eddyline.detectors.gae.fused import chunk_for
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.detectors.gae.node_features import address_features, propagate
from eddyline.errors import ArtifactError
from eddyline.explanations import Explanation
from eddyline.graphs import FlowGraph

_SETTINGS: Final = "detector.json"
_WEIGHTS: Final = "weights.safetensors"
_PROJECTION: Final = "projection"  # beside the weights, under a name that no layer has
_OTHER_PAIRS: Final = 16  # pairs of the window that a flow is tried on when its own pair is explained


class Preparation(BaseModel):
    """Everything but the weights, as saved in `detector.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    sizes: dict[str, int | float]
    features: tuple[Feature, ...]  # in the order of the model's edge features
    addresses: Literal["published", "address"]  # how address text becomes numbers, see `address_features`


class GaeDetector:
    """Guided GAE (NVIDIA gnn-netflow-ad's network): raw score = minus the logit that the flow belongs to the window.

    Good at flows whose hosts and features do not go together; it averages and cannot count, so a flood of ordinary
    flows is ordinary to it. Minus the logit ranks as the published 1 - probability and does not saturate.

    Args:
        model: in eval mode.
        projection: random, float32 (4, D), drawn once in training and saved.
        preparation: features and sizes.
    """

    name = "gae"
    least_scale = 0.0

    def __init__(self, model: GuidedGae, projection: Tensor, preparation: Preparation) -> None:
        self.model, self.projection, self.preparation = model, projection, preparation

    def refitted(self, graphs: Sequence[FlowGraph]) -> Self:
        """Return itself: everything it has was learned by gradient."""
        del graphs
        return self

    def score(self, graph: FlowGraph) -> Tensor:
        """Raw scores, float32 (E,), in the window's order."""
        if not len(graph):
            return torch.empty(0, device=graph.edge_index.device)
        x, edges = self.inputs(graph)
        return -self.model.logits(self.model.embed(x, edges), edges, self.model.summary(edges.attr))

    def inputs(self, graph: FlowGraph) -> tuple[Tensor, Edges]:
        """Node features (V, D) and scaled flows of a window, as the model takes them."""
        own, edges = self.parts(graph)
        return placed(own, edges), edges

    def parts(self, graph: FlowGraph) -> tuple[Tensor, Edges]:
        """Each host's own row (V, D), from its address alone, and the scaled flows of a window."""
        attr = scaled_features(graph, self.preparation.features)
        edges = Edges.of(graph.edge_index, attr, len(graph.hosts), graph.pairs())
        return address_features(graph.hosts, self.projection, self.preparation.addresses).to(attr.device), edges

    def explain(self, graph: FlowGraph, edges: Tensor) -> Explanation:
        """Replace one thing at a time by what is usual and see how much of the score of flows `edges` (K,) goes.

        A feature is replaced by its training median; the host pair by other pairs of the same window.
        """
        x, flows = self.inputs(graph)
        z, summary = self.model.embed(x, flows), self.model.summary(flows.attr)
        ends = graph.edge_index[:, edges]
        attr = torch.empty_like(flows.attr).index_copy(0, flows.row, flows.attr)[edges]

        def raw(ends: Tensor, attr: Tensor) -> Tensor:
            return -self.model.logits(z, Edges.of(ends, attr, flows.hosts), summary)

        base = raw(ends, attr)
        named = [place for place, feature in enumerate(self.preparation.features) if feature.explained]
        gone = [base - raw(ends, self._usual(attr, place)) for place in named]
        every = torch.linspace(0, flows.pairs.shape[1] - 1, _OTHER_PAIRS).long()
        tried = flows.pairs[:, every].repeat(1, len(edges))
        gone.append(base - raw(tried, attr.repeat_interleave(_OTHER_PAIRS, 0)).view(len(edges), -1).mean(1))
        return self._explanation(graph, edges, torch.stack(gone, 1))

    def _usual(self, attr: Tensor, place: int) -> Tensor:
        feature = self.preparation.features[place]
        replaced = attr.clone()
        replaced[:, place] = feature.scaled(torch.tensor([feature.usual])).to(attr.device)
        return replaced

    def _explanation(self, graph: FlowGraph, edges: Tensor, gone: Tensor) -> Explanation:
        features = [feature for feature in self.preparation.features if feature.explained]
        values = raw_features(graph, (feature.name for feature in features))
        titles, units = [TITLES[feature.name] for feature in features], [feature.unit for feature in features]
        kinds = [KINDS[feature.name] for feature in features]
        ends = [{"src": "source", "dst": "destination"}.get(feature.name[:3], "") for feature in features]
        observed = [*(values[feature.name][edges] for feature in features), torch.full((len(edges),), torch.nan)]
        expected = [*(feature.usual for feature in features), float("nan")]
        table = torch.stack([column.cpu() for column in observed], 1)
        order = gone.cpu().argsort(dim=1, descending=True)
        at = torch.arange(len(edges)).repeat_interleave(gone.shape[1]), order.flatten()
        places = at[1].tolist()
        return Explanation(
            edges[at[0]].tolist(),
            [[*titles, "host pair"][place] for place in places],
            [[*units, ""][place] for place in places],
            table[at].tolist(),
            [expected[place] for place in places],
            gone.cpu()[at].tolist(),
            [[*kinds, "pair"][place] for place in places],
            [[*ends, ""][place] for place in places],
        )

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `detector.json`."""
        save_file({**self.model.state_dict(), _PROJECTION: self.projection}, folder / _WEIGHTS)
        (folder / _SETTINGS).write_text(self.preparation.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path, device: str) -> Self:
        """Read it back in eval mode; raises ArtifactError that names the file or field at fault."""
        try:
            preparation = Preparation.model_validate_json((folder / _SETTINGS).read_bytes())
            tensors = load_file(folder / _WEIGHTS, device)
            projection = tensors.pop(_PROJECTION)
            model = GuidedGae(Sizes(**preparation.sizes), chunk_for(device)).to(device)  # type: ignore[arg-type]
            model.load_state_dict(tensors)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ArtifactError(f"gae: `{folder / _SETTINGS}`: {where}: {first['msg']}") from error
        except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise ArtifactError(f"gae: `{folder}` cannot be loaded: {error}; train it again") from error
        return cls(model.eval(), projection, preparation)

    @classmethod
    def fresh(cls, features: tuple[Feature, ...], sizes: Sizes, seed: int, device: str) -> Self:
        """Return an untrained one, its weights and projection drawn from `seed`."""
        generator = torch.Generator().manual_seed(seed)
        projection = torch.rand(4, sizes.in_channels, generator=generator) * 2 - 1
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = GuidedGae(sizes, chunk_for(device))
        settings = {key: value for key, value in asdict(sizes).items()}
        preparation = Preparation(sizes=settings, features=features, addresses="address")
        return cls(model.to(device), projection.to(device), preparation)


def placed(own: Tensor, edges: Edges) -> Tensor:
    """Node features (V, D): each host's own row (V, D), and those of whom it sends to."""
    return propagate(own, edges.pairs, edges.hosts, edges.flows_per_pair())
