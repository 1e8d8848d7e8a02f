"""The path in one process, the default: reading, scoring and writing overlap, with bounded queues between.

Sinks flush, then the source commits: after a crash everything since the last commit comes again, and nothing is lost.
Whichever thread fails first stops the others; its error leaves `run`. A stop lets what was read drain to the sinks.
"""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Generic, TypeVar

import pyarrow as pa

from eddyline.alert_state import BookState
from eddyline.alerts import Alert, AlertBook, AlertSettings
from eddyline.artifacts import load_models, model_folder, read_manifest
from eddyline.calibration import ENOUGH
from eddyline.combine import Method, ScoredFlows
from eddyline.config import RunSettings, WindowConfig
from eddyline.contracts import Continued, Counting, Model, Sink, Source
from eddyline.devices import chosen
from eddyline.errors import ConfigError
from eddyline.metrics import Counts, count_reasons
from eddyline.runtimes import use_threads
from eddyline.scoring import Memory, explain_flows, memory_of, score_window
from eddyline.sinks import open_sink
from eddyline.sources import is_live, open_source, replays
from eddyline.windows import Commit, Step, Windower, WindowSettings

_log = logging.getLogger(__name__)
T = TypeVar("T")
_AT_ONCE = 32  # windows that travel together between threads
_POLL_S = 0.2  # how soon a thread that waits notices that another one failed


@dataclass(frozen=True, slots=True)
class FlushSettings:
    """When sinks write and the source commits: after so many flows, and for a live source after so many seconds."""

    flows: int = 100_000
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    """One batch after windowing; `at` is when its windows closed, seconds of the monotonic clock."""

    step: Step
    flows: int
    rejected: pa.Table | None
    at: float
    whole: bool = True  # the batch ends here: only then may its commit follow
    last: bool = False  # nothing comes after it


@dataclass(frozen=True, slots=True)
class _Done:
    """One batch after scoring."""

    taken: _Taken
    windows: tuple[tuple[ScoredFlows, list[Alert]], ...]
    commit: Commit | None  # where sinks flush and the source commits, with the memories as they are after this batch


class _Channel(Generic[T]):
    """A bounded queue that also ends, and that nobody waits on once the run has failed."""

    def __init__(self, size: int, failed: Event) -> None:
        self._queue: queue.Queue[T | None] = queue.Queue(size)
        self._failed = failed

    @property
    def fill(self) -> tuple[int, int]:
        """How many wait, and how many may."""
        return self._queue.qsize(), self._queue.maxsize

    def put(self, value: T | None) -> None:
        while not self._failed.is_set():
            try:
                return self._queue.put(value, timeout=_POLL_S)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[T]:
        while not self._failed.is_set():
            try:
                value = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if value is None:
                return
            yield value


class EmbeddedRun:
    """One run of the path; `counts` may be read while it runs.

    Args:
        source, sinks: open; closed by whoever opened them.
        model: detectors and calibrations.
        windows, alerts, flush: settings of the steps.
        size: batches that may wait between two threads; memory is bounded by it, whatever the source does.
        stop: set by anyone to end the run; what was read is still scored and written.
        resume: the commit a stopped run left behind.
    """

    def __init__(
        self, source: Source, model: Model, sinks: Sequence[Sink], windows: WindowSettings, alerts: AlertSettings,
        flush: FlushSettings, size: int, stop: Event, resume: Commit | None = None,
    ) -> None:  # fmt: skip
        self.counts = Counts()
        self._source, self._model, self._sinks, self._flush = source, model, sinks, flush
        self._windower, self._begin = Windower(windows, resume), resume or Commit(None)
        self._book = AlertBook(alerts, BookState.of(resume.book) if resume else None)
        known = resume.memories if resume else {}
        self._memories = {site: Memory.of(parts, model.frozen) for site, parts in known.items()}
        self._stop, self._failed = stop, Event()
        self._errors: list[BaseException] = []
        self._read: _Channel[_Taken] = _Channel(size, self._failed)
        self._scored: _Channel[_Done] = _Channel(size, self._failed)
        self._began = time.monotonic()

    def run(self, report: Callable[[Counts], None] = lambda counts: None) -> Counts:
        """Run until the source ends or `stop` is set; raises what the first failing thread raised.

        Args:
            report: called about once a second from the calling thread.
        """
        steps = (self._take, self._score, self._write)
        threads = [
            Thread(target=self._guarded, args=(step,), name=step.__name__.strip("_"), daemon=True) for step in steps
        ]
        for thread in threads:
            thread.start()
        stopping = False
        while any(thread.is_alive() for thread in threads):
            if (self._stop.is_set() or self._failed.is_set()) and not stopping:
                self._source.close()
                stopping = True
            threads[-1].join(_POLL_S)
            self._look_around()
            report(self.counts)
        if self._errors:
            raise self._errors[0]
        return self.counts

    def _look_around(self) -> None:
        self.counts.seconds = time.monotonic() - self._began
        self.counts.queues = {"read": self._read.fill, "scored": self._scored.fill}
        if isinstance(self._source, Counting):
            self.counts.source = dict(self._source.counters)
            self.counts.exporters = self._source.exporters

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001  # every failure must reach `run`, which raises it
            self._errors.append(error)
            self._failed.set()

    def _take(self) -> None:
        step = Step((), 0, self._begin)
        for batch in self._source:
            step = self._windower.add(batch)
            self._hand_on(step, len(batch), batch.rejected if batch.rejected.num_rows else None)
            if self._failed.is_set():
                return
        if isinstance(self._source, Continued) and self._source.unfinished:
            last = Step((), 0, step.commit)
        else:
            last = self._windower.finish()
        self._hand_on(last, 0, None, last=True)
        self._read.put(None)

    def _hand_on(self, step: Step, flows: int, rejected: pa.Table | None, last: bool = False) -> None:
        """Pass windows on a few at a time, so that queues bound windows and not only batches; the last may commit."""
        now, closed = time.monotonic(), step.closed
        for first in range(0, len(closed) - _AT_ONCE, _AT_ONCE):
            part = Step(closed[first : first + _AT_ONCE], 0, Commit(None))
            self._read.put(_Taken(part, sum(map(len, part.closed)), None, now, whole=False))
            flows -= sum(map(len, part.closed))
        rest = closed[max(0, -(-len(closed) // _AT_ONCE) - 1) * _AT_ONCE :]
        self._read.put(_Taken(Step(rest, step.late, step.commit), flows, rejected, now, last=last))

    def _score(self) -> None:
        flows, flushed = 0, time.monotonic()
        for taken in self._read:
            windows = []
            for window in taken.step.closed:
                memory = self._memories.get(window.site) or memory_of(self._model, window.site)
                scored, self._memories[window.site] = score_window(window, memory, self._model)
                self.counts.levels[window.site] = level = self._memories[window.site].drift.level
                self.counts.bucket = max(self.counts.bucket, level)
                windows.append(self._book.take(scored, partial(explain_flows, scored, self._model)))
                flows += len(window)
            late = self._flush.seconds is not None and time.monotonic() - flushed >= self._flush.seconds
            due = taken.whole and (taken.last or late or flows >= self._flush.flows)
            self._scored.put(_Done(taken, tuple(windows), self._commit(taken.step.commit) if due else None))
            if due:
                flows, flushed = 0, time.monotonic()
        self._scored.put(None)

    def _commit(self, commit: Commit) -> Commit:
        """Add the memories and the book of alerts as they are now; copies, since scoring goes on with its own."""
        if not self._source.resumes:
            return commit
        memories = {site: memory.parts() for site, memory in self._memories.items()}
        return replace(commit, memories=memories, book=self._book.state.parts())

    def _write(self) -> None:
        for done in self._scored:
            self._write_batch(done)
            if done.commit is not None and not self._failed.is_set():
                self._flush_and_commit(done.commit)

    def _write_batch(self, done: _Done) -> None:
        for sink in self._sinks:
            if done.taken.rejected is not None:
                sink.reject(done.taken.rejected)
            for scored, alerts in done.windows:
                sink.write(scored, alerts)
        self._count(done)

    def _count(self, done: _Done) -> None:
        counts = self.counts
        counts.flows += done.taken.flows
        counts.late += done.taken.step.late
        counts.held_back = self._book.held_back
        if done.taken.rejected is not None:
            count_reasons(done.taken.rejected, counts.rejected)
        for scored, alerts in done.windows:
            counts.alerts += sum(alert.update == 0 for alert in alerts)
            counts.wrote(scored, time.monotonic() - done.taken.at)

    def _flush_and_commit(self, commit: Commit) -> None:
        for sink in self._sinks:
            sink.flush()
        self._source.commit(commit)


def open_model(folders: Sequence[Path], device: str, method: Method, frozen: bool, windows: WindowConfig) -> Model:
    """Load the models of a run; says in the log where their p-values are not what they seem."""
    found = chosen(device)
    _log.info("device: %s (%s)", found.device, found.why)
    model = load_models(folders, found.device, method, frozen)
    for folder in map(model_folder, folders):
        for difference in windows.unlike(read_manifest(folder).windows):
            _log.warning("windows: %s; give it the same, or run `eddyline calibrate` (model `%s`)", difference, folder)
    fewest = min(known.pairs.n for known in (model.joint, *model.calibrations.values()) if known)
    if fewest < ENOUGH:
        _log.warning(
            "calibration: only %d pair-minutes stand behind p (%d are enough): p <= 1e-3 rests on extrapolation; "
            "train or calibrate on more windows",
            fewest,
            ENOUGH,
        )
    return model


def model_of(settings: RunSettings) -> Model:
    """Load what the settings of a run name; see `open_model`."""
    frozen = settings.habits == "frozen"
    return open_model(settings.model, settings.device, settings.combine, frozen, settings.windows)


def run(settings: RunSettings, stop: Event, report: Callable[[Counts], None]) -> Counts:
    """Open what `settings` name, run the path until the source ends or `stop` is set, and close everything again."""
    use_threads(settings.threads)
    if settings.delivery != "at_least_once":
        raise ConfigError("config: `delivery` = exactly_once is from Kafka to Kafka only; give a source kafka://…")
    live, model = is_live(settings.source), model_of(settings)
    flush = FlushSettings(settings.flush_flows, settings.flush_s if live else None)
    with ExitStack() as ends:
        again = replays(settings.source)
        sinks = [ends.enter_context(closing(open_sink(url, live=live, replays=again))) for url in settings.sink]
        source = ends.enter_context(closing(open_source(settings.source)))
        windows, alerts = settings.windows.settings(), settings.alerts.settings()
        return EmbeddedRun(source, model, sinks, windows, alerts, flush, settings.queue, stop).run(report)
