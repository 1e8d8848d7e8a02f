"""Scored flows to the few stories worth a look: grouped, explained, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why flows scored as they did: one row per (flow, feature), strongest contribution first within a flow.

    Args:
        edge: row of the flow in its window. Shape (K,), as every other column.
        feature: what was looked at, e.g. `bytes`; `unit` is its unit, "" where it has none.
        observed: the flow's own value; `expected`: what the detector takes for usual. NaN where there is no number.
        contribution: what of the raw score goes away when `observed` is replaced by `expected`.
    """

    edge: Sequence[int]
    feature: Sequence[str]
    unit: Sequence[str]
    observed: Sequence[float]
    expected: Sequence[float]
    contribution: Sequence[float]


@dataclass(frozen=True, slots=True)
class Alert:
    """One story: the strange flows of one host, on one service, for one reason, within one day.

    Args:
        id: stable across updates, restarts and replays.
        host: who the story is about; `role` says whether it is their source or destination.
        service: e.g. "22/tcp", or "many" when the flows spread over more services than a story should list.
        reason: the strongest reason in a word, part of the key; `reasons` are the top ones as sentences with numbers.
        p: the smallest combined p-value among its flows.
        first_seen_us, last_seen_us: event time, microseconds UTC; None where flows carry no time.
        count: flows; peers: distinct hosts on the other side; total_bytes: both directions, as observed.
        update: 0 when opened, then 1, 2, …
        truth: labels of its flows where the source gave any, for judging a demo or a test; never used to decide.
    """

    id: str
    site: str
    host: str
    role: str
    service: str
    reason: str
    reasons: tuple[str, ...]
    p: float
    first_seen_us: int | None
    last_seen_us: int | None
    count: int
    peers: tuple[str, ...]
    peer_count: int
    total_bytes: int
    update: int
    truth: tuple[str, ...]
