"""Keys of a window's hosts, pairs and conversations in the tables of a memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.conversations import Conversations
from eddyline.hashing import Keys, Places, joined

SITE: Final = np.array([0x51C0FFEE], np.uint64)  # stands for everybody
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
    sizes: tuple[Keys, ...]  # of the flows' sizes by level, coarsest first, each (C,)
    other_sizes: tuple[Keys, ...]  # the same of flows answered where these were not, and the other way round

    @classmethod
    def of(cls, window: Conversations) -> Self:
        """Compute them, once per window: `HabitColumns` keeps them."""
        hosts, ends = window.host_keys, (window.source[window.pair], window.target[window.pair])
        pair, back = (
            _both(hosts[window.source], hosts[window.target]),
            _both(hosts[window.target], hosts[window.source]),
        )
        service, port = (code * 4 + window.proto for code in (window.service, window.port))
        sources, targets = hosts[ends[0]], hosts[ends[1]]
        of_sizes = (
            _size_keys(sources, targets, pair[window.pair], service, silent)
            for silent in (window.unanswered, ~window.unanswered)
        )
        return cls(
            marked(hosts, SENT, 0), marked(hosts, RECEIVED, 0), pair, back,
            marked(targets, SERVICE, service), marked(sources, PORT, port), *of_sizes,
        )  # fmt: skip


def _size_keys(source: Keys, target: Keys, pair: Keys, service: Places, silent: NDArray[np.bool_]) -> tuple[Keys, ...]:
    """Keys of the size habits by level, each (C,); habits of unanswered flows stand apart."""
    everyone, number = np.full(len(pair), SITE[0]), service * 2 + silent
    levels = (everyone, everyone, source, target, pair)
    numbers = (silent.astype(np.int64), *[number] * 4)
    return tuple(
        marked(keys, SIZE + level, code) for level, (keys, code) in enumerate(zip(levels, numbers, strict=True))
    )


def marked(keys: Keys, kind: int, number: Places | int) -> Keys:
    """Keys of what a key (K,) has: its `kind`, and a number below 2^40 that tells several of a kind apart."""
    return np.asarray(
        _joined(keys, np.asarray(number + (kind << 40)).astype(np.uint64) + np.zeros(len(keys), np.uint64))
    )


def _both(first: Keys, second: Keys) -> Keys:
    return np.asarray(_joined(first, second))


@njit(cache=True)
def _joined(first: Keys, second: Keys) -> Keys:
    found = np.empty(len(first), np.uint64)
    for place in range(len(first)):
        found[place] = joined(first[place], second[place])
    return found
