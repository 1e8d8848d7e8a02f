"""How the guided GAE is trained. Recipe `published`: tell the flows of a window from pairs that did not meet in it.

As in NVIDIA's `gnn-netflow-ad` notebook: AdamW, cosine schedule, binary cross-entropy, as many negatives as flows,
each a random pair of hosts without a flow, with the features of the mean flow. Kept apart from it, because the
published form is wrong there: pooling and negatives stay within a window, BatchNorm's running statistics are settled
over training windows before anything is judged or saved, and the best epoch on held-out windows is what is saved.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from eddyline.config import TrainSettings
from eddyline.detectors.gae.detector import Feature, GaeDetector
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.graphs import FlowGraph

Report: TypeAlias = Callable[[str, int, int, str], None]
Inputs: TypeAlias = tuple[Tensor, Edges]
PUBLISHED_FEATURES: Final = ("bytes", "rev_bytes", "duration_us")
_SETTLING: Final = 64  # training windows whose statistics BatchNorm takes over before an evaluation
_HELD_OUT_SEED: Final = 0  # negatives of the held-out windows are the same in every epoch and every run


def fit(
    train: Sequence[FlowGraph], held_out: Sequence[FlowGraph], settings: TrainSettings, checkpoint: Path, report: Report
) -> tuple[GaeDetector, dict[str, float]]:
    """Train on benign windows; stop when the held-out ones no longer improve; return the best epoch and its measures.

    Args:
        train, held_out: benign windows, the held-out ones later.
        settings: epochs, patience, windows per step, learning rate, width and seed.
        checkpoint: folder that an interrupted training resumes from.
        report: told after every epoch.
    """
    features = tuple(_fitted(name, train) for name in PUBLISHED_FEATURES)
    sizes = Sizes(hidden=settings.hidden, edge_dim=len(features))
    detector = GaeDetector.fresh(features, sizes, settings.seed, settings.device)
    prepared = [detector.inputs(graph) for graph in train if len(graph.hosts) > 1]
    held = [detector.inputs(graph) for graph in held_out]
    state = _State(detector.model, settings, checkpoint)
    for epoch in range(state.epoch, settings.epochs):
        if state.stale >= settings.patience:
            break
        loss = _epoch(state, prepared, settings, epoch)
        settle(detector.model, prepared[:: max(1, len(prepared) // _SETTLING)])
        measured = measure(detector.model, held)
        state.keep(epoch, measured)
        words = f"loss {loss:.4f}, held out {measured['held_out_loss']:.4f}, AUC {measured['held_out_auc']:.4f}"
        report("training gae", epoch + 1, settings.epochs, words)
    detector.model.load_state_dict(state.best)
    detector.model.eval()
    return detector, {**state.measured, "epochs": float(state.epoch)}


def _fitted(name: str, graphs: Sequence[FlowGraph]) -> Feature:
    return Feature.fit(name, "identity", torch.cat([graph.feature(name).cpu() for graph in graphs]))


def _epoch(state: _State, windows: Sequence[Inputs], settings: TrainSettings, epoch: int) -> float:
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(windows), generator=generator).tolist()
    for group in state.optimizer.param_groups:  # cosine, from the epoch's number alone, so that it resumes as it is
        group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    state.model.train()
    total = 0.0
    for first in range(0, len(order), settings.batch):
        batch = [windows[place] for place in order[first : first + settings.batch]]
        state.optimizer.zero_grad()
        loss = _loss(state.model, batch, generator)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(order)


def _loss(model: GuidedGae, batch: Sequence[Inputs], generator: torch.Generator) -> Tensor:
    judged = []
    for z, (_, edges) in zip(model.encode(batch), batch, strict=True):
        summary = model.summary(edges.attr)
        judged += [
            F.logsigmoid(model.logits(z, edges, summary)),
            F.logsigmoid(-model.logits(z, negatives(edges, generator), summary)),
        ]
    return -torch.cat(judged).mean()


def negatives(edges: Edges, generator: torch.Generator) -> Edges:
    """As many random pairs of hosts without a flow between them as there are flows, with the mean flow's features.

    Fewer where the window is nearly complete, so that most draws meet.
    """
    drawn = torch.randint(edges.hosts, (2, len(edges)), generator=generator).to(edges.pairs.device)
    known = edges.pairs[0] * edges.hosts + edges.pairs[1]
    drawn = drawn[:, ~torch.isin(drawn[0] * edges.hosts + drawn[1], known)]
    return Edges.of(drawn, edges.attr.new_zeros(drawn.shape[1], edges.attr.shape[1]), edges.hosts)


@torch.no_grad()
def settle(model: GuidedGae, windows: Sequence[Inputs]) -> None:
    """Replace BatchNorm's lagging statistics by their plain average over `windows`; leaves the model in eval mode."""
    momentum = model.norm.momentum
    model.norm.reset_running_stats()
    model.norm.momentum = None  # cumulative average
    model.train()
    for window in windows:
        model.encode([window])
    model.norm.momentum = momentum
    model.eval()


@torch.no_grad()
def measure(model: GuidedGae, windows: Sequence[Inputs]) -> dict[str, float]:
    """Loss and AUC of telling held-out flows from negatives that are the same every time."""
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    flows, others = [], []
    for x, edges in windows:
        z, summary = model.embed(x, edges), model.summary(edges.attr)
        flows.append(model.logits(z, edges, summary).cpu())
        others.append(model.logits(z, negatives(edges, generator), summary).cpu())
    real, made = torch.cat(flows), torch.cat(others)
    loss = -torch.cat([F.logsigmoid(real), F.logsigmoid(-made)]).mean()
    return {"held_out_loss": float(loss), "held_out_auc": auc(real.numpy(), made.numpy())}


def auc(high: np.ndarray[Any, Any], low: np.ndarray[Any, Any]) -> float:
    """Probability that a value of `high` exceeds one of `low`, ties half (Mann & Whitney 1947)."""
    if not len(high) or not len(low):
        return float("nan")
    ranked = np.sort(low)
    wins = np.searchsorted(ranked, high, "left") + np.searchsorted(ranked, high, "right")
    return float(wins.mean() / (2 * len(low)))


class _State:
    """What training carries from epoch to epoch, written after each of them: safetensors and JSON."""

    def __init__(self, model: GuidedGae, settings: TrainSettings, folder: Path) -> None:
        self.model, self._folder = model, folder
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
        self.epoch, self.stale = 0, 0
        self.measured: dict[str, float] = {}
        self.best = _copied(model.state_dict())
        self._facts = {
            key: settings.model_dump(mode="json")[key]
            for key in ("source", "recipe", "hidden", "seed", "learning_rate", "epochs", "batch")
        }
        if (folder / "state.json").is_file():
            self._resume()

    def keep(self, epoch: int, measured: dict[str, float]) -> None:
        """Note this epoch; remember its weights if the held-out loss is the lowest so far."""
        self.epoch, self.stale = epoch + 1, self.stale + 1
        if measured["held_out_loss"] < self.measured.get("held_out_loss", float("inf")):
            self.measured, self.best, self.stale = measured, _copied(self.model.state_dict()), 0
        self._folder.mkdir(parents=True, exist_ok=True)
        moments = {
            f"{index}.{key}": value
            for index, each in self.optimizer.state_dict()["state"].items()
            for key, value in each.items()
        }
        parts = {"weights": self.model.state_dict(), "best": self.best, "moments": moments}
        for name, tensors in parts.items():
            save_file(
                {key: value.contiguous() for key, value in tensors.items()},
                self._folder / f"{name}.{self.epoch}.safetensors",
            )
        text = json.dumps({"facts": self._facts, "epoch": self.epoch, "stale": self.stale, "measured": self.measured})
        (self._folder / ".state.json").write_text(text)
        os.replace(self._folder / ".state.json", self._folder / "state.json")  # the epoch counts from here on
        for old in self._folder.glob("*.safetensors"):
            if old.name.split(".")[1] != str(self.epoch):
                old.unlink()

    def _resume(self) -> None:
        found = json.loads((self._folder / "state.json").read_text())
        if found["facts"] != self._facts:
            return  # left by a training with other settings: it is overwritten by the first epoch of this one
        self.epoch, self.stale, self.measured = found["epoch"], found["stale"], found["measured"]
        weights, self.best, moments = (
            load_file(self._folder / f"{name}.{self.epoch}.safetensors") for name in ("weights", "best", "moments")
        )
        self.model.load_state_dict(weights)
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {}
        for key, value in moments.items():
            index, field = key.split(".")
            optimizer["state"].setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(optimizer)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}
