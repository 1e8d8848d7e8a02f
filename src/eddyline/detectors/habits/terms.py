"""Five surprises of every flow, each "how unlikely is this under what the memory knows", in nats, larger is stranger.

burst: counts of the window, or of a day's probes, against the host's or pair's own; volume: the bytes its source sends,
likewise; novelty: a first meeting, a service new at the destination, a port new at the source; no answer where one is
usual; sizes unlike those of the same exchange before. Burst and novelty are the largest of several views of one event,
which added up would count it several times. Bytes are no view of a burst: one download makes a minute's bytes strange
every day, and in one maximum with the counts its tail would set the cap of both. Bytes that a host gets say nothing
that the flow's own size does not.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits import Conversations, Floats, HabitColumns
from eddyline.habits.conversations import OWN
from eddyline.habits.tables import Rows
from eddyline.hashing import Places

TERMS: Final = ("burst", "volume", "novelty", "no answer", "size")
_STEEP: Final = 1.7  # nats per standard deviation: a logistic tail, a power law in the count
BYTES: Final = 4  # the column of COUNTS that is no count


def surprises(window: Conversations, columns: HabitColumns) -> Rows:
    """All terms of every flow, float32 (E, 5), at least 0, in the order of TERMS."""
    return np.column_stack([of_conversations(window, columns)[window.of_flow], of_flows(window, columns)])


def of_conversations(window: Conversations, columns: HabitColumns) -> Rows:
    """All terms but the last, which are the same for all flows of a conversation, float32 (C, 4)."""
    found = np.empty((len(window), len(TERMS) - 1), np.float32)
    found[:, 0] = burst(window, columns)
    found[:, 1] = volume(window, columns)
    found[:, 2] = np.maximum.reduce(novelties(window, columns))
    found[:, 3] = np.where(window.unanswered, -np.log(columns.silence), 0.0)
    return found


def of_flows(window: Conversations, columns: HabitColumns) -> Rows:
    """The last term, float32 (E,): the strangest of each flow's own sizes, an unknown one says nothing."""
    found = np.empty(len(window.of_flow), np.float32)
    _strangest(window.of_flow, window.unanswered, window.sizes, columns.size_mean, 1 / columns.size_sd, found)
    return found


def burst(window: Conversations, columns: HabitColumns) -> Floats:
    """The strangest count of the source, the destination or the pair, (C,); few flows are no anomaly."""
    sent, received = columns.sent_usual, columns.received_usual
    by_source, by_target = _counted(columns.sent[:, :-1], sent), _counted(columns.received[:, :-1], received)
    by_pair = _counted(columns.of_pair, columns.pair_usual)
    lately = _tails(columns.probes.lately, columns.probes.usual, True)
    found = np.empty(len(window))
    _burst(
        window.pair, window.source, window.target, by_source, by_target, by_pair, columns.spread, sent[:, -1],
        received[:, -1], columns.probes.of, lately, found,
    )  # fmt: skip
    return found


@njit(cache=True)
def _burst(
    pair: Places, source: Places, target: Places, by_source: Floats, by_target: Floats, by_pair: Floats, spread: Floats,
    sent: Floats, received: Floats, probe: NDArray[np.bool_], lately: Floats, found: Floats,
) -> None:  # fmt: skip
    for place in range(len(pair)):
        here, there = source[pair[place]], target[pair[place]]
        strangest = max(by_source[here], by_target[there], by_pair[pair[place]])
        if probe[place]:
            strangest = max(strangest, lately[here])  # said of the probes only, not of all that the host does that day
        strangest = max(strangest, tail(spread[place, 0], sent[here, 0], sent[here, 1], True))
        found[place] = max(strangest, tail(spread[place, 1], received[there, 0], received[there, 1], True))


@njit(cache=True)
def _counted(counts: Floats, usual: Floats) -> Floats:
    """The strangest count of each row, bytes left out, (K,)."""
    found = np.zeros(len(counts))
    for row in range(len(counts)):
        for column in range(counts.shape[1]):
            if column != BYTES:
                strange = tail(counts[row, column], usual[row, column, 0], usual[row, column, 1], True)
                found[row] = max(found[row], strange)
    return found


def volume(window: Conversations, columns: HabitColumns) -> Floats:
    """The bytes that the source sends, (C,)."""
    sent = _tails(columns.sent[:, BYTES], columns.sent_usual[:, BYTES], False)
    return np.asarray(sent[window.source[window.pair]], np.float64)


@njit(cache=True)
def _tails(values: Floats, usual: Floats, counted: bool) -> Floats:
    """Surprise of each value, (K,), by its mean and deviation, (K, 2)."""
    found = np.empty(len(values))
    for row in range(len(values)):
        found[row] = tail(values[row], usual[row, 0], usual[row, 1], counted)
    return found


@njit(cache=True)
def tail(value: float, mean: float, sd: float, counted: bool) -> float:
    """Surprise of a value above its mean; what is counted varies by more than its deviation says: as Poisson does."""
    if value <= mean:
        return 0.0
    noise = 1 / (1 + np.exp(min(mean, 20.0))) if counted else 0.0
    return float(_STEEP * (value - mean) / np.sqrt(sd**2 + noise) + np.log(2))


def novelties(window: Conversations, columns: HabitColumns) -> tuple[Floats, Floats, Floats]:
    """New pair, new service at the destination, new port at the source, each (C,).

    A host that meets somebody new all day surprises little, and a pair surprises less with every window it is seen in.
    """
    pair = (-np.log(columns.meets) / (1 + columns.known))[window.pair]
    windows = columns.host_known[window.target[window.pair], 1]
    service = -np.log((columns.service_known + 0.3) / (windows + 1)) / (1 + columns.service_known)
    port = -np.log(np.clip(columns.tries, 1e-4, 1.0)) / (1 + columns.port_known)
    return pair, np.maximum(service, 0.0), np.maximum(port, 0.0)


@njit(cache=True)
def _strangest(
    of_flow: Places, unanswered: NDArray[np.bool_], sizes: Rows, mean: Floats, per_sd: Floats, found: Rows
) -> None:
    for flow in range(len(of_flow)):
        place = of_flow[flow]
        most = 0.0
        for column in range(len(OWN)):
            if unanswered[place] and (column == 1 or column == 3 or column == 6):
                continue  # nothing came back: its size says nothing
            away = abs(sizes[flow, column] - mean[place, column]) * per_sd[place, column]
            if away > most:  # never true for an unknown size
                most = away
        found[flow] = _STEEP * most
