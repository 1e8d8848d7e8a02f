"""Streams of flows in their order, each a source or one partition of a topic, and what the stages know of them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
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
class Feed:
    """What all streams of a pipeline share.

    Args:
        url: where they come from. flush: see there. size: batches of a stream that may wait.
        windows, model: how they are cut and scored, once that is known.
        errors: of readers, and of what Morpheus would swallow; the run raises the first.
        failed: set when nothing is to be read any more, for whatever reason.
        knocks: streams in which a batch waits, one entry for each batch.
    """

    url: str
    flush: FlushSettings
    size: int = 4
    replays: bool = True
    windows: WindowConfig = field(default_factory=lambda: WindowConfig.model_validate({}))
    model: Model | None = None
    counts: Counts = field(default_factory=Counts)
    errors: list[BaseException] = field(default_factory=list)
    failed: Event = field(default_factory=Event)
    knocks: queue.SimpleQueue[Stream] = field(default_factory=queue.SimpleQueue)
    streams: list[Stream] = field(default_factory=list)

    def add(self, source: Source, resume: Commit | None = None) -> Stream:
        """A further stream."""
        stream = Stream(self, source, resume)
        self.streams.append(stream)
        return stream

    def start(self) -> None:
        """Begin to read every stream, each in a thread that ends with its source, at `close`, or after a failure."""
        for stream in self.streams:
            stream.start()

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more; batches may still wait."""
        return all(stream.ended for stream in self.streams)

    def close(self) -> None:
        """Read no more; what was read is still scored and written."""
        for stream in self.streams:
            stream.source.close()

    def give_up(self) -> None:
        """Let nothing more be read, after a failure as well as at the end; commits are still taken."""
        self.failed.set()
        self.close()
        for stream in list(self.streams):
            stream.join()

    def leave(self) -> None:
        """Let go of everything: no commit comes any more."""


@dataclass(slots=True, eq=False)
class Stream:
    """One stream. Each part is used by one stage only; memories lock what they must.

    Args:
        source: open. resume: the commit that an earlier run left, None if there is none.
        latest: commit of the windower. gone: whether it belongs to another process now.
        rejected_until: the last row whose bad records are with the sinks.
        flows: in windows since the last mark with a commit. marked: when that was, seconds of the monotonic clock.
    """

    feed: Feed
    source: Source
    resume: Commit | None = None
    latest: Commit = field(init=False)
    gone: bool = False
    rejected_until: int = -1
    flows: int = 0
    marked: float = field(default_factory=time.monotonic)
    _waiting: queue.Queue[FlowBatch] = field(init=False)
    _reader: Thread | None = None
    _windower: Windower | None = None
    _book: AlertBook | None = None
    _memories: dict[str, SharedMemory] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = queue.Queue(self.feed.size)
        self.latest = self.resume or Commit(None)

    def start(self) -> None:
        """Begin to read."""
        self._reader = Thread(target=self._read, name="reading", daemon=True)
        self._reader.start()

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more; batches may still wait."""
        return self._reader is not None and not self._reader.is_alive()

    def join(self) -> None:
        """Return when nothing is read any more."""
        if self._reader is not None:
            self._reader.join()

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
        while self._reader is not None and self._reader.is_alive():
            yield from self.batches()
            self._reader.join(_POLL_S)
        yield from self.batches()

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

    def note(self, rejected: pa.Table) -> None:
        """Remember which bad records have reached the sinks."""
        last = pc.max(rejected["source_row"]).as_py()
        self.rejected_until = max(self.rejected_until, -1 if last is None else last)

    def _read(self) -> None:
        try:
            for batch in self.source:
                if not self._offer(batch):
                    return
        except BaseException as error:  # noqa: BLE001  # the stage that hands the batches on raises it
            self.feed.errors.append(error)

    def _offer(self, batch: FlowBatch) -> bool:
        while not self.feed.failed.is_set():
            try:
                self._waiting.put(batch, timeout=_POLL_S)
            except queue.Full:
                continue
            self.feed.knocks.put(self)
            return True
        return False
