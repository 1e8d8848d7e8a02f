"""The guided graph autoencoder as a detector: a window's graph in, how little each flow is expected out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eddyline.alerts import Explanation
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.detectors.gae.node_features import address_features, propagate
from eddyline.errors import ArtifactError
from eddyline.graphs import EDGE_FEATURES, FlowGraph

_SETTINGS: Final = "detector.json"
_WEIGHTS: Final = "weights.safetensors"
_PROJECTION: Final = "projection"  # beside the weights, under a name that no layer has
_OTHER_PAIRS: Final = 16  # pairs of the window that a flow is tried on when its own pair is explained


class Feature(BaseModel):
    """One flow feature as the model sees it: (transformed value - mean) / scale; unknown values count as the mean.

    Args:
        name: a column of EDGE_FEATURES; `unit` is its unit.
        transform: identity, or log for ln(1 + value).
        mean, scale: over the training flows, after the transform.
        usual: median over the training flows, before it; what explanations compare with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    unit: str
    transform: Literal["identity", "log"]
    mean: float
    scale: float
    usual: float

    @classmethod
    def fit(cls, name: str, transform: Literal["identity", "log"], values: Tensor) -> Feature:
        """Fit on the values of training flows, float32 (n,), NaN where unknown."""
        known = values[~values.isnan()].double()
        if not len(known):
            return cls(name=name, unit=EDGE_FEATURES[name], transform=transform, mean=0.0, scale=1.0, usual=0.0)
        seen = torch.log1p(known) if transform == "log" else known
        scale = float(seen.std(correction=0)) or 1.0
        usual = float(known.median())
        return cls(
            name=name, unit=EDGE_FEATURES[name], transform=transform, mean=float(seen.mean()), scale=scale, usual=usual
        )

    def scaled(self, values: Tensor) -> Tensor:
        """Scale values (E,) to float32 (E,); in float64 between, for large counters lose digits in float32."""
        seen = torch.log1p(values.double()) if self.transform == "log" else values.double()
        return torch.nan_to_num((seen - self.mean) / self.scale, nan=0.0).float()


class Preparation(BaseModel):
    """Everything but the weights, as saved in `detector.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    sizes: dict[str, int | float]
    features: tuple[Feature, ...]
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

    def __init__(self, model: GuidedGae, projection: Tensor, preparation: Preparation) -> None:
        self.model, self.projection, self.preparation = model, projection, preparation

    def score(self, graph: FlowGraph) -> Tensor:
        """Raw scores, float32 (E,), in the window's order."""
        if not len(graph):
            return torch.empty(0, device=graph.edge_index.device)
        x, edges = self.inputs(graph)
        return -self.model.logits(self.model.embed(x, edges), edges, self.model.summary(edges.attr))

    def inputs(self, graph: FlowGraph) -> tuple[Tensor, Edges]:
        """Node features (V, D) and scaled flows of a window, as the model takes them."""
        attr = torch.stack([feature.scaled(graph.feature(feature.name)) for feature in self.preparation.features], 1)
        edges = Edges.of(graph.edge_index, attr, len(graph.hosts), graph.pairs())
        own = address_features(graph.hosts, self.projection, self.preparation.addresses).to(attr.device)
        return propagate(own, edges.pairs, edges.hosts, edges.flows_per_pair()), edges

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
        gone = [base - raw(ends, self._usual(attr, place)) for place in range(attr.shape[1])]
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
        features = self.preparation.features
        order = gone.argsort(dim=1, descending=True).flatten().tolist()
        rows = edges.repeat_interleave(gone.shape[1]).tolist()
        names = [*(feature.name for feature in features), "host pair"]
        units = [*(feature.unit for feature in features), ""]
        observed = [*(graph.feature(feature.name)[edges] for feature in features), torch.full((len(edges),), torch.nan)]
        table = torch.stack([column.cpu() for column in observed], 1)
        expected = torch.tensor([*(feature.usual for feature in features), torch.nan])
        at = torch.arange(len(edges)).repeat_interleave(gone.shape[1]), torch.tensor(order)
        return Explanation(
            rows, [names[place] for place in order], [units[place] for place in order],
            table[at].tolist(), expected[at[1]].tolist(), gone.cpu()[at].tolist(),
        )  # fmt: skip

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
            model = GuidedGae(Sizes(**preparation.sizes)).to(device)  # type: ignore[arg-type]
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
            model = GuidedGae(sizes)
        settings = {key: value for key, value in asdict(sizes).items()}
        preparation = Preparation(sizes=settings, features=features, addresses="address")
        return cls(model.to(device), projection.to(device), preparation)
