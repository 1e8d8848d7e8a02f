"""64-bit keys and grouping by hash: one pass over a column where sorting would cost ten times as much.

Everything here is compiled by numba on first use and cached; `NUMBA_DISABLE_JIT=1` runs the same functions
interpreted.
"""

from __future__ import annotations

import secrets
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

Keys: TypeAlias = NDArray[np.uint64]
Places: TypeAlias = NDArray[np.int64]
_SECRET: Final = np.uint64(secrets.randbits(64))  # drawn when this is compiled; decides slots, never a result
_FIRST: Final = 1024  # slots that a grouping starts with; it doubles as distinct keys come


@njit(cache=True)
def mix(key: np.uint64) -> np.uint64:
    """Spread a key over 64 bits, one to one (the finaliser of MurmurHash3)."""
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xFF51AFD7ED558CCD)
    key ^= key >> np.uint64(33)
    key *= np.uint64(0xC4CEB9FE1A85EC53)
    return key ^ (key >> np.uint64(33))


@njit(cache=True)
def joined(first: np.uint64, second: np.uint64) -> np.uint64:
    """Key of an ordered pair of keys."""
    return mix(first * np.uint64(0x9E3779B97F4A7C15) + mix(second + np.uint64(0x2545F4914F6CDD1D)))


@njit(cache=True)
def group(keys: Keys) -> tuple[Places, Places]:
    """Group equal keys (E,): the group of each row, numbered by first appearance, (E,), and each group's first row.

    Whoever chooses the keys cannot choose them to meet in one slot, which would cost a step for each pair of them.
    """
    slots = np.full(_FIRST, -1, np.int64)
    mask = np.uint64(_FIRST - 1)
    group_of = np.empty(len(keys), np.int64)
    first = np.empty(max(_FIRST, 1), np.int64)
    groups = 0
    for row in range(len(keys)):
        key = keys[row]
        slot = mix(key ^ _SECRET) & mask
        while slots[slot] >= 0 and keys[first[slots[slot]]] != key:
            slot = (slot + np.uint64(1)) & mask
        if slots[slot] < 0:
            if groups == len(first):
                larger = np.empty(2 * groups, np.int64)
                larger[:groups] = first
                first = larger
            slots[slot] = groups
            first[groups] = row
            groups += 1
            group_of[row] = groups - 1
            if 2 * groups > len(slots):
                slots = np.full(4 * len(slots), -1, np.int64)
                mask = np.uint64(len(slots) - 1)
                for known in range(groups):
                    free = mix(keys[first[known]] ^ _SECRET) & mask
                    while slots[free] >= 0:
                        free = (free + np.uint64(1)) & mask
                    slots[free] = known
        else:
            group_of[row] = slots[slot]
    return group_of, first[:groups].copy()


def text_keys(texts: pa.Array) -> Keys:
    """Key of each text (V,), the same in every window and process: FNV-1a over the UTF-8 bytes, then `mix`."""
    if not len(texts):
        return np.empty(0, np.uint64)
    texts = texts.cast(pa.large_utf8())
    _, offsets, letters = texts.buffers()
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.asarray(_fnv(bounds, np.frombuffer(letters or b"", np.uint8)), np.uint64)


@njit(cache=True)
def _fnv(bounds: Places, letters: NDArray[np.uint8]) -> Keys:
    keys = np.empty(len(bounds) - 1, np.uint64)
    for text in range(len(keys)):
        key = np.uint64(0xCBF29CE484222325)
        for place in range(bounds[text], bounds[text + 1]):
            key = (key ^ np.uint64(letters[place])) * np.uint64(0x100000001B3)
        keys[text] = mix(key)
    return keys
