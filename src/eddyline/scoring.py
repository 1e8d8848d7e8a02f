"""The pure middle: one window and a site's memory in, scored flows and the memory after it out."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from eddyline.alerts import Ints
from eddyline.combine import Floats, ScoredFlows, combine
from eddyline.contracts import Detector, Model
from eddyline.explanations import Explanation
from eddyline.graphs import FlowGraph, build_graph
from eddyline.habits import LAG, Habits, update
from eddyline.windows import Window


@dataclass(frozen=True, slots=True)
class Memory:
    """What a site remembers between windows. A value: it travels with the commit position.

    Args:
        habits: the habits after each of the last LAG + 1 windows, newest last. A window is scored with the oldest and
            updates the newest, so a runtime may score window k while window k - 1 is still being finished.
    """

    habits: tuple[Habits, ...] = (Habits(),) * (LAG + 1)

    def after(self, graph: FlowGraph, p: Floats) -> Memory:
        """Return the memory once this window is scored."""
        return Memory((*self.habits[1:], update(self.habits[-1], graph, p)))


def score_window(window: Window, memory: Memory, model: Model) -> tuple[ScoredFlows, Memory]:
    """Score every flow of `window`; the windows of a site must come in order.

    Pure: the same arguments give the same result in every runtime. Row order is sacred: element i of every output
    belongs to row i of the window.
    """
    graph = build_graph(window, model.device)
    raw = {detector.name: _raw(detector, graph) for detector in model.detectors}
    by_detector = {name: model.calibrations[name].p(scores) for name, scores in raw.items()}
    p = combine(list(by_detector.values()), model.method)
    if model.joint is not None:
        p = model.joint.p(strangeness(p))
    return ScoredFlows(window, raw, by_detector, p, model.fingerprint), memory.after(graph, p)


def strangeness(p: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """-ln p, (E,): what a joint calibration sorts, with room for small p that 1 - p has not in float32."""
    return (-np.log(p)).astype(np.float32)


def _raw(detector: Detector, graph: FlowGraph) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    with torch.inference_mode():
        return detector.score(graph).to("cpu", torch.float32).numpy()


def explain_flows(scored: ScoredFlows, model: Model, rows: Ints) -> Explanation:
    """Reasons for the flows in `rows`, each from the detector that found it strangest. Builds the graph again.

    Args:
        scored: a window that `model` scored.
        rows: rows of the window, int64 (K,); few, since every one costs about as much as scoring it ten times.
    """
    graph = build_graph(scored.window, model.device)
    strangest = np.argmin(np.stack([scored.by_detector[detector.name][rows] for detector in model.detectors]), axis=0)
    parts = []
    with torch.inference_mode():
        for place, detector in enumerate(model.detectors):
            mine = rows[strangest == place]
            if len(mine):
                parts.append(detector.explain(graph, torch.from_numpy(mine)))
    return Explanation(*(sum((tuple(getattr(part, name)) for part in parts), ()) for name in _COLUMNS))


_COLUMNS = tuple(column.name for column in fields(Explanation))
