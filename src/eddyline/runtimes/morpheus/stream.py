"""One stream of flows in its order, a source or one partition of a topic, and what the stages know of it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Semaphore, Thread
from typing import Any, Final

from numpy.typing import NDArray

from eddyline.alert_state import BookState
from eddyline.alerts import AlertBook, AlertSettings
from eddyline.config import WindowConfig
from eddyline.contracts import Continued, Model, Source
from eddyline.flows import FlowBatch
from eddyline.metrics import Counts
from eddyline.runtimes.morpheus.memories import SharedMemory
from eddyline.scoring import Memory, memory_of
from eddyline.windows import Commit, Windower, WindowSettings

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class FlushSettings:
    """When sinks write and the source commits: after so many flows, and for a live source after so many seconds."""

    flows: int
    seconds: float | None


@dataclass(slots=True, eq=False)
class Stream:
    """What one stream's stages share. Each part is used by one stage only; memories lock what they must.

    Args:
        url, source: where it comes from, and the same, open.
        flush: see there. size: batches that may wait.
        resume: the commit that an earlier run left, None if there is none.
        windows: how it is cut, once that is known.
    """

    url: str
    source: Source
    flush: FlushSettings
    size: int = 4
    resume: Commit | None = None
    windows: WindowConfig = field(default_factory=lambda: WindowConfig.model_validate({}))
    counts: Counts = field(default_factory=Counts)
    errors: list[BaseException] = field(default_factory=list)  # of the reader, and of what Morpheus would swallow
    failed: Event = field(default_factory=Event)
    knocks: Semaphore = field(default_factory=lambda: Semaphore(0))
    latest: Commit = field(init=False)  # of the windower
    _waiting: queue.Queue[FlowBatch] = field(init=False)
    _reader: Thread | None = None
    _windower: Windower | None = None
    _book: AlertBook | None = None
    _memories: dict[str, SharedMemory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = queue.Queue(self.size)
        self.latest = self.resume or Commit(None)

    def start(self) -> None:
        """Begin to read, in a thread that ends with the source, at `close`, or once the run has failed."""
        self._reader = Thread(target=self._read, name="reading", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more; batches may still wait."""
        return self._reader is not None and not self._reader.is_alive()

    @property
    def unfinished(self) -> bool:
        """Whether a later run gets the flows of open windows again, so that they must not be closed."""
        return isinstance(self.source, Continued) and self.source.unfinished

    def batches(self) -> Iterator[FlowBatch]:
        """What waits now."""
        while True:
            try:
                yield self._waiting.get_nowait()
            except queue.Empty:
                return

    def rest(self) -> Iterator[FlowBatch]:
        """Everything that will still come, for a source that has ended or is closed."""
        while not self.ended:
            if self._reader is None:
                return
            yield from self.batches()
            self._reader.join(_POLL_S)
        yield from self.batches()

    def give_up(self) -> None:
        """Let nothing more be read, after a failure as well as at the end."""
        self.failed.set()
        self.source.close()
        if self._reader is not None:
            self._reader.join()

    def windower(self, settings: WindowSettings) -> Windower:
        """The one windower of this stream."""
        if self._windower is None:
            self._windower = Windower(settings, self.resume)
        return self._windower

    def book(self, settings: AlertSettings) -> AlertBook:
        """The one book of its alerts."""
        if self._book is None:
            self._book = AlertBook(settings, BookState.of(self.resume.book) if self.resume else None)
        return self._book

    def memory(self, site: str, model: Model) -> SharedMemory:
        """What is remembered of a site."""
        if site not in self._memories:
            known = self.resume.memories if self.resume else {}
            memory = Memory.of(known[site], model.frozen) if site in known else memory_of(model, site)
            self._memories[site] = SharedMemory(memory)
        return self._memories[site]

    def settled(self, model: Model, alive: Callable[[], bool]) -> dict[str, dict[str, NDArray[Any]]] | None:
        """Copies of all memories, those too of sites that were not heard of since; None when nobody waits for them."""
        for site in self.resume.memories if self.resume else ():
            self.memory(site, model)
        found = {}
        for site, memory in self._memories.items():
            parts = memory.settled(alive)
            if parts is None:
                return None
            found[site] = parts
        return found

    def _read(self) -> None:
        try:
            for batch in self.source:
                if not self._offer(batch):
                    return
        except BaseException as error:  # noqa: BLE001  # the stage that hands the batches on raises it
            self.errors.append(error)

    def _offer(self, batch: FlowBatch) -> bool:
        while not self.failed.is_set():
            try:
                self._waiting.put(batch, timeout=_POLL_S)
            except queue.Full:
                continue
            self.knocks.release()
            return True
        return False
