"""How the `habits` detector is fitted: the caps of its terms, on windows that were new when they were looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from eddyline.config import TrainSettings
from eddyline.detectors.habits.detector import HabitsDetector
from eddyline.graphs import FlowGraph
from eddyline.habits import judged


def fit(
    training: Sequence[FlowGraph], held: Sequence[FlowGraph], settings: TrainSettings, checkpoint: Path,
    report: Callable[[str, int, int, str], None],
) -> tuple[HabitsDetector, Sequence[FlowGraph], dict[str, float]]:  # fmt: skip
    """Fit on all benign windows, in time order, but the first ones, which a young memory could not judge.

    Every window was judged by the memory of the windows before it only, so all of them are as good as held out.
    """
    del settings, checkpoint
    fresh = judged([*training, *held])
    report("fitting habits", len(fresh), len(fresh), f"{sum(map(len, fresh)):,} flows")
    return HabitsDetector.fit(fresh), fresh, {"windows": float(len(fresh))}
