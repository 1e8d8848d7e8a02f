"""Chance without state: the same keys give the same draw, whatever was drawn before. All arrays, no loops."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[Any]  # any integer type
Floats = NDArray[np.float64]

_MASK: Final = (1 << 64) - 1
_STEP, _FIRST, _SECOND = (np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_BELL: Final = np.array([NormalDist().inv_cdf((i + 0.5) / 4096) for i in range(4096)], np.float32)


def hashed(seed: int, *keys: Ints | int) -> NDArray[np.uint64]:
    """64 well mixed bits per row of `keys`, which are integers that broadcast; at least one row.

    The finaliser is that of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    state = np.full(1, (seed * int(_STEP) + 1) & _MASK, np.uint64)
    for key in keys:
        state = state + _STEP + np.atleast_1d(np.asarray(key)).astype(np.uint64)
        state = (state ^ (state >> np.uint64(30))) * _FIRST
        state = (state ^ (state >> np.uint64(27))) * _SECOND
        state = state ^ (state >> np.uint64(31))
    return state


def unit(seed: int, *keys: Ints | int) -> Floats:
    """Uniform in [0, 1) per row of `keys`."""
    return (hashed(seed, *keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bell(bits: NDArray[np.uint64], which: int = 0) -> NDArray[np.float32]:
    """Standard normal, one per row of `bits`, from their `which`-th 12 bits; cut at 3.7 by the table's 4,096 steps."""
    return _BELL[((bits >> np.uint64(12 * which)) & np.uint64(4095)).astype(np.intp)]


def pick(cumulative: Floats, at: Floats) -> NDArray[np.int64]:
    """The index that each uniform draw in [0, 1) falls on, by weights whose cumulative sum is given."""
    found = np.searchsorted(cumulative, at * cumulative[-1], side="right")
    return np.asarray(np.minimum(found, len(cumulative) - 1), np.int64)


def generator(*keys: int) -> np.random.Generator:
    """A generator whose draws depend on `keys` only, all of them 0 or greater."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(keys)))
