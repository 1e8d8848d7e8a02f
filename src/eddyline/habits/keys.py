"""Keys of a window's hosts, pairs and conversations in the tables of a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.conversations import Conversations
from eddyline.hashing import Keys, Places, joined

_EVERYBODY: Final = 0x51C0FFEE
SITE: Final = np.array([_EVERYBODY], np.uint64)
LEVELS: Final = 5  # of size habits: site, service, service at the source, at the destination, between the two
SENT, RECEIVED, PAIR, SERVICE, PORT, SIZE = range(1, 7)  # what a key is of


@dataclass(frozen=True, slots=True)
class WindowKeys:
    """Keys of one window. V hosts, P pairs, C conversations."""

    sent: Keys  # (V,) each host as a source
    received: Keys  # (V,) and as a destination
    pair: Keys  # (P,)
    back: Keys  # (P,) the other way round
    service: Keys  # (C,) the destination's service
    port: Keys  # (C,) the source's port
    sizes: Keys  # (5, C) of the flows' sizes by level, coarsest first; unanswered flows stand apart
    other_sizes: Keys  # (5, C) the same of flows answered where these were not, and the other way round

    @classmethod
    def of(cls, window: Conversations) -> Self:
        """Compute them, once per window: `HabitColumns` keeps them."""
        hosts = window.host_keys
        sources, targets = hosts[window.source], hosts[window.target]
        pair, back = _joined(sources, targets), _joined(targets, sources)
        sources, targets = sources[window.pair], targets[window.pair]
        service, port = (code * 4 + window.proto for code in (window.service, window.port))
        sizes, other = (np.empty((LEVELS, len(window)), np.uint64) for _ in range(2))
        _size_keys(sources, targets, pair[window.pair], service, window.unanswered, sizes, other)
        return cls(
            marked(hosts, SENT, 0), marked(hosts, RECEIVED, 0), pair, back, marked(targets, SERVICE, service),
            marked(sources, PORT, port), sizes, other,
        )  # fmt: skip


def marked(keys: Keys, kind: int, number: Places | int) -> Keys:
    """Keys of what a key (K,) has: its `kind`, and a number below 2^40 that tells several of a kind apart."""
    return np.asarray(_marked_all(keys, kind, np.asarray(number) + np.zeros(len(keys), np.int64)))


@njit(cache=True)
def _marked_all(keys: Keys, kind: int, number: Places) -> Keys:
    found = np.empty(len(keys), np.uint64)
    for place in range(len(keys)):
        found[place] = _marked(keys[place], kind, number[place])
    return found


@njit(cache=True)
def _marked(key: np.uint64, kind: int, number: int) -> np.uint64:
    return joined(key, np.uint64(number + (kind << 40)))


@njit(cache=True)
def _joined(first: Keys, second: Keys) -> Keys:
    found = np.empty(len(first), np.uint64)
    for place in range(len(first)):
        found[place] = joined(first[place], second[place])
    return found


@njit(cache=True)
def _size_keys(
    source: Keys, target: Keys, pair: Keys, service: Places, unanswered: NDArray[np.bool_], sizes: Keys, other: Keys
) -> None:
    site = np.uint64(_EVERYBODY)
    for place in range(len(pair)):
        for found, silent in ((sizes, unanswered[place]), (other, not unanswered[place])):
            number = service[place] * 2 + silent
            found[0, place] = _marked(site, SIZE, int(silent))
            found[1, place] = _marked(site, SIZE + 1, number)
            found[2, place] = _marked(source[place], SIZE + 2, number)
            found[3, place] = _marked(target[place], SIZE + 3, number)
            found[4, place] = _marked(pair[place], SIZE + 4, number)
