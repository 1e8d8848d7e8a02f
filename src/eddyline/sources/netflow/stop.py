"""How the iteration of a live source ends: from any thread, also while it waits for the network."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


class Stop:
    """Stops one iteration once; `release` is called exactly once, after the iteration or where nobody iterates.

    A poll on `fileno` wakes when the stop comes.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._iterating = self._released = False
        self.stopped = False

    def fileno(self) -> int:
        """What becomes readable at the stop."""
        return self._woken.fileno()

    def begin(self) -> bool:
        """Whether an iteration may begin: there is one at most, and none after the stop."""
        with self._lock:
            if self.stopped or self._iterating:
                return False
            self._iterating = True
            return True

    def end(self) -> None:
        """The iteration is over, however it ended."""
        with self._lock:
            self._iterating, self.stopped = False, True
        self._let_go()

    def stop(self) -> None:
        """Ask the iteration to end; twice is once."""
        with self._lock:
            if not self.stopped:
                self.stopped = True
                self._wake.send(b"\0")
            iterating = self._iterating
        if not iterating:
            self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            released, self._released = self._released, True
        if not released:
            self._release()
            self._wake.close()
            self._woken.close()
