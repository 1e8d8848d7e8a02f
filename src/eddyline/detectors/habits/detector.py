"""The `habits` detector: surprises, each capped by what held-out benign flows support, and added up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from eddyline.calibration import Ranks
from eddyline.detectors.habits.explain import explanation
from eddyline.detectors.habits.terms import TERMS, of_conversations, of_flows, surprises
from eddyline.errors import ArtifactError
from eddyline.explanations import Explanation
from eddyline.graphs import FlowGraph, columns_of
from eddyline.habits.tables import Floats, Rows

_FILE = "terms.safetensors"


class HabitsDetector:
    """Raw score = sum over the terms of min(surprise, -ln of the share of benign flows that surprise as much), nats.

    A term claims no more than its model says and no more than the calibration supports: a useless heavy-tailed term
    costs next to nothing, and a term that never fired on benign flows cannot take over.

    Args:
        ranks: surprises of benign flows by term, in the order of TERMS.
    """

    name = "habits"
    least_scale = 1.0  # a sum of surprises: p falls by a factor e per nat at most

    def __init__(self, ranks: Sequence[Ranks]) -> None:
        self.ranks = tuple(ranks)

    @classmethod
    def fit(cls, graphs: Sequence[FlowGraph]) -> Self:
        """Fit the caps on benign windows, each with the habit columns it had when it was new."""
        found = np.concatenate([surprises(graph.conversations(), columns_of(graph)) for graph in graphs])
        return cls([Ranks.of(found[:, term]) for term in range(len(TERMS))])

    def refitted(self, graphs: Sequence[FlowGraph]) -> Self:
        """Return one whose caps are those of another network; there is nothing else to it."""
        return self.fit(graphs)

    def score(self, graph: FlowGraph) -> Tensor:
        """Raw scores, nats, float32 (E,), in the window's order."""
        if not len(graph):
            return torch.empty(0, device=graph.edge_index.device)
        window, columns = graph.conversations(), columns_of(graph)
        common = of_conversations(window, columns)
        for term, ranks in enumerate(self.ranks[:-1]):
            common[:, term] = ranks.supported(common[:, term])
        own = self.ranks[-1].supported(of_flows(window, columns))
        return torch.from_numpy(common.sum(1)[window.of_flow] + own).to(graph.edge_index.device)

    def capped(self, graph: FlowGraph) -> Rows:
        """What each term adds to the score of each flow, float32 (E, 5)."""
        found = surprises(graph.conversations(), columns_of(graph))
        return np.stack([ranks.supported(found[:, term]) for term, ranks in enumerate(self.ranks)], 1)

    def explain(self, graph: FlowGraph, edges: Tensor) -> Explanation:
        """What the terms of flows `edges` (K,) saw, against what the memory knows, strongest term first."""
        rows = edges.cpu().numpy()
        parts: Floats = self.capped(graph)[rows].astype(np.float64)
        return explanation(graph.conversations(), columns_of(graph), rows, parts)

    def save(self, folder: Path) -> None:
        """Write `terms.safetensors`."""
        parts: dict[str, NDArray[Any]] = {}
        for term, ranks in zip(TERMS, self.ranks, strict=True):
            parts |= {f"{term}/values": ranks.values, f"{term}/at_least": ranks.at_least}
        save_file(parts, folder / _FILE)

    @classmethod
    def load(cls, folder: Path, device: str) -> Self:
        """Read it back; raises ArtifactError that names the file."""
        del device  # its columns are looked up on the CPU
        try:
            parts = load_file(folder / _FILE)
            return cls([Ranks(parts[f"{term}/values"], parts[f"{term}/at_least"]) for term in TERMS])
        except (OSError, KeyError, SafetensorError) as error:
            raise ArtifactError(f"habits: `{folder / _FILE}` cannot be read ({error}); train it again") from error
