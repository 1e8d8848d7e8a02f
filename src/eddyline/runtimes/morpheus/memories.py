"""One site's memory between two stages: one scores window k with it while the other still judges window k - 1."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any, Final

from numpy.typing import NDArray

from eddyline.drift import Drift
from eddyline.habits.lessons import Lesson
from eddyline.scoring import Memory

_POLL_S: Final = 0.1  # how soon whoever waits for a lesson notices that the pipeline is being ended


class SharedMemory:
    """A site's memory whose habits one thread reads and whose drift another one keeps; lessons go from it to the first.

    The lag of the habits makes it exact: window k is read after window k - 2 has been learned from, whatever the
    threads do, so every score is that of `score_window`.

    Args:
        memory: as it was before the first window.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lessons: queue.SimpleQueue[Lesson] = queue.SimpleQueue()
        self._missing = 0  # lessons of windows handed on that have not been taken in
        self._handed: int | None = None  # number of the last window handed on, until the habits have passed it

    def read(self, alive: Callable[[], bool]) -> Memory | None:
        """Return the memory that the next window is to be seen with; None when `alive` says that nobody waits for it.

        Blocks until every window but the last one handed on has been judged.
        """
        return self._memory if self._pass(alive) else None

    def handed_on(self, number: int) -> None:
        """Note that a window to learn from, read with this memory, is on its way to `learn`."""
        self._handed, self._missing = number, self._missing + 1

    def settled(self, alive: Callable[[], bool]) -> dict[str, NDArray[Any]] | None:
        """Copy the memory as all windows handed on leave it; blocks until they have been judged. None as in `read`."""
        if self._pass(alive) and self._take_in(0, alive):
            return self._memory.parts()
        return None

    @property
    def drift(self) -> Drift:
        """What keeps p honest; for the thread that judges."""
        return self._memory.drift

    def learn(self, drift: Drift, lesson: Lesson) -> None:
        """Take what one window has taught; for the thread that judges, windows in order."""
        self._memory.drift = drift
        self._lessons.put(lesson)

    def _pass(self, alive: Callable[[], bool]) -> bool:
        if self._handed is None:
            return True
        if not self._take_in(1, alive):
            return False
        self._memory.habits, self._handed = self._memory.habits.passed(self._handed), None
        return True

    def _take_in(self, left: int, alive: Callable[[], bool]) -> bool:
        while self._missing > left:
            try:
                lesson = self._lessons.get(timeout=_POLL_S)
            except queue.Empty:
                if not alive():
                    return False
                continue
            self._memory.habits, self._missing = self._memory.habits.taught_by(lesson), self._missing - 1
        return True
