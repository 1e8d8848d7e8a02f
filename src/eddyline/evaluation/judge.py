"""What p-values are worth: the promise kept or not, and the recall at it.

A promise of p is *kept* where the share of clean benign flows, or of their pair-minutes, with a p-value at or below it
is no more than three times p. Fewer false alarms than promised break nothing. Both shares are always given: one benign
burst can be many rows, and counts once as a pair-minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from eddyline.evaluation.intervals import Interval, intervals
from eddyline.evaluation.ranking import average_precision, oracle_threshold, roc_auc
from eddyline.evaluation.truth import Codes, Floats, Mask, Truth, cells_of, flagged_cells

LEVELS: Final = (1e-2, 1e-3, 1e-4)
HEADLINE: Final = 1e-3
FACTOR: Final = 3.0  # how far the achieved rate may lie above the promised one
COMMON: Final = 20  # flows from which a class counts in the class mean


@dataclass(frozen=True, slots=True)
class Promise:
    """What is flagged at one level. Rates are shares in [0, 1]; `recall` and the like are NaN without attacks."""

    level: float
    rate: float  # of clean benign flows
    pair_minute_rate: float  # of clean pair-minutes
    collateral_rate: float  # of collateral flows; NaN without any
    collateral_groups: int  # groups whose alerts are all collateral
    false_groups: int  # groups with an alert and no true one, collateral ones included
    false_groups_per_day: float  # and per 1,000 hosts
    recall: float
    class_mean: float
    pair_minute_recall: float

    @property
    def ratio(self) -> float:
        """Achieved over promised on clean benign flows."""
        return self.rate / self.level

    @property
    def pair_minute_ratio(self) -> float:
        """Achieved over promised on clean pair-minutes."""
        return self.pair_minute_rate / self.level

    @property
    def kept(self) -> bool:
        """Whether either rate is within the factor."""
        return min(self.ratio, self.pair_minute_ratio) <= FACTOR


@dataclass(frozen=True, slots=True)
class Kind:
    """One attack class: its flows, their recall at the headline level and with the oracle's threshold."""

    name: str
    flows: int
    recall: float
    oracle: float


@dataclass(frozen=True, slots=True)
class Day:
    """The headline promise on one UTC day: its clean flows, and the shares of them and their pair-minutes flagged."""

    date: str  # 2026-01-31
    flows: int
    rate: float
    pair_minute_rate: float


@dataclass(frozen=True, slots=True)
class Oracle:
    """Recall with the threshold put on the clean benign rows at the headline level: ranking alone."""

    recall: float
    class_mean: float
    pair_minute_recall: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that is said of one scorer.

    Args:
        promises: one per level of LEVELS.
        oracle: the same rows, ranked only.
        kinds: attack classes, worst first.
        days: the headline promise day by day; a drift shows here.
        auc, average_precision: over all judged flows; no headline.
        intervals: 95 % bootstrap over blocks, for the headline level's numbers, by their name in `Promise`.
    """

    promises: tuple[Promise, ...]
    oracle: Oracle
    kinds: tuple[Kind, ...]
    days: tuple[Day, ...]
    auc: float
    average_precision: float
    intervals: Mapping[str, Interval]

    @property
    def headline(self) -> Promise:
        """The product's promise, p <= 1e-3."""
        return next(promise for promise in self.promises if promise.level == HEADLINE)


@dataclass(frozen=True, slots=True)
class Scorer:
    """One row of the table: a model, one of its detectors, or a baseline.

    Args:
        name: for people.
        model: False for a baseline.
        p: p-values of the judged flows, (N,).
        score: what ranks them, higher is stranger, (N,).
        verdict: what they are worth.
    """

    name: str
    model: bool
    p: Floats
    score: Floats
    verdict: Verdict


def scorer(name: str, truth: Truth, p: Floats, score: Floats | None = None, *, model: bool, seed: int = 0) -> Scorer:
    """Judge `p` and keep it beside its verdict; arguments are those of `judge`."""
    return Scorer(name, model, p, -p if score is None else score, judge(truth, p, score, seed))


def judge(truth: Truth, p: Floats, score: Floats | None = None, seed: int = 0) -> Verdict:
    """Judge the p-values (N,) of one scorer.

    Args:
        truth: what the flows were, in the order of `p`.
        p: p-values.
        score: what ranks the flows, higher is stranger; -p when not given.
        seed: of the bootstrap.
    """
    score = -p if score is None else score
    threshold = oracle_threshold(score[truth.clean], HEADLINE)
    ranked = score > threshold
    return Verdict(
        promises=tuple(_promise(truth, p, level) for level in LEVELS),
        oracle=Oracle(_share(ranked, truth.attack), _class_mean(truth, ranked), _pair_minute_oracle(truth, score)),
        kinds=_kinds(truth, p <= HEADLINE, ranked),
        days=_days(truth, p <= HEADLINE),
        auc=roc_auc(score, truth.attack),
        average_precision=average_precision(score, truth.attack),
        intervals=intervals(truth, p <= HEADLINE, COMMON, seed),
    )


def _promise(truth: Truth, p: Floats, level: float) -> Promise:
    flagged = p <= level
    groups = int(truth.group.max()) + 1
    true, clean, any_alert = (
        _any(truth.group[flagged & rows], groups) for rows in (truth.attack, truth.clean, np.ones_like(flagged))
    )
    false = int((any_alert & ~true).sum())
    return Promise(
        level=level,
        rate=_share(flagged, truth.clean),
        pair_minute_rate=_cell_share(truth, truth.clean, flagged),
        collateral_rate=_share(flagged, truth.collateral),
        collateral_groups=int((any_alert & ~true & ~clean).sum()),
        false_groups=false,
        false_groups_per_day=false / truth.days / truth.sources * 1000,
        recall=_share(flagged, truth.attack),
        class_mean=_class_mean(truth, flagged),
        pair_minute_recall=_cell_share(truth, truth.attack, flagged),
    )


def _any(places: Codes, size: int) -> Mask:
    found = np.zeros(size, np.bool_)
    found[places] = True
    return found


def _share(flagged: Mask, rows: Mask) -> float:
    return float(flagged[rows].mean()) if rows.any() else float("nan")


def _cell_share(truth: Truth, rows: Mask, flagged: Mask) -> float:
    """Share of the pair-minutes with such rows that have a flagged one among them."""
    hit = flagged_cells(truth, rows, flagged)[1]
    return float(hit.mean()) if len(hit) else float("nan")


def _class_mean(truth: Truth, flagged: Mask) -> float:
    flows = np.bincount(truth.kind[truth.attack], minlength=len(truth.kinds))
    hits = np.bincount(truth.kind[truth.attack & flagged], minlength=len(truth.kinds))
    common = flows >= COMMON
    return float((hits[common] / flows[common]).mean()) if common.any() else float("nan")


def _pair_minute_oracle(truth: Truth, score: Floats) -> float:
    clean, attack = (_highest(truth, rows, score) for rows in (truth.clean, truth.attack))
    return float((attack > oracle_threshold(clean, HEADLINE)).mean()) if len(attack) else float("nan")


def _highest(truth: Truth, rows: Mask, score: Floats) -> Floats:
    """Highest score of each pair-minute among `rows`."""
    first, place = cells_of(truth, rows)
    highest = np.full(len(first), -np.inf)
    np.maximum.at(highest, place, score[rows])
    return highest


def _kinds(truth: Truth, flagged: Mask, ranked: Mask) -> tuple[Kind, ...]:
    found = []
    for code, name in enumerate(truth.kinds):
        rows = truth.kind == code
        found.append(Kind(name, int(rows.sum()), _share(flagged, rows), _share(ranked, rows)))
    return tuple(sorted(found, key=lambda kind: (kind.recall, kind.oracle, kind.name)))


def _days(truth: Truth, flagged: Mask) -> tuple[Day, ...]:
    day = truth.time_us.astype("datetime64[us]").astype("datetime64[D]")
    found = []
    for one in np.unique(day[truth.clean]):
        rows = truth.clean & (day == one)
        found.append(Day(str(one), int(rows.sum()), _share(flagged, rows), _cell_share(truth, rows, flagged)))
    return tuple(found)
