"""The work of the stages without Morpheus: what one value makes of one value or several, over the path's functions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from eddyline.alerts import AlertSettings
from eddyline.contracts import Counting, Model, Sink
from eddyline.flows import FlowBatch
from eddyline.graphs import build_graph
from eddyline.metrics import count_reasons
from eddyline.runtimes.morpheus.carried import Carried, Closed, Graphed, Knock, Mark, Seen, Told
from eddyline.runtimes.morpheus.stream import Feed, Stream
from eddyline.scoring import detect, explain_flows, judge
from eddyline.windows import Step, WindowSettings

Alive = Callable[[], bool]


class Windowing:
    """Batches that wait in a stream become closed windows, each batch followed by its mark."""

    def __init__(self, settings: WindowSettings) -> None:
        self._settings = settings

    def __call__(self, carried: Carried, alive: Alive) -> Iterator[Carried]:
        """Windows that the waiting batches close."""
        if isinstance(carried, Knock):
            for batch in carried.stream.batches():
                yield from self._cut(carried.stream, batch)
        else:
            yield carried

    def finish(self, feed: Feed) -> Iterator[Carried]:
        """Everything that is left once the sources have ended or were closed; nothing where reading has failed."""
        for stream in list(feed.streams):
            rest = list(stream.rest())
            if feed.errors:
                return
            if not stream.gone:
                yield from self._finish(stream, rest)

    def _finish(self, stream: Stream, rest: list[FlowBatch]) -> Iterator[Carried]:
        for batch in rest:
            yield from self._cut(stream, batch)
        windower = stream.windower(self._settings)
        step = Step((), 0, stream.latest) if stream.unfinished else windower.finish()
        yield from self._windows(stream, step)
        yield Mark(stream, 0, 0, None, step.commit, last=True)

    def _cut(self, stream: Stream, batch: FlowBatch) -> Iterator[Carried]:
        step = stream.windower(self._settings).add(batch)
        stream.latest = step.commit
        yield from self._windows(stream, step)
        flush, now = stream.feed.flush, time.monotonic()
        late = flush.seconds is not None and now - stream.marked >= flush.seconds
        due = late or stream.flows >= flush.flows
        if due:
            stream.flows, stream.marked = 0, now
        rejected = batch.rejected if batch.rejected.num_rows else None
        yield Mark(stream, len(batch), step.late, rejected, step.commit if due else None)

    def _windows(self, stream: Stream, step: Step) -> Iterator[Carried]:
        at = time.monotonic()
        for window in step.closed:
            stream.flows += len(window)
            yield Closed(stream, window, at)


class Graphing:
    """A window becomes a graph, its conversations counted."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __call__(self, carried: Carried, alive: Alive) -> Iterator[Carried]:
        """The graph of a closed window."""
        if isinstance(carried, Closed):
            graph = build_graph(carried.window, self._device)
            graph.conversations()
            yield Graphed(carried, graph)
        else:
            yield carried


class Detecting:
    """A graph is seen by every detector, with the habits of its site as the fixed lag has them."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def __call__(self, carried: Carried, alive: Alive) -> Iterator[Carried]:
        """Raw scores; blocks until the window before the last has been judged, yields nothing if that never happens."""
        if isinstance(carried, Graphed):
            closed = carried.closed
            shared = closed.stream.memory(closed.window.site, self.model)
            memory = shared.read(alive)
            if memory is None:
                return
            detected = detect(closed.window, carried.graph, memory, self.model)
            if detected.learns:
                shared.handed_on(detected.now)
            yield Seen(closed, detected, self.model)
        elif isinstance(carried, Mark) and carried.commit is not None and carried.stream.source.resumes:
            memories = carried.stream.settled(self.model, alive)
            if memories is not None:
                yield replace(carried, commit=replace(carried.commit, memories=memories))
        else:
            yield carried


class Combining:
    """Raw scores become p-values and alerts; what the window teaches goes back to the memory."""

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings

    def __call__(self, carried: Carried, alive: Alive) -> Iterator[Carried]:
        """Scored flows."""
        if isinstance(carried, Seen):
            yield self._told(carried)
        elif isinstance(carried, Mark) and carried.commit is not None and carried.stream.source.resumes:
            book = carried.stream.book(self._settings).state.parts()
            yield replace(carried, commit=replace(carried.commit, book=book))
        else:
            yield carried

    def _told(self, seen: Seen) -> Told:
        stream, site = seen.closed.stream, seen.closed.window.site
        memory = stream.memory(site, seen.model)
        scored, drift, lesson = judge(seen.detected, memory.drift, seen.model)
        if lesson is not None:
            memory.learn(drift, lesson)
        counts, book = stream.feed.counts, stream.book(self._settings)
        counts.levels[site] = drift.level
        counts.bucket = max(counts.bucket, drift.level)
        scored, alerts = book.take(scored, partial(explain_flows, scored, seen.model))
        counts.held_back = book.held_back
        return Told(seen.closed, scored, tuple(alerts))


class Writing:
    """Scored flows go to the sinks; at a mark that says so they flush and the source commits."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks
        self._last: list[Mark] = []  # of each stream

    def __call__(self, carried: Carried, alive: Alive) -> Iterator[Carried]:
        """The same value, once the sinks have it."""
        if isinstance(carried, Told):
            for sink in self._sinks:
                sink.write(carried.scored, carried.alerts)
            counts = carried.closed.stream.feed.counts
            counts.alerts += sum(alert.update == 0 for alert in carried.alerts)
            counts.wrote(carried.scored, time.monotonic() - carried.closed.at)
        elif isinstance(carried, Mark):
            self._mark(carried)
        yield carried

    def finish(self) -> None:
        """Flush and commit the last marks, if they came; for when every stage has ended."""
        for mark in self._last:
            self._commit(mark)

    def _mark(self, mark: Mark) -> None:
        counts, source = mark.stream.feed.counts, mark.stream.source
        counts.flows, counts.late = counts.flows + mark.flows, counts.late + mark.late
        if isinstance(source, Counting):
            counts.source = dict(source.counters)
        if mark.rejected is not None:
            count_reasons(mark.rejected, counts.rejected)
            for sink in self._sinks:
                sink.reject(mark.rejected)
            mark.stream.note(mark.rejected)
        if mark.last:
            self._last.append(mark)
        elif mark.commit is not None:
            self._commit(mark)

    def _commit(self, mark: Mark) -> None:
        for sink in self._sinks:
            sink.flush()
        if mark.commit is not None and not mark.stream.gone:
            mark.stream.source.commit(mark.commit)


def guarded(work: Callable[[], Iterator[Carried]], feed: Feed) -> list[Carried]:
    """Do work where Morpheus guards nothing: what it raises is kept for the end of the run, which raises it then."""
    try:
        return list(work())
    except BaseException as error:  # noqa: BLE001  # nothing may leave a completion callback
        feed.errors.append(error)
        return []
