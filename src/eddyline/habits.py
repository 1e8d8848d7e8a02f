"""What hosts, pairs and services of a site usually do: read before a window is scored, updated after it.

The memory is a value. It is empty so far: it counts the windows it has seen and offers no columns, and it already
travels through scoring, the runtimes and the commit, so that filling it changes nothing outside this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from torch import Tensor

from eddyline.combine import Floats
from eddyline.graphs import FlowGraph

LAG: Final = 1  # window k is scored with the memory as it was after window k - 1 - LAG, so that steps may overlap


@dataclass(frozen=True, slots=True)
class Habits:
    """One site's habits.

    Args:
        windows: windows learned from.
    """

    windows: int = 0


@dataclass(frozen=True, slots=True)
class HabitColumns:
    """What the habits say of each flow of a window; every column is float32 (E,).

    Args:
        columns: by name; none so far.
    """

    columns: dict[str, Tensor] = field(default_factory=dict)


def read(habits: Habits, graph: FlowGraph) -> HabitColumns:
    """Look up what `habits` say of every flow of `graph`; changes nothing."""
    del habits, graph  # an empty memory has nothing to say
    return HabitColumns()


def update(habits: Habits, graph: FlowGraph, p: Floats) -> Habits:
    """Return the habits after this window, scored with p-values (E,): flagged flows must not become habits."""
    del graph, p
    return replace(habits, windows=habits.windows + 1)
