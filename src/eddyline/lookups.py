"""Look-ups of the memory and of calibrations on a torch device: the host's own, by binary search in sorted arrays.

A copy of what the host has, made once; what it finds is what the host finds, key for key and p for p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from eddyline.calibration import ENOUGH, WITHIN, Calibration, Ranks
from eddyline.combine import SMALLEST
from eddyline.habits import Table
from eddyline.hashing import Keys


def device_keys(keys: Keys, device: str | torch.device) -> Tensor:
    """Keys (K,) as int64 with the same bits, for torch sorts no unsigned ones."""
    return torch.from_numpy(keys.view(np.int64).copy()).to(device)


def mixed(keys: Tensor) -> Tensor:
    """As `hashing.mix`, on int64 with the same bits: torch multiplies them modulo 2^64."""
    for factor in (0xFF51AFD7ED558CCD - 2**64, 0xC4CEB9FE1A85EC53 - 2**64):
        keys = (keys ^ _lowered(keys)) * factor
    return keys ^ _lowered(keys)


def _lowered(keys: Tensor) -> Tensor:
    return (keys >> 33) & (2**31 - 1)  # without the sign, which torch shifts in


def joined_keys(first: Tensor, second: Tensor | int) -> Tensor:
    """As `hashing.joined`: keys of ordered pairs of keys."""
    other = torch.as_tensor(second, dtype=torch.int64, device=first.device) + 0x2545F4914F6CDD1D
    return mixed(first * (0x9E3779B97F4A7C15 - 2**64) + mixed(other))


@dataclass(frozen=True, slots=True)
class SortedTable:
    """A `Table` of the memory as it was when copied.

    Args:
        keys: ascending, int64 (K,). place: row of each, (K,).
        rows: float32 (K, width) and last: int64 (K,), in the table's own order. tau: windows.
    """

    keys: Tensor
    place: Tensor
    rows: Tensor
    last: Tensor
    tau: float

    @classmethod
    def of(cls, table: Table, device: str) -> Self:
        """Copy a table."""
        parts = table.parts()
        keys, place = torch.sort(device_keys(parts["keys"], device))
        rows, last = (torch.from_numpy(parts[name]).to(device) for name in ("rows", "last"))
        return cls(keys, place, rows, last, table.tau)

    def find(self, keys: Tensor) -> Tensor:
        """Row of each key, int64 of any shape, as `device_keys` gives them; -1 where it is not known."""
        if not len(self.keys):
            return torch.full_like(keys, -1)
        at = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        return torch.where(self.keys[at] == keys, self.place[at], -1)

    def weights(self, places: Tensor, now: int, column: int = 0) -> Tensor:
        """The weight, or a plain sum, of each row, faded to `now`, float64; 0 where there is no row (-1)."""
        if not len(self.keys):
            return torch.zeros(places.shape, dtype=torch.float64, device=places.device)
        known = places.clamp(min=0)
        left = torch.exp(-(now - self.last[known]).clamp_(min=0).double() / self.tau)
        return torch.where(places >= 0, self.rows[known, column] * left, 0.0)


@dataclass(frozen=True, slots=True)
class DeviceRanks:
    """`Ranks` on a device: values float32 (K,), levels float64 (K + 1,)."""

    values: Tensor
    shares: Tensor
    nats: Tensor

    @classmethod
    def of(cls, ranks: Ranks, device: str) -> Self:
        """Copy them."""
        return cls(*(torch.from_numpy(part).to(device) for part in (ranks.values, ranks.shares, ranks.nats)))

    def share(self, values: Tensor) -> Tensor:
        """As `Ranks.share`, float64 (E,)."""
        return self._level(self.shares, values)

    def supported(self, surprise: Tensor) -> Tensor:
        """As `Ranks.supported`, float32 (E,)."""
        return torch.minimum(surprise, self._level(self.nats, surprise).float())

    def _level(self, levels: Tensor, tried: Tensor) -> Tensor:
        last = len(self.values)
        place = torch.searchsorted(self.values, tried.contiguous())
        place = torch.where(tried.isnan(), last, place)
        inside = place.clamp(1, last - 1) if last > 1 else torch.ones_like(place)
        before, after = self.values[inside - 1], self.values[inside.clamp(max=last - 1)]
        part = ((tried - before) / (after - before)).double()
        between = levels[inside - 1] + part * (levels[inside] - levels[inside - 1])
        return torch.where((place == 0) | (place == last), levels[place], between)


@dataclass(frozen=True, slots=True)
class DeviceCalibration:
    """`Calibration` on a device."""

    flows: DeviceRanks
    pairs: DeviceRanks
    scale: float

    @classmethod
    def of(cls, calibration: Calibration, device: str) -> Self:
        """Copy one; where too few pair-minutes stand behind it, flows alone speak, as on the host."""
        pairs = calibration.pairs if calibration.pairs.n >= ENOUGH else calibration.flows
        return cls(DeviceRanks.of(calibration.flows, device), DeviceRanks.of(pairs, device), calibration.scale)

    def p(self, raw: Tensor) -> Tensor:
        """As `Calibration.p`, float64 (E,)."""
        p = torch.maximum(self.flows.share(raw), self.pairs.share(raw) / WITHIN)
        over = raw.double() - self.flows.values[-1].double()
        return torch.where(over > 0, (p * torch.exp(-over / self.scale)).clamp_(min=SMALLEST), p)
