"""Scored flows to the few stories worth a look: grouped, explained, within a budget.

Flows at or below a p-value are grouped by site, host, service and reason; the scores stay complete underneath.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.alert_state import Alert as Alert
from eddyline.alert_state import BookState
from eddyline.combine import ScoredFlows
from eddyline.explanations import UNEXPLAINED, Explanation, Reason, reasons
from eddyline.flows import service_codes, service_name

Ints: TypeAlias = NDArray[np.int64]
MANY: Final = "many"
_DAY_US: Final = 86_400_000_000
_HOUR_US: Final = 3_600_000_000
_EXPLAINED: Final = 64  # stories per window that get reasons; beyond it no budget reaches
_PEERS: Final = 4_096  # distinct peers a story counts; beyond it the count is a lower bound


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """What may become an alert."""

    p: float = 1e-3  # flows with a combined p-value at or below it are candidates
    lone: float = 30.0  # how many times stranger a single flow must be to be a story; that many flows need no more
    per_hour: int = 10  # new stories per hour of event time; updates are free
    per_day: int = 20  # new stories per day of event time, and in all where flows carry no time
    services: int = 4  # a host whose strange flows touch more than this in a window is one story, service "many"
    reasons: int = 3  # sentences per alert


Explain: TypeAlias = Callable[[Ints], Explanation]


@dataclass(frozen=True, slots=True)
class _Group:
    host: str
    role: str
    service: str
    rows: Ints  # of the window, strangest first
    p: float
    target: str  # the one destination of its flows, "" where they have several
    reason: Reason = UNEXPLAINED


class AlertBook:
    """Keeps today's stories and opens new ones while the budget lasts. No clock: hours and days are event time.

    Args:
        state: of an earlier book, which this one goes on with and uses up.
    """

    def __init__(self, settings: AlertSettings, state: BookState | None = None) -> None:
        self._settings = settings
        known = state or BookState()
        self._open, self._peers, self._hosts, self._spent = known.open, known.peers, known.hosts, known.spent
        self.held_back = 0  # stories of this run, counted per window, that the budget did not allow

    @property
    def state(self) -> BookState:
        """What a book that goes on from here must know; the book's own, so write it down before the next window."""
        return BookState(self._open, self._peers, self._hosts, self._spent)

    def take(self, scored: ScoredFlows, explain: Explain) -> tuple[ScoredFlows, list[Alert]]:
        """Return the window with its `alert_id` column, and the alerts that it opened or changed.

        Args:
            scored: windows of a site in order.
            explain: rows of the window, int64 (K,), to reasons; asked only for the strangest flow of each group.
        """
        limit, lone = self._settings.p, self._settings.lone
        found = [
            one for one in _ranked(_groups(scored, self._settings)) if one.p * lone <= limit * min(len(one.rows), lone)
        ]
        groups = [group for group in found if self._may_tell(group, scored.window.start_us)][:_EXPLAINED]
        self.held_back += len(found) - len(groups)
        if not groups:
            return replace(scored, graph=None), []
        why = reasons(explain(np.array([group.rows[0] for group in groups])), self._settings.reasons)
        told = [replace(group, reason=why.get(int(group.rows[0]), UNEXPLAINED)) for group in groups]
        changed: list[Alert] = []
        place = np.full(len(scored), -1, np.int32)
        for group in _ranked(_joined(map(_about_the_target, told), self._settings.services)):
            alert = self._tell(scored, group)
            if alert is not None:
                place[group.rows] = len(changed)
                changed.append(alert)
        ids = pa.array([alert.id for alert in changed], pa.utf8()).take(pa.array(place, mask=place < 0))
        return replace(scored, alert_id=ids, graph=None), changed

    def _tell(self, scored: ScoredFlows, group: _Group) -> Alert | None:
        window = scored.window
        day = 0 if window.start_us is None else window.start_us // _DAY_US
        key = "|".join((window.site, group.host, group.role, group.service, group.reason.kind, str(day)))
        name = hashlib.blake2b(key.encode(), digest_size=6).hexdigest()
        known = self._open.get(name)
        if known is None:
            if not self._left(window.start_us):
                self.held_back += 1
                return None
            self._spend(window.start_us)
            self._hosts.add(group.host)
        seen = self._peers.setdefault(name, set())
        fresh = _alert(name, window.site, group, window.flows.take(group.rows), seen)
        self._open[name] = fresh if known is None else _merged(known, fresh)
        return self._open[name]

    def _may_tell(self, group: _Group, start_us: int | None) -> bool:
        # Reasons are dear: without budget, only hosts that have a story today are worth asking about.
        return self._left(start_us) or not {group.host, group.target}.isdisjoint(self._hosts)

    def _left(self, start_us: int | None) -> bool:
        hour, day = _spans(start_us)
        left = self._spent[day] < self._settings.per_day
        return left and (start_us is None or self._spent[hour] < self._settings.per_hour)

    def _spend(self, start_us: int | None) -> None:
        hour, day = _spans(start_us)
        if self._spent[day] == 0:
            self._forget()
        for span in {hour, day}:
            self._spent[span] += 1

    def _forget(self) -> None:
        # On the first story of a day: drop what is older than the last few days' budgets, so memory stays flat.
        self._hosts.clear()
        for name in list(self._open)[: -4 * self._settings.per_day]:
            del self._open[name], self._peers[name]
        for span in list(self._spent)[: -8 * 24]:
            del self._spent[span]


def _spans(start_us: int | None) -> tuple[tuple[str, int], tuple[str, int]]:
    """Hour and day that a story is paid from; all flows without a time pay from one."""
    return (
        (("all", 0), ("all", 0)) if start_us is None else (("hour", start_us // _HOUR_US), ("day", start_us // _DAY_US))
    )


def _ranked(groups: Iterable[_Group]) -> list[_Group]:
    return sorted(groups, key=lambda group: (group.p, -len(group.rows)))


def _groups(scored: ScoredFlows, settings: AlertSettings) -> Iterator[_Group]:
    rows = np.flatnonzero(scored.p <= settings.p)
    if not len(rows):
        return
    rows = rows[np.argsort(scored.p[rows], kind="stable")]
    flows = scored.window.flows.select(["src_addr", "dst_addr", "src_port", "dst_port", "proto"]).take(rows)
    names, ends = _codes(flows)
    at_target = _fan(ends[1], ends[0]) > np.maximum(2, _fan(ends[0], ends[1]))  # many to one: the one is the story
    host = np.where(at_target, ends[1], ends[0])
    service = service_codes(flows)
    service[_fan(host, service) > settings.services] = -1
    groups, inverse = np.unique(np.stack([host, at_target, service]), axis=1, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    for (who, target, what), members in zip(
        groups.T, np.split(order, np.cumsum(np.bincount(inverse.ravel()))[:-1]), strict=True
    ):
        role = "destination" if target else "source"
        targets = np.unique(ends[1][members])
        one = names[targets[0]] if len(targets) == 1 else ""
        yield _Group(
            names[who],
            role,
            MANY if what < 0 else service_name(int(what)),
            rows[members],
            float(scored.p[rows[members[0]]]),
            one,
        )


def _about_the_target(group: _Group) -> _Group:
    """What is strange about the destination is a story about the destination, whoever else talks to it."""
    if group.reason.about == "destination" and group.role == "source" and group.target:
        return replace(group, host=group.target, role="destination")
    return group


def _joined(groups: Iterable[_Group], services: int) -> list[_Group]:
    """Join groups that tell one story: of a host as a whole, whatever the service; of one service; of too many.

    A few flows beside ten times as many strange flows of the same host in the same window tell nothing new: they join.
    """
    known = list(groups)
    spread = Counter((group.host, group.role) for group in known)
    main: dict[tuple[str, str], _Group] = {}
    for group in known:
        old = main.setdefault((group.host, group.role), group)
        main[group.host, group.role] = max(old, group, key=lambda one: len(one.rows))
    stories: dict[tuple[str, ...], list[_Group]] = {}
    for group in known:
        largest = main[group.host, group.role]
        told = largest if 10 * len(group.rows) <= len(largest.rows) else group
        of_host = bool(told.reason.about) or spread[group.host, group.role] > services
        key = (group.host, group.role, told.reason.kind, "" if of_host else told.service)
        stories.setdefault(key, []).append(group)
    return [_one_story(parts) for parts in stories.values()]


def _one_story(parts: list[_Group]) -> _Group:
    flows = Counter[str]()
    for part in parts:
        flows[part.service] += len(part.rows)
    (service, most), rows = flows.most_common(1)[0], np.concatenate([part.rows for part in parts])
    leader = max(parts, key=lambda part: len(part.rows))
    return replace(
        leader, rows=rows, p=min(part.p for part in parts), service=service if 2 * most > len(rows) else MANY
    )


def _codes(flows: pa.Table) -> tuple[list[str], Ints]:
    """Distinct hosts of both ends, and their codes, int64 (2, K)."""
    both = pa.chunked_array(
        [c.cast(pa.utf8()) for end in ("src_addr", "dst_addr") for c in flows[end].chunks], pa.utf8()
    )
    encoded = both.combine_chunks().dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64).reshape(2, -1)


def _fan(of: Ints, over: Ints) -> Ints:
    """For each flow, how many distinct values of `over` go with its value of `of`."""
    pairs = np.unique(np.stack([of, over]), axis=1)[0]
    values, counts = np.unique(pairs, return_counts=True)
    return np.asarray(counts[np.searchsorted(values, of)], np.int64)


def _alert(name: str, site: str, group: _Group, flows: pa.Table, seen: set[str]) -> Alert:
    other = pc.unique(flows["src_addr" if group.role == "destination" else "dst_addr"]).to_pylist()
    seen.update(other[: max(0, _PEERS - len(seen))])
    first, last = pc.min(flows["ts_start"]).value, pc.max(flows["ts_end"]).value
    volume = sum(pc.sum(flows[column]).as_py() or 0 for column in ("bytes", "rev_bytes"))
    truth = sorted({text for text in pc.unique(flows["attack"]).to_pylist() if text})
    return Alert(
        id=name,
        site=site,
        host=group.host,
        role=group.role,
        service=group.service,
        reason=group.reason.kind,
        reasons=group.reason.sentences,
        p=group.p,
        first_seen_us=first,
        last_seen_us=last,
        count=len(flows),
        peers=tuple(other[:5]),
        peer_count=len(seen),
        total_bytes=volume,
        update=0,
        truth=tuple(truth),
    )


def _merged(known: Alert, fresh: Alert) -> Alert:
    strangest = min(known, fresh, key=lambda alert: alert.p)
    firsts = [t for t in (known.first_seen_us, fresh.first_seen_us) if t is not None]
    lasts = [t for t in (known.last_seen_us, fresh.last_seen_us) if t is not None]
    return replace(
        known,
        reasons=strangest.reasons,
        p=strangest.p,
        first_seen_us=min(firsts, default=None),
        last_seen_us=max(lasts, default=None),
        count=known.count + fresh.count,
        peers=(*known.peers, *(peer for peer in fresh.peers if peer not in known.peers))[:5],
        peer_count=fresh.peer_count,
        total_bytes=known.total_bytes + fresh.total_bytes,
        update=known.update + 1,
        truth=tuple(sorted({*known.truth, *fresh.truth})),
    )
