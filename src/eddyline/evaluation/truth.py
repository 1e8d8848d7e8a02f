"""What the judged flows were: attack, benign, or benign beside an attack, in cells that a flood fills once.

A pair-minute is (source, destination, 60 s of event time); a group is (source, hour). Benign flows are *clean* where
neither end touches an attack flow in that minute, else *collateral*: a person who looks at an attacked host is not
misled by an alert on its neighbouring flow, so collateral never counts against the promise and is reported apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from eddyline.errors import ConfigError

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
MINUTE_US: Final = 60_000_000
HOUR_US: Final = 3_600_000_000
_SHORT_US: Final = 6 * HOUR_US  # a shorter trace is resampled by minutes: too few hours to draw from


@dataclass(frozen=True, slots=True)
class Truth:
    """N judged flows and what they were; every column has N rows in one order, which scores must share.

    Args:
        time_us: event time, microseconds since 1970.
        attack: True for attack flows.
        clean: True for benign flows whose ends touch no attack flow in their minute.
        kind: class of an attack flow, an index into `kinds`; -1 for benign flows.
        kinds: names of the attack classes.
        cell: pair-minute of the flow, 0, 1, …
        group: (source, hour) of the flow, 0, 1, …
        block: stretch of time that is resampled as one, 0, 1, …: an hour, on traces shorter than 6 h a minute.
        sources: distinct sources of benign flows; spoofed ones would make any rate per host small.
        days: length of the trace; at least the one hour that a group is counted in.
    """

    time_us: Codes
    attack: Mask
    clean: Mask
    kind: Codes
    kinds: tuple[str, ...]
    cell: Codes
    group: Codes
    block: Codes
    sources: int
    days: float

    def __len__(self) -> int:
        return len(self.time_us)

    @property
    def collateral(self) -> Mask:
        """True for benign flows of a host that also had an attack flow in that minute."""
        return ~self.attack & ~self.clean


def truth_of(time_us: Codes, src: Codes, dst: Codes, kind: Codes, kinds: Sequence[str]) -> Truth:
    """Sort N judged flows into what they were.

    Args:
        time_us: event time, microseconds since 1970.
        src, dst: hosts as codes of one numbering, >= 0.
        kind: attack class, an index into `kinds`; -1 for a benign flow.
        kinds: names of attack classes; those without a judged flow are left out.

    Raises:
        ConfigError: there is no benign flow to hold the promise against.
    """
    attack = kind >= 0
    if attack.all():
        raise ConfigError("evaluate: no benign flow among those judged; give an earlier --from or another source")
    present = sorted(np.unique(kind[attack]).tolist(), key=lambda code: kinds[code])
    place = np.full(len(kinds) + 1, -1)  # its last entry is for -1
    place[present] = np.arange(len(present))
    hosts, minute = int(max(src.max(), dst.max())) + 1, time_us // MINUTE_US
    beside = _touches(minute * hosts + src, minute * hosts + dst, attack)
    span = int(time_us.max() - time_us.min())
    return Truth(
        time_us=time_us,
        attack=attack,
        clean=~attack & ~beside,
        kind=place[kind],
        kinds=tuple(kinds[code] for code in present),
        cell=_numbered(_numbered(src * hosts + dst), minute),
        group=_numbered(src, time_us // HOUR_US),
        block=_numbered(time_us // (MINUTE_US if span < _SHORT_US else HOUR_US)),
        sources=len(np.unique(src[~attack])),
        days=max(span, HOUR_US) / (24 * HOUR_US),
    )


def _touches(src: Codes, dst: Codes, attack: Mask) -> Mask:
    """Flows with an end, as (minute, host), that an attack flow has too."""
    attacked = np.unique(np.concatenate([src[attack], dst[attack]]))
    return np.isin(src, attacked) | np.isin(dst, attacked)


def _numbered(first: Codes, second: Codes | None = None) -> Codes:
    """0, 1, … for each distinct value, or pair of values."""
    keys = np.unique(first, return_inverse=True)[1]
    if second is not None:
        others = np.unique(second, return_inverse=True)[1]
        keys = np.unique(keys * (int(others.max()) + 1) + others, return_inverse=True)[1]
    return keys.astype(np.int64)


def cells_of(truth: Truth, rows: Mask) -> tuple[Codes, Codes]:
    """Return one flow of each pair-minute among `rows` (C,), and for every flow of `rows` its place in there."""
    first, place = np.unique(truth.cell[rows], return_index=True, return_inverse=True)[1:]
    return np.flatnonzero(rows)[first], place.astype(np.int64)


def flagged_cells(truth: Truth, rows: Mask, flagged: Mask) -> tuple[Codes, Mask]:
    """Return one flow of each pair-minute among `rows` (C,), and whether any flow of it in `rows` is flagged (C,)."""
    first, place = cells_of(truth, rows)
    hit = np.zeros(len(first), np.bool_)
    hit[place[flagged[rows]]] = True
    return first, hit
