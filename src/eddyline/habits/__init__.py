"""What hosts, pairs and services of a site usually do: read before a window is scored, updated after it.

Counts of a window are compared with the host's own earlier windows, meetings with how often the host meets anybody
new, sizes with those of the same pair, host and service, first meetings without an answer with how many the host has in
a day. Everything fades over about a week of minutes and every table is bounded. Counts, sizes and rates of flagged
flows are not learned, or a long attack would become the habit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from eddyline.habits.conversations import OWN, Conversations
from eddyline.habits.lessons import Batch, Lesson, lesson
from eddyline.habits.probes import DAY
from eddyline.habits.reading import COUNTS, HabitColumns, read
from eddyline.habits.tables import Floats, Table

T = TypeVar("T")

__all__ = ["LAG", "LIMIT", "TAU", "Conversations", "Floats", "HabitColumns", "Habits", "Table", "judged"]

WARM: Final = 0.3  # share of training windows that a young memory cannot judge yet
LAG: Final = 1  # window k is scored with the memory as it was after window k - 1 - LAG, so that steps may overlap
TAU: Final = 10_000.0  # windows after which a habit has faded to 1/e: a week of minutes
LIMIT: Final = 1 << 20  # keys of each table
FLAGGED: Final = 0.3  # of a meeting: what a flagged flow teaches; its counts and sizes teach nothing
_TABLES: Final = {
    "hosts": (4, len(COUNTS), TAU), "pairs": (1, 2, TAU), "seen": (0, 0, TAU), "sizes": (0, len(OWN), TAU),
    "probes": (0, 0, DAY), "probing": (0, 1, TAU),
}  # plain sums, things with a mean and a square, windows after which it fades  # fmt: skip


def judged(windows: Sequence[T]) -> Sequence[T]:
    """Leave out the first windows, in time order, which a memory that began with them could not judge."""
    return windows[min(round(WARM * len(windows)), len(windows) - 1) :]


@dataclass(slots=True)
class Habits:
    """One site's habits.

    Tables are large, so `after` changes them in place: the value it is called on is used up, and the one returned
    lives on. `parts` copies everything, for a commit.

    Args:
        tables: by name, see `_TABLES`.
        waiting: lessons of the last LAG windows, oldest first, learned when the next window is.
        now: number of the last window learned from. windows: how many there were.
        taught: numbers of the windows that training has learned from: a stream that brings them again teaches nothing.
    """

    tables: dict[str, Table]
    waiting: tuple[Lesson, ...] = ()
    now: int = 0
    windows: int = 0
    taught: frozenset[int] = frozenset()

    @classmethod
    def empty(cls, limit: int = LIMIT) -> Self:
        """Return the memory of a site never seen; its tables hold `limit` keys at most."""
        return cls({name: Table.empty(limit, *shape) for name, shape in _TABLES.items()})

    def read(self, window: Conversations, now: int) -> HabitColumns:
        """Look up what is usual for everything in a window; changes nothing."""
        return read(self.tables, window, now)

    def after(self, window: Conversations, columns: HabitColumns, now: int, weight: Floats) -> Self:
        """Return the memory after a window whose flows count with `weight` (E,), 0 for flagged ones; uses `self` up.

        The window itself waits for LAG windows; what is due now is learned.
        """
        return self.passed(now).taught_by(lesson(window, columns, weight, FLAGGED))

    def passed(self, now: int) -> Self:
        """Return the memory as window `now` leaves it, but for its own lesson, which may still come; uses `self` up."""
        now, left = max(now, self.now), max(len(self.waiting) + 1 - LAG, 0)
        for due in self.waiting[:left]:
            for name, batch in due.items():
                self.tables[name].take(batch.keys, now, batch.weight, batch.mean, batch.square, batch.more)
        return replace(self, waiting=self.waiting[left:], now=now, windows=self.windows + 1)

    def taught_by(self, last: Lesson) -> Self:
        """Return the memory with the lesson of the window that has just passed."""
        return replace(self, waiting=(*self.waiting, last))

    def number(self, start_us: int | None, end_us: int | None) -> int:
        """Number of a window on the site's time axis, by which habits fade; windows without a time are counted."""
        return self.now + 1 if start_us is None or end_us is None else start_us // max(end_us - start_us, 1)

    def parts(self) -> dict[str, NDArray[Any]]:
        """Copy everything into named arrays that `Habits.of` reads back, bit for bit."""
        found: dict[str, NDArray[Any]] = {"clock": np.array([self.now, self.windows])}
        found["taught"] = np.array(sorted(self.taught), np.int64)
        for name, table in self.tables.items():
            found |= {f"{name}/{part}": values for part, values in table.parts().items()}
        for place, due in enumerate(self.waiting):
            for name, batch in due.items():
                found |= {f"waiting {place}/{name}/{part}": values for part, values in batch.parts().items()}
        return found

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]], limit: int = LIMIT) -> Self:
        """Read `parts` back; raises KeyError where one is missing."""
        tables = {
            name: Table.of({part: parts[f"{name}/{part}"] for part in ("keys", "rows", "last")}, limit, *shape)
            for name, shape in _TABLES.items()
        }
        places = sorted({int(name.split("/")[0].split()[1]) for name in parts if name.startswith("waiting ")})
        waiting = tuple({name: Batch.read(parts, f"waiting {place}/{name}/") for name in _TABLES} for place in places)
        now, windows = (int(value) for value in parts["clock"])
        return cls(tables, waiting, now, windows, frozenset(parts["taught"].tolist()))
