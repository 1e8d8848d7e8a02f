"""Why a flow scored as it did: a detector's numbers, and the words a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why flows scored as they did: one row per (flow, feature), strongest contribution first within a flow.

    Args:
        edge: row of the flow in its window. Shape (K,), as every other column.
        feature: what was looked at, e.g. `bytes`; `unit` is its unit, "" where it has none.
        observed: the flow's own value; `expected`: what the detector takes for usual. NaN where there is no number.
        contribution: what of the raw score goes away when `observed` is replaced by `expected`.
        kind: in a word, what sort of strangeness that is, e.g. "burst"; stories are told apart by it.
        about: which end of the flow the feature describes as a whole: "source", "destination", or "" for the flow.
    """

    edge: Sequence[int]
    feature: Sequence[str]
    unit: Sequence[str]
    observed: Sequence[float]
    expected: Sequence[float]
    contribution: Sequence[float]
    kind: Sequence[str]
    about: Sequence[str]


@dataclass(frozen=True, slots=True)
class Reason:
    """The reasons of one flow: the kind of the strongest and the end it is about, the top ones as sentences."""

    kind: str
    about: str
    sentences: tuple[str, ...]


_ALIKE: Final = np.log(2)
UNEXPLAINED: Final = Reason("unexplained", "", ())


def reasons(why: Explanation, limit: int) -> dict[int, Reason]:
    """Return up to `limit` sentences per explained flow, by its row in the window."""
    found: dict[int, Reason] = {}
    columns = (why.edge, why.feature, why.unit, why.observed, why.expected, why.kind, why.about)
    for edge, feature, unit, observed, expected, kind, about in zip(*columns, strict=True):
        if _alike(observed, expected):
            continue  # the model may weigh it, but "2, usual 2" tells a person nothing
        known = found.get(edge, Reason(kind, about, ()))
        if len(known.sentences) < limit:
            said = (*known.sentences, _sentence(feature, unit, observed, expected))
            found[edge] = Reason(known.kind, known.about, said)
    return found


def _alike(observed: float, expected: float) -> bool:
    """Within a factor of two either way; never where there is no number to compare."""
    return abs(np.log((observed + 1) / (expected + 1))) < _ALIKE if min(observed, expected) >= 0 else False


def _sentence(feature: str, unit: str, observed: float, expected: float) -> str:
    if np.isnan(observed):
        return feature
    usual = "" if np.isnan(expected) else f", usual {quantity(expected, unit)}"
    return f"{feature} {quantity(observed, unit)}{usual}"


def quantity(value: float, unit: str) -> str:
    """Write a number for people: 1.5 MB, 2.0 s, 12 packets."""
    if unit == "us":
        return f"{value / 1e6:,.1f} s" if abs(value) >= 1e6 else f"{value / 1e3:,.1f} ms"
    if unit == "B":
        for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if abs(value) >= size:
                return f"{value / size:,.1f} {prefix}B"
    return f"{value:,.0f} {unit}".rstrip()
