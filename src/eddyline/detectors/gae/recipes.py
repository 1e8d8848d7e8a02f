"""How the guided GAE is trained: to tell the flows of benign windows from flows that were not there.

`published`, as in NVIDIA's `gnn-netflow-ad` notebook: three raw features, and negatives that pair random hosts without
a flow, with the features of the mean flow. Kept apart from it, because the published form is wrong there: pooling and
negatives stay within a window, and the summary of a window is of its flows, also for its negatives. The further a flow
is from the mean the more usual it looks to this model: a huge transfer scores lowest of all.

`eddyline`: logarithms of all counters, exact counts of the window, the service; negatives that are hard to tell from
flows, each wrong in one respect: other host, features of another flow, single features anywhere in their range, or
one direction scaled up. Telling those apart is estimating how dense benign flows are (noise-contrastive estimation,
Gutmann & Hyvarinen 2010), so whatever is rare scores high, in any direction.

Both: AdamW, cosine schedule, binary cross-entropy, as many negatives as flows; BatchNorm's running statistics are
settled over training windows before anything is judged or saved; the best epoch on held-out windows is what is saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eddyline.config import TrainSettings
from eddyline.detectors.gae.checkpoint import Progress
from eddyline.detectors.gae.detector import GaeDetector, placed
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae
from eddyline.detectors.gae.negatives import RECIPES
from eddyline.graphs import FlowGraph

Report: TypeAlias = Callable[[str, int, int, str], None]
Parts: TypeAlias = tuple[Tensor, Edges]  # hosts' own rows, and flows, of a window
Rest: TypeAlias = Callable[[Edges, torch.Generator], tuple[Edges, Edges]]  # flows to surroundings and negatives
_LONGEST_STEP: Final = 5.0  # norm that gradients are clipped to
_SETTLING: Final = 64  # training windows whose statistics BatchNorm takes over before an evaluation
_HELD_OUT_SEED: Final = 0  # negatives of the held-out windows are the same in every epoch and every run


def fit(
    train: Sequence[FlowGraph], held_out: Sequence[FlowGraph], settings: TrainSettings, checkpoint: Path, report: Report
) -> tuple[GaeDetector, Sequence[FlowGraph], dict[str, float]]:
    """Train on benign windows and return the best epoch, the windows it can be calibrated on, and its measures.

    Stops when the held-out windows no longer improve.

    Args:
        train, held_out: benign windows, the held-out ones later.
        settings: epochs, patience, windows per step, learning rate, width and seed.
        checkpoint: folder that an interrupted training resumes from.
        report: told after every epoch.
    """
    recipe = RECIPES[settings.recipe]
    features = recipe.features(train)
    sizes = replace(recipe.sizes, hidden=settings.hidden or recipe.sizes.hidden, edge_dim=len(features))
    detector = GaeDetector.fresh(features, sizes, settings.seed, settings.device)
    prepared = [detector.parts(graph) for graph in train if len(graph.hosts) > 1]
    held = [detector.parts(graph) for graph in held_out[:: -(-len(held_out) // settings.windows_per_epoch)]]
    state = Progress(detector.model, settings, checkpoint, detector.preparation.model_dump_json())

    def rest(edges: Edges, generator: torch.Generator) -> tuple[Edges, Edges]:
        return recipe.surroundings(edges, generator, features), recipe.negatives(edges, generator, features)

    for epoch in range(state.epoch, settings.epochs):
        if state.stale >= settings.patience:
            break
        loss = _epoch(state, prepared, settings, epoch, rest)
        settle(detector.model, prepared[:: max(1, len(prepared) // _SETTLING)])
        measured = measure(detector.model, held, rest)
        state.keep(epoch, measured)
        words = f"loss {loss:.4f}, held out {measured['held_out_loss']:.4f}, AUC {measured['held_out_auc']:.4f}"
        report("training gae", epoch + 1, settings.epochs, words)
    detector.model.load_state_dict(state.best)
    detector.model.eval()
    return detector, held_out, {**state.measured, "epochs": float(state.epoch)}


def _epoch(state: Progress, windows: Sequence[Parts], settings: TrainSettings, epoch: int, rest: Rest) -> float:
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(windows), generator=generator).tolist()[: settings.windows_per_epoch]
    for group in state.optimizer.param_groups:  # cosine, from the epoch's number alone, so that it resumes as it is
        group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
    state.model.train()
    total = 0.0
    for first in range(0, len(order), settings.batch):
        batch = [windows[place] for place in order[first : first + settings.batch]]
        state.optimizer.zero_grad()
        loss = _loss(state.model, batch, generator, rest)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), _LONGEST_STEP)
        state.optimizer.step()
        total += float(loss.detach()) * len(batch)
    return total / len(order)


def _loss(model: GuidedGae, batch: Sequence[Parts], generator: torch.Generator, rest: Rest) -> Tensor:
    made = [rest(edges, generator) for _, edges in batch]
    embedded = model.encode([(placed(own, around), around) for (own, _), (around, _) in zip(batch, made, strict=True)])
    judged = []
    for z, (_, edges), (around, others) in zip(embedded, batch, made, strict=True):
        summary = model.summary(around.attr)
        judged += [F.logsigmoid(model.logits(z, edges, summary)), F.logsigmoid(-model.logits(z, others, summary))]
    return -torch.cat(judged).mean()


@torch.no_grad()
def settle(model: GuidedGae, windows: Sequence[Parts]) -> None:
    """Replace BatchNorm's lagging statistics by their plain average over `windows`; leaves the model in eval mode."""
    momentum = model.norm.momentum
    model.norm.reset_running_stats()
    model.norm.momentum = None  # cumulative average
    model.train()
    for own, edges in windows:
        model.encode([(placed(own, edges), edges)])
    model.norm.momentum = momentum
    model.eval()


@torch.no_grad()
def measure(model: GuidedGae, windows: Sequence[Parts], rest: Rest) -> dict[str, float]:
    """Loss and AUC of telling held-out flows from negatives that are the same every time."""
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    flows, others = [], []
    for own, edges in windows:
        around, made = rest(edges, generator)
        z, summary = model.embed(placed(own, around), around), model.summary(around.attr)
        flows.append(model.logits(z, edges, summary).cpu())
        others.append(model.logits(z, made, summary).cpu())
    real, false = torch.cat(flows), torch.cat(others)
    loss = -torch.cat([F.logsigmoid(real), F.logsigmoid(-false)]).mean()
    return {"held_out_loss": float(loss), "held_out_auc": auc(real.numpy(), false.numpy())}


def auc(high: np.ndarray[Any, Any], low: np.ndarray[Any, Any]) -> float:
    """Probability that a value of `high` exceeds one of `low`, ties half (Mann & Whitney 1947)."""
    if not len(high) or not len(low):
        return float("nan")
    ranked = np.sort(low)
    wins = np.searchsorted(ranked, high, "left") + np.searchsorted(ranked, high, "right")
    return float(wins.mean() / (2 * len(low)))
