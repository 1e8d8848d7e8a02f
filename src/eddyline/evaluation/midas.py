"""MIDAS-R and MIDAS-F: microclusters of suddenly arriving edges, in constant memory, one edge after the other.

Bhatia, Hooi, Yoon, Shin, Faloutsos: MIDAS, AAAI 2020; Bhatia, Liu, Hooi, Yoon, Shin, Faloutsos: Real-Time Anomaly
Detection in Edge Streams, TKDD 2022. Count-min sketches hold how often each edge, source and destination came lately
(a, decayed at every tick) and in all (s); an edge scores the largest chi-squared statistic of the three, of a against
what s says is usual. MIDAS-F keeps ticks that scored high out of s.

The published definition is sequential, and so is this loop, compiled: nothing is reordered or rounded on the way. Each
edge costs a few cache lines, each tick one pass over the sketches.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from eddyline.evaluation.truth import Codes, Floats

ROWS: Final = 2  # the authors' defaults
COLUMNS: Final = 1024
DECAY: Final = 0.5
THRESHOLD: Final = 1e3
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)  # splitmix64: its increment and two multipliers (Steele et al. 2014)
_FIRST: Final = np.uint64(0xBF58476D1CE4E5B9)
_SECOND: Final = np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(32)


def midas_r(
    src: Codes, dst: Codes, tick: Codes, rows: int = ROWS, columns: int = COLUMNS, decay: float = DECAY, seed: int = 0
) -> Floats:
    """Score each edge (E,) by the burst it is part of; all are 0 in tick 1.

    Args:
        src, dst: nodes as codes, int64.
        tick: from 1, never falling. A change of tick decays once, however many ticks it skips.
        rows, columns: size of every sketch.
        decay: what is left of the recent counts at a new tick.
        seed: of the hash functions.
    """
    scores: Floats = _relational(src, dst, tick, rows, columns, decay, seed)
    return scores


def midas_f(
    src: Codes, dst: Codes, tick: Codes, rows: int = ROWS, columns: int = COLUMNS, decay: float = DECAY,
    threshold: float = THRESHOLD, seed: int = 0,
) -> Floats:  # fmt: skip
    """Score each edge (E,) against past ticks only, from which those that scored `threshold` or more are kept out.

    At a new tick a bucket whose last score is below `threshold` adds its recent count to its total; another adds its
    mean so far, s / (t - 1), as if the tick had been a usual one. Arguments are those of `midas_r`.
    """
    scores: Floats = _filtering(src, dst, tick, rows, columns, decay, threshold, seed)
    return scores


@njit(cache=True)
def _mixed(number: np.uint64) -> np.uint64:
    number = (number ^ (number >> _30)) * _FIRST
    number = (number ^ (number >> _27)) * _SECOND
    return number ^ (number >> _31)


@njit(cache=True)
def key_of(kind: int, src: int, dst: int) -> np.uint64:
    """What a sketch counts, uint64: 0 the edge, 1 the source, 2 the destination."""
    if kind == 0:
        return _mixed(np.uint64(src) + _STEP) + np.uint64(dst)
    return np.uint64(src if kind == 1 else dst)


@njit(cache=True)
def bucket_of(key: np.uint64, row: int, columns: int, seed: int) -> np.int64:
    """Column of `key` in sketch row `row`, in [0, columns); rows and seeds hash independently."""
    mixed = _mixed(key + _mixed(np.uint64(row + 1) * _STEP + np.uint64(seed)))
    return np.int64(((mixed >> _32) * np.uint64(columns)) >> _32)


@njit(cache=True)
def _relational(src: Codes, dst: Codes, tick: Codes, rows: int, columns: int, decay: float, seed: int) -> Floats:
    recent, total = np.zeros((3, rows, columns)), np.zeros((3, rows, columns))
    scores = np.zeros(len(src))
    now = 1
    for edge in range(len(src)):
        if tick[edge] > now:
            _fade(recent, decay)
            now = tick[edge]
        for kind in range(3):
            key = key_of(kind, src[edge], dst[edge])
            a, s = np.inf, np.inf
            for row in range(rows):
                place = bucket_of(key, row, columns, seed)
                recent[kind, row, place] += 1.0
                total[kind, row, place] += 1.0
                a, s = min(a, recent[kind, row, place]), min(s, total[kind, row, place])
            if now > 1:  # s > 0: this edge is in it
                scores[edge] = max(scores[edge], (a * now - s) ** 2 / (s * (now - 1)))
    return scores


@njit(cache=True)
def _filtering(
    src: Codes, dst: Codes, tick: Codes, rows: int, columns: int, decay: float, threshold: float, seed: int
) -> Floats:
    shape = (3, rows, columns)
    recent, total, last = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    scores = np.zeros(len(src))
    places = np.empty(rows, np.int64)
    now = 1
    for edge in range(len(src)):
        if tick[edge] > now:
            _merge(recent, total, last, threshold, now)
            _fade(recent, decay)
            now = tick[edge]
        for kind in range(3):
            key = key_of(kind, src[edge], dst[edge])
            a, s = np.inf, np.inf
            for row in range(rows):
                places[row] = bucket_of(key, row, columns, seed)
                recent[kind, row, places[row]] += 1.0
                a, s = min(a, recent[kind, row, places[row]]), min(s, total[kind, row, places[row]])
            score = (a * (now - 1) - s) ** 2 / (s * (now - 1)) if s > 0 else 0.0
            for row in range(rows):
                last[kind, row, places[row]] = score
            scores[edge] = max(scores[edge], score)
    return scores


@njit(cache=True)
def _fade(recent: Floats, decay: float) -> None:
    kinds, rows, columns = recent.shape
    for kind in range(kinds):
        for row in range(rows):
            for place in range(columns):
                recent[kind, row, place] *= decay


@njit(cache=True)
def _merge(recent: Floats, total: Floats, last: Floats, threshold: float, now: int) -> None:
    usual = 1.0 / (now - 1) if now > 1 else 0.0
    kinds, rows, columns = recent.shape
    for kind in range(kinds):
        for row in range(rows):
            for place in range(columns):
                low = last[kind, row, place] < threshold
                total[kind, row, place] += recent[kind, row, place] if low else total[kind, row, place] * usual
