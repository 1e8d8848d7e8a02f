"""What the memory says of a window: for every host, pair and conversation, what is usual there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.conversations import OWN, Conversations
from eddyline.habits.keys import PAIR, RECEIVED, SENT, SITE, WindowKeys, marked
from eddyline.habits.tables import Floats, Rows, Table
from eddyline.hashing import Places

NEW: Final = 0.5  # a pair or port seen in fewer windows than this is new
COUNTS: Final = ("flows", "peers", "ports", "unanswered", "bytes", "new peers", "spread")
LEVELS: Final = 5  # of size habits: site, service, service at the source, at the destination, between the two
# Plain sums of a host: new pairs, all pairs, new ports, all ports; a pair has MET only.
MET, PAIRS, TRIED, PORTS = range(1, 5)
_PULL: Final = 2.0  # windows that the coarser habit counts for
_FLOOR: Final = 0.3  # least standard deviation, natural log units


@dataclass(frozen=True, slots=True)
class HabitColumns:
    """What the habits say of one window. V hosts, P pairs, C conversations; counts and sizes are ln(1 + value).

    Args:
        sent, received: counts of each host as source and destination, (V, 7), see COUNTS; `spread` is the widest.
        sent_usual, received_usual: mean and standard deviation of each, (V, 7, 2).
        spread: of the conversation's own port, (C, 2): destinations of its source, sources of its destination.
        of_pair, pair_usual: flows and ports of each pair, (P, 2) and (P, 2, 2).
        known: windows in which each pair was seen, in either direction, (P,).
        meets: chance that the two meet somebody new, (P,).
        host_known: windows in which each host sent and received, (V, 2).
        service_known: windows in which the destination had this service, (C,).
        port_known, tries: windows in which the source used this port, and its chance to try a new one, (C,).
        silence: chance that a flow like this gets no answer, (C,).
        keys: what everything in the window is called in the tables.
        size_mean, size_sd: of the flow's own sizes, (C, 7), see OWN. size_known: flows behind them by level, (C, 5).
    """

    keys: WindowKeys
    sent: Floats
    received: Floats
    sent_usual: Floats
    received_usual: Floats
    spread: Floats
    of_pair: Floats
    pair_usual: Floats
    known: Floats
    meets: Floats
    host_known: Floats
    service_known: Floats
    port_known: Floats
    tries: Floats
    silence: Floats
    size_mean: Floats
    size_sd: Floats
    size_known: Floats


def read(tables: Mapping[str, Table], window: Conversations, now: int) -> HabitColumns:
    """Look up what the memory says of a window; changes nothing."""
    keys = WindowKeys.of(window)
    hosts, pairs, seen = tables["hosts"], tables["pairs"], tables["seen"]
    pair_rows = pairs.find(keys.pair)
    known = np.maximum(*(pairs.weights(rows, now, MET) for rows in (pair_rows, pairs.find(keys.back))))
    of_pair = np.log1p(window.of_pair)
    sides = []
    for role, own, counts, end, side in (
        (SENT, keys.sent, window.sent, window.source, 0), (RECEIVED, keys.received, window.received, window.target, 1)
    ):  # fmt: skip
        rows, site = hosts.find(own), hosts.find(marked(SITE, role, 0))
        table = np.log1p(_host_counts(window, counts, end, window.spread[:, side], known < NEW))
        sides.append((table, _usual(hosts, site, rows, now), rows, site))
    (sent, sent_usual, source, everyone), (received, received_usual, target, _) = sides
    meets = _meets(hosts, source, target, everyone, window, now)
    silence, size = _sizes(tables["sizes"], keys, window, now)
    return HabitColumns(
        keys, sent, received, sent_usual, received_usual, np.log1p(window.spread),
        of_pair, _usual(pairs, pairs.find(marked(SITE, PAIR, 0)), pair_rows, now), known, meets,
        np.stack([hosts.weights(source, now), hosts.weights(target, now)], 1),
        seen.weights(seen.find(keys.service), now), seen.weights(seen.find(keys.port), now),
        _rate(hosts, source, everyone, now, TRIED, PORTS)[window.source[window.pair]], silence, *size,
    )  # fmt: skip


def _host_counts(window: Conversations, counts: Floats, end: Places, spread: Floats, new: NDArray[np.bool_]) -> Floats:
    """Counts of each host in the order of COUNTS, (V, 7)."""
    widest = np.zeros(len(counts))
    np.maximum.at(widest, end[window.pair], spread)
    return np.column_stack([counts, np.bincount(end, new, minlength=len(counts)), widest])


def _rate(hosts: Table, rows: Places, site: Places, now: int, new: int, every: int) -> Floats:
    """How often a host does something new, pulled towards how often the site does, (V,)."""
    usual = (hosts.weights(site, now, new)[0] + 0.5) / (hosts.weights(site, now, every)[0] + 1)
    return np.asarray((hosts.weights(rows, now, new) + _PULL * usual) / (hosts.weights(rows, now, every) + _PULL))


def _meets(hosts: Table, source: Places, target: Places, site: Places, window: Conversations, now: int) -> Floats:
    usual = (hosts.weights(site, now, MET)[0] + 0.5) / (hosts.weights(site, now, PAIRS)[0] + 1)
    sends, receives = (_rate(hosts, rows, site, now, MET, PAIRS) for rows in (source, target))
    return np.asarray(np.clip(sends[window.source] * receives[window.target] / usual, 1e-4, 0.999), np.float64)


def _usual(table: Table, site: Places, rows: Places, now: int) -> Floats:
    """Mean and standard deviation of each row's columns, pulled towards the site's, (K, C, 2)."""
    usual = np.empty((len(rows), table.columns, 2))
    _pulled(table.rows, table.last, int(site[0]), rows, now, table.tau, 1 + table.sums, usual)
    return usual


@njit(cache=True)
def _pulled(
    rows: Rows, last: Places, site: int, places: Places, now: int, tau: float, start: int, usual: Floats
) -> None:
    columns = usual.shape[1]
    for column in range(columns):
        mean, spread = 0.0, 1.0
        if site >= 0:
            left = np.exp(-max(now - last[site], 0) / tau)
            mean = rows[site, start + column]
            spread = (rows[site, start + columns + column] * left + _PULL) / (rows[site, 0] * left + _PULL)
        for place in range(len(places)):
            row = places[place]
            own, around = mean, spread
            if row >= 0:
                left = np.exp(-max(now - last[row], 0) / tau)
                n, seen = rows[row, 0] * left, rows[row, start + column]
                own = (n * seen + _PULL * mean) / (n + _PULL)
                square = rows[row, start + columns + column] * left + n * (seen - own) ** 2
                around = (square + _PULL * (spread + (own - mean) ** 2)) / (n + _PULL)
            usual[place, column, 0] = own
            usual[place, column, 1] = max(np.sqrt(around), _FLOOR)


def _sizes(table: Table, keys: WindowKeys, window: Conversations, now: int) -> tuple[Floats, tuple[Floats, ...]]:
    """Chance of no answer (C,), and mean, deviation and evidence of the sizes, (C, 7), (C, 7), (C, 5)."""
    rows = np.stack([table.find(level) for level in keys.sizes], 1)
    other = [table.weights(table.find(level), now) for level in keys.other_sizes]
    mean, spread = np.zeros((len(window), len(OWN))), np.full((len(window), len(OWN)), 16.0)
    known, silence = np.zeros((len(window), LEVELS)), np.empty(len(window))
    _narrowed(table.rows, table.last, rows, now, table.tau, mean, spread, known)
    _silence(known, np.stack(other, 1), window.unanswered, silence)
    return silence, (mean, np.maximum(np.sqrt(spread), _FLOOR), known)


@njit(cache=True)
def _narrowed(
    rows: Rows, last: Places, places: Places, now: int, tau: float, mean: Floats, spread: Floats, known: Floats
) -> None:
    columns = mean.shape[1]
    for place in range(len(places)):
        for level in range(LEVELS):
            row = places[place, level]
            if row < 0:
                continue
            left = np.exp(-max(now - last[row], 0) / tau)
            n = known[place, level] = rows[row, 0] * left
            pull = _PULL if level else 0.1  # before the site's own habit there is nothing to hold on to
            for column in range(columns):
                seen, coarse = rows[row, 1 + column], mean[place, column]
                own = (n * seen + pull * coarse) / (n + pull)
                square = rows[row, 1 + columns + column] * left + n * (seen - own) ** 2
                mean[place, column] = own
                spread[place, column] = (square + pull * (spread[place, column] + (own - coarse) ** 2)) / (n + pull)


@njit(cache=True)
def _silence(alike: Floats, other: Floats, unanswered: NDArray[np.bool_], silence: Floats) -> None:
    for place in range(len(alike)):
        chance = 0.5
        for level in range(LEVELS):
            every = alike[place, level] + other[place, level]
            silent = alike[place, level] if unanswered[place] else other[place, level]
            pull = _PULL if level else 1.0
            chance = (silent + pull * chance) / (every + pull)
        silence[place] = min(max(chance, 1e-3), 1 - 1e-3)
