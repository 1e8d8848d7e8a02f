"""Four surprises of every flow, each "how unlikely is this under what the memory knows", in nats, larger is stranger.

burst: counts of the window against the host's or pair's own windows; novelty: a first meeting, a service new at the
destination, a port new at the source; no answer where one is usual; sizes unlike those of the same exchange before.
Burst and novelty are the largest of several views of one event, which added up would count it several times.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits import Conversations, Floats, HabitColumns
from eddyline.habits.tables import Rows
from eddyline.hashing import Places

TERMS: Final = ("burst", "novelty", "no answer", "size")
_STEEP: Final = 1.7  # nats per standard deviation: a logistic tail, a power law in the count
_BYTES: Final = 4  # the column of COUNTS that is no count: no Poisson floor


def surprises(window: Conversations, columns: HabitColumns) -> Rows:
    """All terms of every flow, float32 (E, 4), at least 0, in the order of TERMS."""
    found = np.empty((len(window.of_flow), len(TERMS)), np.float32)
    by_conversation = np.stack(
        [burst(window, columns), np.maximum.reduce(novelties(window, columns)), _unanswered(window, columns)], 1
    ).astype(np.float32)
    _filled(window.of_flow, by_conversation, window.unanswered, window.sizes, columns.size_mean, columns.size_sd, found)
    return found


def burst(window: Conversations, columns: HabitColumns) -> Floats:
    """The strangest count of the source, the destination or the pair, (C,); few flows are no anomaly."""
    source, target = window.source[window.pair], window.target[window.pair]
    hosts = [_highest(columns.sent, columns.sent_usual), _highest(columns.received, columns.received_usual)]
    spread = [
        tail(columns.spread[:, side], usual[end, -1, 0], usual[end, -1, 1], 1.0)
        for side, (usual, end) in enumerate(((columns.sent_usual, source), (columns.received_usual, target)))
    ]
    pair = tail(columns.of_pair, columns.pair_usual[..., 0], columns.pair_usual[..., 1], 1.0).max(1)
    strangest = np.maximum.reduce([hosts[0][source], hosts[1][target], *spread, pair[window.pair]])
    return np.asarray(strangest, np.float64)


def _highest(counts: Floats, usual: Floats) -> Floats:
    """Strangest of a host's counts but the last, the spread, which depends on the port, (V,)."""
    poisson = np.ones(counts.shape[1] - 1)
    poisson[_BYTES] = 0
    return np.asarray(tail(counts[:, :-1], usual[:, :-1, 0], usual[:, :-1, 1], poisson).max(1))


def tail(value: Floats, mean: Floats, sd: Floats, poisson: float | Floats) -> Floats:
    """Surprise of a count above its mean; where `poisson` is 1, counting noise is added to the deviation."""
    z = (value - mean) / np.sqrt(sd**2 + poisson / (1 + np.exp(np.minimum(mean, 20.0))))
    return np.where(z > 0, _STEEP * z + np.log(2), 0.0)


def novelties(window: Conversations, columns: HabitColumns) -> tuple[Floats, Floats, Floats]:
    """New pair, new service at the destination, new port at the source, each (C,).

    A host that meets somebody new all day surprises little, and a pair surprises less with every window it is seen in.
    """
    pair = (-np.log(columns.meets) / (1 + columns.known))[window.pair]
    windows = columns.host_known[window.target[window.pair], 1]
    service = -np.log((columns.service_known + 0.3) / (windows + 1)) / (1 + columns.service_known)
    port = -np.log(np.clip(columns.tries, 1e-4, 1.0)) / (1 + columns.port_known)
    return pair, np.maximum(service, 0.0), np.maximum(port, 0.0)


def _unanswered(window: Conversations, columns: HabitColumns) -> Floats:
    return np.where(window.unanswered, -np.log(columns.silence), 0.0)


@njit(cache=True)
def _filled(
    of_flow: Places, by_conversation: Rows, unanswered: NDArray[np.bool_], sizes: Rows, mean: Floats, sd: Floats,
    found: Rows,
) -> None:  # fmt: skip
    known = by_conversation.shape[1]
    for flow in range(len(of_flow)):
        place = of_flow[flow]
        for term in range(known):
            found[flow, term] = by_conversation[place, term]
        strangest = 0.0
        for column in range(sizes.shape[1]):
            if unanswered[place] and (column == 1 or column == 3 or column == 6):
                continue  # nothing came back: its size says nothing
            away = abs(sizes[flow, column] - mean[place, column]) / sd[place, column]
            if away > strangest:  # never true for an unknown size
                strangest = away
        found[flow, known] = _STEEP * strangest
