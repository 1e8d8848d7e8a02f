"""What the memory says of a window: for every host, pair and conversation, what is usual there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.conversations import OWN, Conversations
from eddyline.habits.keys import LEVELS, PAIR, RECEIVED, SENT, SITE, WindowKeys, marked
from eddyline.habits.probes import Probes, probes
from eddyline.habits.tables import Floats, Rows, Table
from eddyline.hashing import Places

NEW: Final = 0.5  # a pair or port seen in fewer windows than this is new
COUNTS: Final = ("flows", "peers", "ports", "unanswered", "bytes", "new peers", "spread")
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
        meets: chance of a first meeting at the end that has more of them, (P,).
        host_known: windows in which each host sent and received, (V, 2).
        service_known: windows in which the destination had this service, (C,).
        port_known, tries: windows in which the source used this port, and its chance to try a new one, (C,).
        silence: chance that a flow like this gets no answer, (C,).
        probes: first meetings without an answer, over a day.
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
    probes: Probes
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
        table = np.empty((len(counts), len(COUNTS)))
        _host_table(window.pair, end, counts, window.spread, side, known, table)
        sides.append((table, _usual(hosts, site, rows, now), rows, site))
    (sent, sent_usual, source, everyone), (received, received_usual, target, _) = sides
    sends, receives = (_rate(hosts, rows, everyone, now, MET, PAIRS) for rows in (source, target))
    # The product of both would be right if they were independent; it claims more the longer a memory grows.
    meets = np.clip(np.maximum(sends[window.source], receives[window.target]), 1e-4, 0.999)
    probing, before = tables["probing"], tables["probes"]
    probed = probes(
        window, known < NEW, before.weights(before.find(keys.sent), now),
        _usual(probing, probing.find(marked(SITE, SENT, 0)), probing.find(keys.sent), now)[:, 0],
    )  # fmt: skip
    silence, size = _sizes(tables["sizes"], keys, window, now)
    return HabitColumns(
        keys, sent, received, sent_usual, received_usual, np.log1p(window.spread),
        of_pair, _usual(pairs, pairs.find(marked(SITE, PAIR, 0)), pair_rows, now), known, meets,
        np.stack([hosts.weights(source, now), hosts.weights(target, now)], 1),
        seen.weights(seen.find(keys.service), now), seen.weights(seen.find(keys.port), now),
        _rate(hosts, source, everyone, now, TRIED, PORTS)[window.source[window.pair]], silence, probed, *size,
    )  # fmt: skip


@njit(cache=True)
def _host_table(
    pair: Places, end: Places, counts: Floats, spread: Floats, side: int, known: Floats, table: Floats
) -> None:
    """ln(1 + count) of each host in the order of COUNTS, (V, 7)."""
    columns = counts.shape[1]
    table[:, :columns] = counts
    table[:, columns:] = 0
    for meeting in range(len(end)):
        table[end[meeting], columns] += known[meeting] < NEW
    for place in range(len(pair)):
        host = end[pair[place]]
        table[host, columns + 1] = max(table[host, columns + 1], spread[place, side])
    for host in range(len(table)):
        for column in range(columns + 2):
            table[host, column] = np.log1p(table[host, column])


def _rate(hosts: Table, rows: Places, site: Places, now: int, new: int, every: int) -> Floats:
    """How often a host does something new, pulled towards how often the site does, (V,)."""
    usual = (hosts.weights(site, now, new)[0] + 0.5) / (hosts.weights(site, now, every)[0] + 1)
    return np.asarray((hosts.weights(rows, now, new) + _PULL * usual) / (hosts.weights(rows, now, every) + _PULL))


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
    alike, other = (table.find(level.ravel()).reshape(level.shape) for level in (keys.sizes, keys.other_sizes))
    mean, spread = np.zeros((len(window), len(OWN))), np.full((len(window), len(OWN)), 16.0)
    known, silence = np.zeros((len(window), LEVELS)), np.empty(len(window))
    _narrowed(table.rows, table.last, alike, now, table.tau, mean, spread, known)
    _silence(table.rows, table.last, known, other, now, table.tau, window.unanswered, silence)
    return silence, (mean, spread, known)


@njit(cache=True)
def _narrowed(
    rows: Rows, last: Places, places: Places, now: int, tau: float, mean: Floats, spread: Floats, known: Floats
) -> None:
    columns = mean.shape[1]
    for place in range(len(mean)):
        for level in range(LEVELS):
            row = places[level, place]
            if row < 0:
                continue
            left = np.exp(-max(now - last[row], 0) / tau)
            n = known[place, level] = rows[row, 0] * left
            pull = _PULL if level else 0.1  # before the site's own habit there is nothing to hold on to
            share = 1 / (n + pull)
            for column in range(columns):
                seen, coarse = rows[row, 1 + column], mean[place, column]
                own = (n * seen + pull * coarse) * share
                square = rows[row, 1 + columns + column] * left + n * (seen - own) ** 2
                mean[place, column] = own
                spread[place, column] = (square + pull * (spread[place, column] + (own - coarse) ** 2)) * share
        for column in range(columns):
            spread[place, column] = max(np.sqrt(spread[place, column]), _FLOOR)


@njit(cache=True)
def _silence(
    rows: Rows, last: Places, known: Floats, other: Places, now: int, tau: float, unanswered: NDArray[np.bool_],
    silence: Floats,
) -> None:  # fmt: skip
    for place in range(len(silence)):
        chance = 0.5
        for level in range(LEVELS):
            alike, row, more = known[place, level], other[level, place], 0.0
            if row >= 0:
                more = rows[row, 0] * np.exp(-max(now - last[row], 0) / tau)
            silent = alike if unanswered[place] else more
            pull = _PULL if level else 1.0
            chance = (silent + pull * chance) / (alike + more + pull)
        silence[place] = min(max(chance, 1e-3), 1 - 1e-3)
