"""95 % bootstrap intervals over stretches of time: neighbouring flows are not independent, hours nearly are."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from eddyline.evaluation.truth import Codes, Floats, Mask, Truth, flagged_cells

Interval: TypeAlias = tuple[float, float]
DRAWS: Final = 1000


def intervals(truth: Truth, flagged: Mask, common: int, seed: int) -> dict[str, Interval]:
    """Resample the blocks of `truth` with replacement; returns low and high of the rates and recalls at one level.

    Args:
        truth: what the flows were.
        flagged: (N,), True where the p-value is at or below the level.
        common: flows from which a class counts in the class mean.
        seed: the same seed, the same intervals.
    """
    blocks = int(truth.block.max()) + 1
    draws = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS).astype(np.float64)
    found = {}
    for name, rows in (("rate", truth.clean), ("recall", truth.attack)):
        found[name] = _drawn(draws, truth.block[rows], flagged[rows])
        first, hit = flagged_cells(truth, rows, flagged)
        found[f"pair_minute_{name}"] = _drawn(draws, truth.block[first], hit)
    flows = np.bincount(truth.kind[truth.attack], minlength=len(truth.kinds))
    common_kinds = [truth.kind == code for code in np.flatnonzero(flows >= common)]
    by_kind = [_drawn(draws, truth.block[rows], flagged[rows]) for rows in common_kinds]
    # a class whose every hour went undrawn has no recall in that draw and is left out of its mean
    counted = np.sum([~np.isnan(share) for share in by_kind], axis=0) if by_kind else np.zeros(DRAWS)
    total = np.sum([np.nan_to_num(share) for share in by_kind], axis=0) if by_kind else np.zeros(DRAWS)
    found["class_mean"] = _over(total, counted)
    return {name: _middle(shares) for name, shares in found.items()}


def _drawn(draws: Floats, block: Codes, flagged: Mask) -> Floats:
    """Share that is flagged in each draw, (DRAWS,); NaN where nothing was drawn."""
    size = draws.shape[1]
    hits, all_ = np.bincount(block[flagged], minlength=size), np.bincount(block, minlength=size)
    return _over(draws @ hits, draws @ all_)


def _over(part: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
    return shares


def _middle(shares: Floats) -> Interval:
    known = shares[~np.isnan(shares)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)
