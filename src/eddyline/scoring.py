"""The pure middle: one window and a site's memory in, scored flows and the memory after it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from eddyline.alerts import Ints
from eddyline.combine import Floats, ScoredFlows, combine
from eddyline.contracts import Detector, Model
from eddyline.drift import ALPHA, Drift
from eddyline.errors import ArtifactError
from eddyline.explanations import Explanation
from eddyline.graphs import FlowGraph, build_graph, columns_of
from eddyline.habits import FLAGGED, Habits
from eddyline.habits.lessons import Lesson, lesson
from eddyline.windows import Window

_SOURCES = 10.0  # active sources a window, where no calibration has counted them


@dataclass(slots=True)
class Memory:
    """What a site remembers between windows; it travels with the commit position.

    `score_window` uses the memory passed in up and returns the one that lives on; `parts` copies it.

    Args:
        habits: what is usual. drift: what keeps p honest.
        frozen: learn nothing, score every window with the memory as it was saved.
    """

    habits: Habits
    drift: Drift
    frozen: bool = False

    @classmethod
    def empty(cls) -> Self:
        """Return the memory of a site never seen."""
        return cls(Habits.empty(), Drift.empty(_SOURCES))

    def parts(self) -> dict[str, NDArray[Any]]:
        """Copy everything into named arrays that `Memory.of` reads back, bit for bit."""
        both = {"habits": self.habits.parts(), "drift": self.drift.parts()}
        return {f"{name}/{part}": values for name, found in both.items() for part, values in found.items()}

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]], frozen: bool = False) -> Self:
        """Read `parts` back; raises KeyError where one is missing."""
        habits, drift = (
            {name.removeprefix(prefix): part for name, part in parts.items() if name.startswith(prefix)}
            for prefix in ("habits/", "drift/")
        )
        return cls(Habits.of(habits), Drift.of(drift), frozen)


def memory_of(model: Model, site: str) -> Memory:
    """Return what a model knows of a site when a service starts: what was saved with it, or nothing.

    Raises ArtifactError for what another version saved.
    """
    parts = model.memories.get(site)
    if parts is None:
        return replace(Memory.empty(), frozen=model.frozen)
    try:
        return Memory.of(parts, model.frozen)
    except KeyError as error:
        raise ArtifactError(
            f"model: what it remembers of site `{site}` lacks {error}: another version saved it; train the model again"
        ) from error


def score_window(window: Window, memory: Memory, model: Model) -> tuple[ScoredFlows, Memory]:
    """Score every flow of `window`; the windows of a site must come in order. Uses `memory` up.

    The same arguments give the same result in every runtime. Row order is sacred: element i of every output belongs to
    row i of the window.
    """
    detected = detect(window, build_graph(window, model.device), memory, model)
    scored, drift, lesson = judge(detected, memory.drift, model)
    if lesson is None:
        return scored, memory
    return scored, Memory(memory.habits.passed(detected.now).taught_by(lesson), drift)


@dataclass(frozen=True, slots=True)
class Detected:
    """A window halfway: what the detectors made of it, not combined yet.

    Args:
        graph: with what the habits say. now: number of the window.
        learns: whether the memory is to learn from it.
        raw: per detector its own score, float32 (E,).
    """

    window: Window
    graph: FlowGraph
    now: int
    learns: bool
    raw: Mapping[str, NDArray[np.float32]]


def detect(window: Window, graph: FlowGraph, memory: Memory, model: Model) -> Detected:
    """Let every detector see the graph of `window` with the habits of its site; changes nothing."""
    graph, now = recalled(graph, memory.habits)
    learns = not (memory.frozen or (window.start_us is not None and now in memory.habits.taught))
    return Detected(window, graph, now, learns, {detector.name: _raw(detector, graph) for detector in model.detectors})


def judge(detected: Detected, drift: Drift, model: Model) -> tuple[ScoredFlows, Drift, Lesson | None]:
    """Make p-values of raw scores and one of several; uses `drift` up.

    Returns the scored flows, the drift after them, and what the window teaches the habits, None where nothing is to be
    learned.
    """
    window, graph, now = detected.window, detected.graph, detected.now
    by_detector = {name: model.calibrations[name].p(scores) for name, scores in detected.raw.items()}
    p0 = combine(list(by_detector.values()), model.method)
    if model.joint is not None:
        p0 = model.joint.p(strangeness(p0))
    columns, conversations = columns_of(graph), graph.conversations()
    adjusted = drift.adjust(p0, conversations, columns, now)
    scored = ScoredFlows(
        window, detected.raw, by_detector, adjusted.p, model.fingerprint, factor=adjusted.factor,
        custom=adjusted.custom, graph=graph,
    )  # fmt: skip
    if not detected.learns:
        return scored, drift, None
    taught = lesson(conversations, columns, (adjusted.p > ALPHA).astype(np.float64), FLAGGED)
    return scored, drift.after(p0, adjusted, conversations, columns, now), taught


def remembered(window: Window, habits: Habits, device: str) -> tuple[FlowGraph, int]:
    """Build the graph of a window with what `habits` say of it, and number the window."""
    return recalled(build_graph(window, device), habits)


def recalled(graph: FlowGraph, habits: Habits) -> tuple[FlowGraph, int]:
    """Add to a graph what `habits` say of its window, and number the window."""
    window = graph.window
    # A late window spans several: it is numbered as what it came with.
    now = habits.now if window.late else habits.number(window.start_us, window.end_us)
    return replace(graph, habits=habits.read(graph.conversations(), now)), now


def strangeness(p: Floats) -> NDArray[np.float32]:
    """-ln p, (E,): what a joint calibration sorts, with room for small p that 1 - p has not in float32."""
    return (-np.log(p)).astype(np.float32)


def _raw(detector: Detector, graph: FlowGraph) -> NDArray[np.float32]:
    with torch.inference_mode():
        return detector.score(graph).to("cpu", torch.float32).numpy()


def explain_flows(scored: ScoredFlows, model: Model, rows: Ints) -> Explanation:
    """Reasons for the flows in `rows`, each from the detector that found it strangest.

    Args:
        scored: a window that `model` scored, its graph still with it.
        rows: rows of the window, int64 (K,); few, since every one costs about as much as scoring it ten times.
    """
    if scored.graph is None:
        raise ValueError("scoring: the window's graph is gone; explain a window before its alerts are handed on")
    strangest = np.argmin(np.stack([scored.by_detector[detector.name][rows] for detector in model.detectors]), axis=0)
    parts = []
    with torch.inference_mode():
        for place, detector in enumerate(model.detectors):
            mine = rows[strangest == place]
            if len(mine):
                parts.append(detector.explain(scored.graph, torch.from_numpy(mine)))
    return Explanation(*(sum((tuple(getattr(part, name)) for part in parts), ()) for name in _COLUMNS))


_COLUMNS = tuple(column.name for column in fields(Explanation))
