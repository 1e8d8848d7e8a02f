"""A raw score to a p-value: the share of held-out benign flows, and of their pair-minutes, that look as strange.

Flows between the same two hosts in the same minute are strange together, so the evidence behind a small p is the number
of pair-minutes, not of flows. Both are kept, and p claims no more than they support.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numba import njit
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eddyline.combine import SMALLEST, Floats
from eddyline.errors import ArtifactError, ConfigError

LIMIT: Final = 40_000  # scores kept; beyond it the ordinary ones are thinned, the strangest 20,000 never
ENOUGH: Final = 1_000  # pair-minutes below which p <= 1e-3 rests on extrapolation
WITHIN: Final = 2.0  # p <= a happens to no more than WITHIN * a of benign pair-minutes; 3 is promised
_TAIL: Final = 20_000
_BUCKETS: Final = 4  # of the grid, for each value
_TOP: Final = 0.02  # share of the scores, at least 20, that the tail is fitted on
_LEAST: Final = 20
Grid: TypeAlias = tuple[float, float, NDArray[np.int32]]  # start, buckets per unit, first value of each bucket


@dataclass(frozen=True, slots=True)
class Ranks:
    """How many of n observations are at least as large as a value.

    Args:
        values: distinct, ascending, float32 (K,).
        at_least: how many observations exceed `values[k - 1]` (all of them for k = 0), int64 (K,).
        shares: (1 + count) / (n + 1) by the number of values below, float64 (K + 1,).
        nats: -ln of them, float64 (K + 1,).
        grid: where the search for a value begins, see `_grid`.
    """

    values: NDArray[np.float32]
    at_least: NDArray[np.int64]
    shares: Floats = field(init=False)
    nats: Floats = field(init=False)
    grid: Grid = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", (1.0 + np.append(self.at_least, 0)) / (self.n + 1.0))
        object.__setattr__(self, "nats", -np.log(self.shares))
        object.__setattr__(self, "grid", _grid(np.ascontiguousarray(self.values)))

    @classmethod
    def of(cls, observed: NDArray[np.float32]) -> Self:
        """Count `observed` (n,), in any order."""
        values, counts = np.unique(np.asarray(observed, np.float32), return_counts=True)
        at_least = counts[::-1].cumsum()[::-1].astype(np.int64)
        if len(values) > LIMIT:
            last = len(values) - 1
            kept = np.unique(np.r_[np.linspace(0, last, LIMIT - _TAIL).astype(np.int64), last - np.arange(_TAIL)])
            # Whoever falls into a thinned gap counts all of it as stranger: p errs upwards, never downwards.
            at_least, values = at_least[np.r_[0, kept[:-1] + 1]], values[kept]
        return cls(values, at_least)

    @property
    def n(self) -> int:
        """Observations."""
        return int(self.at_least[0])

    def share(self, values: NDArray[np.float32]) -> Floats:
        """(1 + count) / (n + 1) of each value (E,), in (0, 1], the count falling evenly between observations.

        So no value has a smaller p than its conformal one, and values that no observation separates keep their order.
        """
        return np.asarray(_all_levels(self.values, self.grid, self.shares, _column(values)), np.float64)

    def supported(self, surprise: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each surprise (E,), nats, but no more than -ln of its share: what the observations support."""
        return np.minimum(surprise, _all_levels(self.values, self.grid, self.nats, _column(surprise)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Raw scores of benign flows that the detector was not trained on.

    If a new benign flow is exchangeable with them, P(p <= a) <= a for every a (Vovk, Gammerman & Shafer 2005, ch. 2).
    Beyond the strangest of them p falls as exp(-(excess) / scale), with the scale of the strangest 2 % (Hill 1975), and
    scale is never below `least`: a score that counts surprises in nats makes p fall by a factor e per nat at most.

    Args:
        flows: all scores. pairs: the highest score of each pair-minute.
        scale: of the tail, score units.
    """

    flows: Ranks
    pairs: Ranks
    scale: float

    @classmethod
    def of(cls, raw: NDArray[np.float32], pair_minutes: NDArray[np.int64] | None = None, least: float = 0.0) -> Self:
        """Calibrate on `raw` (n,), scores of held-out benign flows in any order.

        Args:
            raw: scores.
            pair_minutes: which pair and window each flow belongs to, (n,); without it every flow stands alone.
            least: smallest scale of the tail, score units.

        Raises:
            ConfigError: no scores, or one that is not finite.
        """
        if not len(raw):
            raise ConfigError(
                "calibration: no benign flow is left to calibrate on; give `eddyline train` a longer source"
            )
        if not np.isfinite(raw).all():
            raise ConfigError(f"calibration: {int((~np.isfinite(raw)).sum())} of {len(raw)} scores are not finite")
        raw = np.asarray(raw, np.float32)
        _, group = np.unique(np.arange(len(raw)) if pair_minutes is None else pair_minutes, return_inverse=True)
        highest = np.full(group.max() + 1, -np.inf, np.float32)
        np.maximum.at(highest, group, raw)
        top = np.sort(raw)[-max(_LEAST, round(_TOP * len(raw))) :].astype(np.float64)
        scale = max(float((top - top[0]).mean()), least, float(np.finfo(np.float32).tiny))
        return cls(Ranks.of(raw), Ranks.of(highest), scale)

    def p(self, raw: NDArray[np.float32]) -> Floats:
        """p-values (E,) of raw scores (E,), in (0, 1].

        What flows say, and no less than the share of pair-minutes / WITHIN, where there are ENOUGH of those to say it.
        """
        flows, pairs = self.flows, self.pairs if self.pairs.n >= ENOUGH else self.flows
        p = _p(flows.values, flows.grid, flows.shares, pairs.values, pairs.grid, pairs.shares, self.scale, _column(raw))
        return np.asarray(p, np.float64)

    def save(self, file: Path) -> None:
        """Write one safetensors file."""
        save_file(
            {
                "scores": self.flows.values, "at_least": self.flows.at_least,
                "pair_scores": self.pairs.values, "pairs_at_least": self.pairs.at_least,
                "scale": np.array([self.scale]),
            },
            file,
        )  # fmt: skip

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read it back; raises ArtifactError that names the file."""
        try:
            parts: dict[str, NDArray[Any]] = load_file(file)
            flows = Ranks(parts["scores"], parts["at_least"])
            return cls(flows, Ranks(parts["pair_scores"], parts["pairs_at_least"]), float(parts["scale"][0]))
        except (OSError, KeyError, SafetensorError) as error:
            raise ArtifactError(f"calibration: `{file}` cannot be read ({error}); run `eddyline calibrate`") from error


def _column(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


def _grid(values: NDArray[np.float32]) -> Grid:
    """Even buckets over all but the outermost thousandths of ascending values (K,): a handful of values in each."""
    low, high = (float(values[int(place * (len(values) - 1))]) for place in (0.001, 0.999))
    buckets = _BUCKETS * len(values)
    per_unit = buckets / max(high - low, float(np.finfo(np.float32).tiny))
    return low, per_unit, np.asarray(_starts(values, low, per_unit, buckets), np.int32)


@njit(cache=True)
def _bucket(value: float, low: float, per_unit: float, buckets: int) -> int:
    return int(min(max((value - low) * per_unit, 0.0), buckets - 1.0))


@njit(cache=True)
def _starts(values: NDArray[np.float32], low: float, per_unit: float, buckets: int) -> NDArray[np.int32]:
    starts = np.full(buckets + 1, len(values), np.int32)
    for place in range(len(values) - 1, -1, -1):
        starts[_bucket(values[place], low, per_unit, buckets)] = place
    for bucket in range(buckets - 1, -1, -1):
        starts[bucket] = min(starts[bucket], starts[bucket + 1])
    return starts


@njit(cache=True)
def _below(values: NDArray[np.float32], grid: Grid, value: np.float32) -> int:
    """How many of the ascending `values` (K,) are smaller; NaN is beyond all of them."""
    if np.isnan(value):
        return len(values)
    low, per_unit, starts = grid
    bucket = _bucket(float(value), low, per_unit, len(starts) - 1)
    first, last = starts[bucket], starts[bucket + 1]
    while first < last:
        middle = (first + last) // 2
        if values[middle] < value:
            first = middle + 1
        else:
            last = middle
    return int(first)


@njit(cache=True)
def _level(values: NDArray[np.float32], grid: Grid, levels: Floats, value: np.float32) -> float:
    """Read a level (K + 1,) by the number of `values` (K,) below, evenly between two of them."""
    place = _below(values, grid, value)
    if place == 0 or place == len(values):
        return float(levels[place])
    before = values[place - 1]
    part = (value - before) / (values[place] - before)
    return float(levels[place - 1] + part * (levels[place] - levels[place - 1]))


@njit(cache=True)
def _all_levels(values: NDArray[np.float32], grid: Grid, levels: Floats, tried: NDArray[np.float32]) -> Floats:
    found = np.empty(len(tried))
    for row in range(len(tried)):
        found[row] = _level(values, grid, levels, tried[row])
    return found


@njit(cache=True)
def _p(
    flows: NDArray[np.float32], flow_grid: Grid, flow_shares: Floats, pairs: NDArray[np.float32], pair_grid: Grid,
    pair_shares: Floats, scale: float, raw: NDArray[np.float32],
) -> Floats:  # fmt: skip
    p = np.empty(len(raw))
    highest = np.float64(flows[-1])
    for row in range(len(raw)):
        share = _level(flows, flow_grid, flow_shares, raw[row])
        p[row] = max(share, _level(pairs, pair_grid, pair_shares, raw[row]) / WITHIN)
        if raw[row] > highest:
            p[row] = max(p[row] * np.exp((highest - raw[row]) / scale), SMALLEST)
    return p
