"""What one window teaches the memory: a batch of observations for each table, waiting to be learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.conversations import OWN, Conversations
from eddyline.habits.keys import PAIR, RECEIVED, SENT, SITE, WindowKeys, marked
from eddyline.habits.reading import NEW, HabitColumns
from eddyline.habits.tables import Floats, Rows
from eddyline.hashing import Keys, Places, group


@dataclass(frozen=True, slots=True)
class Batch:
    """What one window teaches one table: K observations, each of which goes to L rows.

    Args:
        keys: of the rows, (L, K). weight: (K,). mean, square: (K, C). more: plain sums, (K, S).
    """

    keys: Keys
    weight: Rows
    mean: Rows
    square: Rows
    more: Rows

    @classmethod
    def of(
        cls, keys: Keys, weight: Floats, mean: Floats, square: Floats | None = None, more: Floats | None = None
    ) -> Self:
        """Keep the observations that weigh anything."""
        zeros = np.zeros((len(weight), 0)) if more is None else more
        kept = (weight > 0) | (zeros > 0).any(1)
        parts = (weight, mean, np.zeros_like(mean) if square is None else square, zeros)
        if kept.all():
            return cls(np.ascontiguousarray(keys), *(part.astype(np.float32) for part in parts))
        return cls(np.ascontiguousarray(keys[:, kept]), *(part[kept].astype(np.float32) for part in parts))

    def parts(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        return {name: getattr(self, name) for name in ("keys", "weight", "mean", "square", "more")}

    @classmethod
    def read(cls, parts: Mapping[str, NDArray[Any]], prefix: str) -> Self:
        """Read back what `parts` gave, each name after `prefix`."""
        return cls(*(parts[prefix + name] for name in ("keys", "weight", "mean", "square", "more")))


Lesson: TypeAlias = Mapping[str, Batch]  # by table


def lesson(window: Conversations, columns: HabitColumns, weight: Floats, flagged: float) -> Lesson:
    """What a window teaches; every key counts by the mean weight of its flows.

    Args:
        window, columns: as they were scored.
        weight: of each flow, 1, or 0 where it was flagged, (E,): flagged counts, sizes and rates are never learned.
        flagged: what a flagged flow still counts for as a meeting of two hosts, which has taken place after all.

    Probes are counted whether flagged or not.
    """
    keys = columns.keys
    kept = np.bincount(window.of_flow, weight, minlength=len(window)).astype(np.float64)
    met = kept + flagged * (window.flows - kept)
    return {
        "hosts": _host_batch(window, columns, keys, kept),
        "pairs": _pair_batch(window, columns, keys, kept, met),
        "seen": _seen_batch(window, keys, met),
        "sizes": _size_batch(window, columns, weight),
        "probes": Batch.of(keys.sent[None], columns.probes.sent, np.zeros((len(window.host_keys), 0))),
        "probing": _probing_batch(window, columns, keys, kept),
    }


def _shares(of: Places, kept: Floats, flows: Floats, size: int) -> Floats:
    every = np.bincount(of, flows, minlength=size)
    return np.asarray(np.bincount(of, kept, minlength=size) / np.maximum(every, 1))


def _host_batch(window: Conversations, columns: HabitColumns, keys: WindowKeys, kept: Floats) -> Batch:
    hosts, pairs = len(window.host_keys), len(window.source)
    of_pair = _shares(window.pair, kept, window.flows, pairs)
    of_port, first = group(keys.port)
    port_share = _shares(of_port, kept, window.flows, len(first))
    port_end = window.source[window.pair][first]
    tried = columns.port_known[first] < NEW
    nothing = np.zeros((hosts, 2))
    parts = []
    for role, own, table, end in (
        (SENT, keys.sent, columns.sent, window.source), (RECEIVED, keys.received, columns.received, window.target)
    ):  # fmt: skip
        weight = _shares(end[window.pair], kept, window.flows, hosts)
        meetings = [np.bincount(end, of_pair * new, minlength=hosts) for new in (columns.known < NEW, 1.0)]
        ports = [np.bincount(port_end, port_share * new, minlength=hosts) for new in (tried, 1.0)]
        more = np.column_stack([*meetings, *(ports if role == SENT else nothing.T)])
        everyone = np.full(hosts, marked(SITE, role, 0)[0])
        parts.append((np.stack([own, everyone], 1), weight, table, more))
    both, weight, table, more = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Batch.of(both.T, weight, table, None, more)


def _probing_batch(window: Conversations, columns: HabitColumns, keys: WindowKeys, kept: Floats) -> Batch:
    weight = _shares(window.source[window.pair], kept, window.flows, len(window.host_keys))
    everyone = np.full(len(weight), marked(SITE, SENT, 0)[0])
    return Batch.of(np.stack([keys.sent, everyone]), weight, columns.probes.taught[:, None])


def _pair_batch(window: Conversations, columns: HabitColumns, keys: WindowKeys, kept: Floats, met: Floats) -> Batch:
    weight, meetings = (_shares(window.pair, part, window.flows, len(window.source)) for part in (kept, met))
    everyone = np.full(len(weight), marked(SITE, PAIR, 0)[0])
    return Batch.of(np.stack([keys.pair, everyone]), weight, columns.of_pair, None, meetings[:, None])


def _seen_batch(window: Conversations, keys: WindowKeys, met: Floats) -> Batch:
    parts = []
    for of_conversation in (keys.service, keys.port):
        of, first = group(of_conversation)
        parts.append((of_conversation[first], _shares(of, met, window.flows, len(first))))
    own, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Batch.of(own[None], weight, np.zeros((len(own), 0)))


def _size_batch(window: Conversations, columns: HabitColumns, weight: Floats) -> Batch:
    n, mean, square = np.zeros(len(window)), np.zeros((len(window), len(OWN))), np.zeros((len(window), len(OWN)))
    _summed(window.of_flow, weight, window.sizes, columns.size_mean, n, mean, square)
    return Batch.of(columns.keys.sizes, n, mean, square)


@njit(cache=True)
def _summed(
    of_flow: Places, weight: Floats, sizes: Rows, near: Floats, n: Floats, mean: Floats, square: Floats
) -> None:
    """Weight, mean and summed squared deviation of the sizes of each conversation, by sums around a `near` value."""
    for flow in range(len(of_flow)):
        own, place = weight[flow], of_flow[flow]
        n[place] += own
        for column in range(len(OWN)):
            size = sizes[flow, column]
            away = (0.0 if np.isnan(size) else size) - near[place, column]
            mean[place, column] += own * away
            square[place, column] += own * away * away
    for place in range(len(n)):
        for column in range(len(OWN)):
            if n[place] > 0:
                away = mean[place, column] / n[place]
                mean[place, column] = near[place, column] + away
                square[place, column] = max(square[place, column] - n[place] * away * away, 0.0)
