"""Flows of one site and one stretch of event time: batches in; closed windows and a safe commit position out.

Tumbling windows `[start, end)` of `length_us`. A site's watermark is its latest event time minus `lateness_us`; a
window closes when the watermark reaches its end. A live source's clock moves it on in silence, and `lateness_us` later
where all flows are old: a slow exporter may be the only one left. Flows without a time, or all when `by` is "count", go
into one endless window per site, cut every `count` rows. A flow whose window has closed is late: none is ever dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.flows import FlowBatch, split_by_site

_UNTIMED: Final = np.iinfo(np.int64).min  # stands for a null time inside NumPy columns
_NEVER: Final = -(2**60)  # before any event time, and far enough from the edge of int64 to add to
_SLICES: Final = 16  # more runs than this in one batch and gathering is cheaper than slicing


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How a stream is cut."""

    by: Literal["time", "count"] = "time"  # flows without a time still go by count
    length_us: int = 60_000_000
    lateness_us: int = 10_000_000  # how long after its end a window waits for stragglers, event time
    max_flows: int = 1_000_000  # a time window this full is closed early in parts: a flood stays in memory bounds
    count: int = 10_000  # rows per count window


@dataclass(frozen=True, slots=True)
class Window:
    """The flows of one site whose event time falls in [start_us, end_us), in arrival order. Final once seen.

    Its key is (site, start_us, late, part).
    """

    site: str
    start_us: int | None  # microseconds UTC; None for count windows
    end_us: int | None
    part: int  # 0, or 1, 2, … where the window was cut
    late: bool  # these flows came after their windows had closed; [start_us, end_us) then spans those windows
    flows: pa.Table  # E >= 1 rows of BATCH_SCHEMA

    def __len__(self) -> int:
        return int(self.flows.num_rows)


@dataclass(frozen=True, slots=True)
class SiteState:
    """What a restarted windower must know of a site; plain numbers, so a commit can be written as JSON."""

    closed_until_us: int
    watermark_us: int
    lead_us: int | None  # a live source's clock minus the watermark, when flows last moved it
    flows_before_close: int  # flows of the stream after `Commit.position` that arrived before the site's last close
    parts: Mapping[int | None, tuple[int, int]]  # window start -> (next part, flows after the position already out)
    late_parts: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything up to `position` is in closed windows; the rest tells a replay after it what is already out.

    `seen` flows after `position` had been taken when this was written: the replay brings them again, and until then
    nothing moves a watermark, for `sites` already has what they did to it.
    """

    position: Any
    seen: int = 0
    sites: Mapping[str, SiteState] = field(default_factory=dict)
    memories: Mapping[str, Any] = field(default_factory=dict)
    book: Mapping[str, Any] = field(default_factory=dict)  # of the alerts, named arrays as a memory has


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch caused: windows that are now final, how many flows were late, and what may be committed."""

    closed: tuple[Window, ...]
    late: int
    commit: Commit


@dataclass(slots=True)
class _Pending:
    position: Any
    flows: int  # of one batch
    left: int  # of them, not in a closed window yet
    safe: bool = False  # once everything up to here is in closed windows


@dataclass(slots=True)
class _Open:  # a window that still takes flows: its pieces, and what parts of it are already out
    pieces: deque[tuple[_Pending, pa.Table]] = field(default_factory=deque)
    rows: int = 0
    part: int = 0
    out: deque[tuple[_Pending, int]] = field(default_factory=deque)
    skip: int = 0  # flows that a replay brings again

    def put(self, batch: _Pending, flows: pa.Table) -> None:
        again = min(self.skip, flows.num_rows)
        if again:
            self.skip -= again
            self.out.append((batch, again))
            batch.left -= again
            flows = flows.slice(again)
        if flows.num_rows:
            self.pieces.append((batch, flows))
            self.rows += flows.num_rows

    def cut(self, rows: int) -> pa.Table:
        taken: list[pa.Table] = []
        missing = rows
        while missing:
            batch, flows = self.pieces.popleft()
            if flows.num_rows > missing:
                self.pieces.appendleft((batch, flows.slice(missing)))
                flows = flows.slice(0, missing)
            batch.left -= flows.num_rows
            missing -= flows.num_rows
            self.out.append((batch, flows.num_rows))
            taken.append(flows)
        self.rows -= rows
        return pa.concat_tables(taken)

    def out_after_position(self) -> int:
        while self.out and self.out[0][0].safe:
            self.out.popleft()
        return self.skip + sum(rows for _, rows in self.out)


@dataclass(slots=True)
class _Site:
    closed_until_us: int = _NEVER
    watermark_us: int = _NEVER
    lead_us: int | None = None
    closed_at: int = 0  # flows of the stream that had arrived at the last close
    open: dict[int | None, _Open] = field(default_factory=dict)
    late: _Open = field(default_factory=_Open)


class Windower:
    """Cuts a stream of batches into windows. Pure: no clock, no I/O; the same batches give the same windows.

    Args:
        settings: how to cut.
        resume: the last commit of a run that stopped; the source then replays everything after `resume.position`, and
            windows before and after together equal those of a run that never stopped.
    """

    def __init__(self, settings: WindowSettings, resume: Commit | None = None) -> None:
        resume = resume or Commit(None)
        self._settings, self._position, self._replay = settings, resume.position, resume.seen
        self._base, self._seen = 0, 0  # flows of the stream up to the safe position, and taken so far
        self._pending: deque[_Pending] = deque()
        self._sites = {site: _restore(state) for site, state in resume.sites.items()}

    def add(self, batch: FlowBatch) -> Step:
        """Take one batch; return the windows it closed. Lateness is judged against windows closed before this batch."""
        pending = _Pending(batch.position, len(batch), len(batch))
        self._pending.append(pending)
        after = self._seen + len(batch)
        replayed = self._seen < self._replay and after <= self._replay
        late, moved = 0, dict[str, bool]()
        for site, flows, rows in split_by_site(batch.table):
            state = self._sites.setdefault(site, _Site())
            late += self._put(state, self._unseen(state, flows, rows, pending), pending)
            moved[site] = not replayed and self._advance(state, flows, batch.now_us)
        self._seen = after
        closed = [w for s in (() if replayed else self._sites) for w in self._close(s, batch.now_us, moved.get(s))]
        return Step(tuple(closed), late, self._commit())

    def finish(self) -> Step:
        """Close everything: the source has ended, or the service stops."""
        closed: list[Window] = []
        for site, state in self._sites.items():
            closed.extend(self._flush_late(site, state))
            for start in sorted(state.open, key=lambda start: (start is not None, start)):  # untimed first
                closed.extend(self._emit(site, state, start, state.open[start].rows))
            state.open = {start: rest for start, rest in state.open.items() if start is None}
        return Step(tuple(closed), 0, self._commit())

    def _put(self, state: _Site, flows: pa.Table, pending: _Pending) -> int:
        late = 0
        for start, piece in _by_window(flows, self._settings):
            if start is not None and start + self._settings.length_us <= state.closed_until_us:
                state.late.put(pending, piece)
                late += piece.num_rows
            else:
                state.open.setdefault(start, _Open()).put(pending, piece)
        return late

    def _advance(self, state: _Site, flows: pa.Table, now_us: int | None) -> bool:
        latest = pc.max(flows["ts_end"]).value
        if latest is None or latest - self._settings.lateness_us <= state.watermark_us:
            return False
        state.watermark_us = latest - self._settings.lateness_us
        state.lead_us = None if now_us is None else now_us - state.watermark_us
        return True

    def _close(self, site: str, now_us: int | None, moved: bool | None) -> Iterator[Window]:  # None: no flows
        state, length = self._sites[site], self._settings.length_us
        if now_us is not None and not moved and state.lead_us is not None:
            grace = 0 if moved is None else self._settings.lateness_us
            state.watermark_us = max(state.watermark_us, now_us - state.lead_us - grace)
        for start, window in state.open.items():
            capacity = self._settings.count if start is None else self._settings.max_flows
            while window.rows >= capacity:
                yield from self._emit(site, state, start, capacity)
        until = state.watermark_us // length * length
        if until > state.closed_until_us:
            yield from self._flush_late(site, state)
            for start in sorted(s for s in state.open if s is not None and s + length <= until):
                yield from self._emit(site, state, start, state.open[start].rows)
                del state.open[start]
            state.closed_until_us, state.closed_at = until, self._seen
        elif state.late.rows >= self._settings.max_flows:
            yield from self._flush_late(site, state)
            state.closed_at = self._seen

    def _emit(self, site: str, state: _Site, start: int | None, rows: int) -> Iterator[Window]:
        window = state.open[start]
        if rows:
            end = None if start is None else start + self._settings.length_us
            yield Window(site, start, end, window.part, False, window.cut(rows))
            window.part += 1

    def _flush_late(self, site: str, state: _Site) -> Iterator[Window]:
        if state.late.rows:
            flows, length = state.late.cut(state.late.rows), self._settings.length_us
            span = pc.min_max(flows["ts_end"])
            start, last = (span[edge].value // length * length for edge in ("min", "max"))
            yield Window(site, start, last + length, state.late.part, True, flows)
            state.late.part += 1
            state.late.out.clear()

    def _unseen(self, state: _Site, flows: pa.Table, rows: NDArray[np.int64], pending: _Pending) -> pa.Table:
        # Leave out what a run before the restart had already put into closed windows.
        if self._seen >= self._replay:
            return flows
        starts = _window_starts(flows, self._settings)
        out = (self._seen + rows < state.closed_at) & (starts != _UNTIMED)
        out &= starts + self._settings.length_us <= state.closed_until_us
        pending.left -= int(out.sum())
        return flows.filter(pa.array(~out))

    def _commit(self) -> Commit:
        while self._pending and self._pending[0].left == 0:
            done = self._pending.popleft()
            done.safe = True
            self._position, self._base = done.position, self._base + done.flows
        sites = {site: self._state(state) for site, state in self._sites.items()}
        return Commit(self._position, self._seen - self._base, sites)

    def _state(self, state: _Site) -> SiteState:
        parts = {start: (held.part, held.out_after_position()) for start, held in state.open.items() if held.part}
        before = max(0, state.closed_at - self._base)
        return SiteState(state.closed_until_us, state.watermark_us, state.lead_us, before, parts, state.late.part)


def _restore(state: SiteState) -> _Site:
    opened = {start: _Open(part=part, skip=skip) for start, (part, skip) in state.parts.items()}
    times = (state.closed_until_us, state.watermark_us, state.lead_us, state.flows_before_close)
    return _Site(*times, opened, _Open(part=state.late_parts))


def _window_starts(flows: pa.Table, settings: WindowSettings) -> NDArray[np.int64]:
    if settings.by == "count":
        return np.full(flows.num_rows, _UNTIMED)
    ends = flows["ts_end"].cast(pa.int64()).fill_null(_UNTIMED).to_numpy()
    starts = ends // settings.length_us * settings.length_us
    starts[ends == _UNTIMED] = _UNTIMED
    return np.asarray(starts, np.int64)


def _by_window(flows: pa.Table, settings: WindowSettings) -> Iterator[tuple[int | None, pa.Table]]:
    """Pieces of `flows` by window start: slices where the order is nearly that of time, else one gather a window."""
    if not flows.num_rows:
        return
    starts = _window_starts(flows, settings)
    edges = np.flatnonzero(starts[1:] != starts[:-1]) + 1
    if len(edges) < _SLICES:
        bounds = [0, *edges.tolist(), len(starts)]
        pieces = ((int(starts[a]), flows.slice(a, b - a)) for a, b in pairwise(bounds))
    else:
        order = np.argsort(starts, kind="stable")
        cuts = np.flatnonzero(np.diff(starts[order])) + 1
        pieces = ((int(starts[rows[0]]), flows.take(rows)) for rows in np.split(order, cuts))
    for start, piece in pieces:
        yield (None if start == _UNTIMED else start), piece
