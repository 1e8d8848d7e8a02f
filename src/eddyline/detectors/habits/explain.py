"""What the terms of a flow saw, in numbers for a person: observed against usual, with the host's own values."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from eddyline.detectors.habits.terms import BYTES, TERMS, novelties, tail
from eddyline.explanations import Explanation
from eddyline.habits import Conversations, Floats, HabitColumns
from eddyline.habits.reading import NEW
from eddyline.hashing import Places

_Row: TypeAlias = tuple[str, str, float, float, str, str]  # feature, unit, observed, expected, kind, about
_NOTHING: Final = float("nan")
_WORTH: Final = 0.03  # of a score: less is no reason
_SENT: Final = (
    ("flows of the source", "", "burst"),
    ("hosts the source contacts", "", "probing"),
    ("ports the source tries", "", "probing"),
    ("unanswered flows of the source", "", "probing"),
    ("bytes the source sends", "B", "size"),
    ("new hosts the source contacts", "", "probing"),
    ("hosts the source contacts on this port", "", "probing"),
)
_RECEIVED: Final = (
    ("flows to the destination", "", "burst"),
    ("hosts that contact the destination", "", "burst"),
    ("ports tried at the destination", "", "probing"),
    ("unanswered flows to the destination", "", "probing"),
    ("bytes the destination gets", "B", "size"),
    ("new hosts that contact the destination", "", "burst"),
    ("hosts that contact the destination on this port", "", "burst"),
)
_LATELY: Final = ("strangers that have not answered the source in a day", "", "probing")
_PAIR: Final = (("flows between the two hosts", "", "burst"), ("ports tried between the two hosts", "", "probing"))
_OWN: Final = (
    ("bytes sent", "B"), ("bytes received", "B"), ("packets sent", ""), ("packets received", ""), ("duration", "us"),
    ("bytes per packet sent", "B"), ("bytes per packet received", "B"),
)  # fmt: skip


_NEW: Final = (
    ("first meeting of the two hosts", "the two hosts rarely meet", "pair"),
    ("service new at the destination", "service rare at the destination", "service"),
    ("port new for the source", "port rare for the source", "service"),
)  # said of the first time and of the next ones, and the kind of strangeness


def explanation(window: Conversations, columns: HabitColumns, rows: Places, parts: Floats) -> Explanation:
    """Explain flows `rows` (K,) whose terms add `parts` (K, 5) to their scores."""
    table: list[tuple[int, _Row, float]] = []
    for row, own in zip(rows.tolist(), parts, strict=True):
        for term in np.argsort(-own):
            if own[term] > _WORTH * own.sum():
                table.append((row, _row(window, columns, row, TERMS[term]), float(own[term])))
    return Explanation(
        [flow for flow, _, _ in table],
        [row[0] for _, row, _ in table],
        [row[1] for _, row, _ in table],
        [row[2] for _, row, _ in table],
        [row[3] for _, row, _ in table],
        [part for _, _, part in table],
        [row[4] for _, row, _ in table],
        [row[5] for _, row, _ in table],
    )


def _row(window: Conversations, columns: HabitColumns, flow: int, term: str) -> _Row:
    place = int(window.of_flow[flow])
    pair = int(window.pair[place])
    source, target = int(window.source[pair]), int(window.target[pair])
    if term == "burst":
        return _burst(columns, place, pair, source, target)
    if term == "volume":
        (name, unit, kind), usual = _SENT[BYTES], columns.sent_usual[source, BYTES, 0]
        return name, unit, _plain(columns.sent[source, BYTES]), _plain(usual), kind, "source"
    if term == "size":
        return _size(window, columns, flow, place)
    if term == "no answer":
        said = f"no answer, where {1 - columns.silence[place]:.0%} of such flows are answered"
        return said, "", _NOTHING, _NOTHING, "probing", ""
    found = np.array([term[place] for term in novelties(window, columns)])
    seen = (columns.known[pair], columns.service_known[place], columns.port_known[place])
    first, again, kind = _NEW[int(np.argmax(found))]
    return first if seen[int(np.argmax(found))] < NEW else again, "", _NOTHING, _NOTHING, kind, ""


def _burst(columns: HabitColumns, place: int, pair: int, source: int, target: int) -> _Row:
    """The count that surprised most."""
    found: list[tuple[float, _Row]] = []
    sent, received = columns.sent[source].copy(), columns.received[target].copy()
    sent[-1], received[-1] = columns.spread[place]
    for names, counts, usual, about in (
        (_SENT, sent, columns.sent_usual[source], "source"),
        (_RECEIVED, received, columns.received_usual[target], "destination"),
        (_PAIR, columns.of_pair[pair], columns.pair_usual[pair], ""),
    ):
        strange = [
            0.0 if column == BYTES else tail(one, usual[column, 0], usual[column, 1], True)
            for column, one in enumerate(counts)
        ]
        best = int(np.argmax(strange))
        name, unit, kind = names[best]
        found.append((strange[best], (name, unit, _plain(counts[best]), _plain(usual[best, 0]), kind, about)))
    if columns.probes.of[place]:
        found.append(_lately(columns, source))
    return max(found, key=lambda one: one[0])[1]


def _lately(columns: HabitColumns, source: int) -> tuple[float, _Row]:
    (name, unit, kind), count = _LATELY, columns.probes.lately[source]
    mean, sd = columns.probes.usual[source]
    return tail(count, mean, sd, True), (name, unit, _plain(count), _plain(mean), kind, "source")


def _size(window: Conversations, columns: HabitColumns, flow: int, place: int) -> _Row:
    away = np.abs(window.sizes[flow] - columns.size_mean[place]) / columns.size_sd[place]
    if window.unanswered[place]:
        away[[1, 3, 6]] = 0
    best = int(np.nanargmax(away)) if not np.isnan(away).all() else 0
    name, unit = _OWN[best]
    scale = 1000.0 if unit == "us" else 1.0  # durations are kept in milliseconds
    return (
        name,
        unit,
        _plain(window.sizes[flow, best]) * scale,
        _plain(columns.size_mean[place, best]) * scale,
        "size",
        "",
    )


def _plain(value: float) -> float:
    return float(np.expm1(value))
