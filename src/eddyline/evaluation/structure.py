"""What counting alone finds: bursts of a pair, fan-out, novelty, missing replies, hosts that leave their own past.

Each scorer gives one score per flow, higher is stranger, from windows of 60 s: a flow is judged by everything up to the
end of its own minute and nothing later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from eddyline.evaluation.truth import MINUTE_US, Codes, Floats, Mask

_PRIOR: Final = 3.0  # minutes that the habit of all hosts counts for
_LEAST: Final = 1e-6  # variance, where all hosts always do the same


@dataclass(frozen=True, slots=True)
class Contacts:
    """Who spoke to whom, N flows in time order.

    Args:
        minute: number of the minute.
        src, dst: hosts, codes of one numbering.
        port: destination port, -1 where unknown; None where no flow has one.
        size: bytes both ways, 0 where unknown; None where no flow has any.
        unanswered: flows known to have no reply; None where that is not known of any flow.
    """

    minute: Codes
    src: Codes
    dst: Codes
    port: Codes | None
    size: Floats | None
    unanswered: Mask | None


def minutes(time_us: Codes) -> Codes:
    """Return the minute of each event time (N,), microseconds."""
    return time_us // MINUTE_US


def pair_burst(flows: Contacts) -> Floats:
    """Flows of the pair in this minute, (N,)."""
    return _counts(ids(ids(flows.src, flows.dst), flows.minute))


def fan_out(flows: Contacts) -> Floats:
    """Distinct destinations of the source in this minute, (N,)."""
    return _distinct(ids(flows.src, flows.minute), flows.dst)


def fan_out_ports(flows: Contacts, port: Codes) -> Floats:
    """Distinct destination ports (N,) of the source in this minute, (N,)."""
    return _distinct(ids(flows.src, flows.minute), port)


def source_novelty(flows: Contacts) -> Floats:
    """1 / (1 + flows of the source before this minute), (N,)."""
    return 1 / (1 + _before(flows.src, flows.minute))


def pair_novelty(flows: Contacts) -> Floats:
    """1 / (1 + flows of the pair before this minute), (N,)."""
    return 1 / (1 + _before(ids(flows.src, flows.dst), flows.minute))


def unanswered(flows: Contacts, host: Codes, quiet: Mask) -> Floats:
    """Flows of `host` (N,), the source or the destination, in this minute that are `quiet` (N,): without a reply."""
    return _totals(ids(host, flows.minute), quiet.astype(np.float64))


def host_z(flows: Contacts, host: Codes, peer: Codes, train: Mask) -> Floats:
    """Largest z-score of `host` in this minute against its own earlier active minutes, (N,).

    Over log(1 + x), since counts vary by orders of magnitude, of its flows, distinct peers, distinct ports and bytes,
    those that the flows have. What all hosts do in the training rows counts as three earlier minutes of each, so that
    new hosts have a score and one that never varied is no certainty.
    """
    cell = ids(host, flows.minute)
    counts = [_counts(cell), _distinct(cell, peer)]
    counts += [] if flows.port is None else [_distinct(cell, flows.port)]
    counts += [] if flows.size is None else [_totals(cell, flows.size)]
    first, place = np.unique(cell, return_index=True, return_inverse=True)[1:]
    scores = [_against_past(host[first], np.log1p(one[first]), train[first]) for one in counts]
    return np.asarray(np.max(scores, axis=0)[place], np.float64)


def _against_past(host: Codes, value: Floats, train: Mask) -> Floats:
    """Score each value against the earlier ones of its host, in standard deviations; rows by host, then by minute."""
    usual = value[train] if train.any() else value
    number = _earlier(host, np.ones(len(host))) + _PRIOR
    mean = (_earlier(host, value) + _PRIOR * usual.mean()) / number
    square = (_earlier(host, value**2) + _PRIOR * (usual**2).mean()) / number
    return np.asarray((value - mean) / np.sqrt(np.maximum(square - mean**2, _LEAST)), np.float64)


def _earlier(owner: Codes, value: Floats) -> Floats:
    """Sum of the values above, of the same owner; equal owners stand together."""
    total = np.cumsum(value) - value
    starts = np.flatnonzero(np.append(True, owner[1:] != owner[:-1]))
    return np.asarray(total - np.repeat(total[starts], np.diff(np.append(starts, len(owner)))), np.float64)


def ids(first: Codes, second: Codes) -> Codes:
    """Number the distinct pairs of codes by `first`, then by `second`, from 0."""
    low = int(second.min()) if len(second) else 0
    width = int(second.max()) - low + 1 if len(second) else 1
    places: Codes = np.unique(first * width + (second - low), return_inverse=True)[1]
    return places


def _counts(group: Codes) -> Floats:
    return np.bincount(group)[group].astype(np.float64)


def _totals(group: Codes, value: Floats) -> Floats:
    return np.asarray(np.bincount(group, value)[group], np.float64)


def _distinct(group: Codes, value: Codes) -> Floats:
    """Distinct values in the group of each flow."""
    first = np.unique(ids(group, value), return_index=True)[1]
    return np.bincount(group[first], minlength=int(group.max()) + 1)[group].astype(np.float64)


def _before(key: Codes, minute: Codes) -> Floats:
    """Flows of the same key in earlier minutes."""
    cell = ids(key, minute)
    first, flows = np.unique(cell, return_index=True, return_counts=True)[1:]
    return _earlier(key[first], flows.astype(np.float64))[cell]
