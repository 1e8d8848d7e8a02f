"""When things happen: curves over the day, quieter weekends, and who is there. Local time is UTC."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.draws import Floats

HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
PHASE_US: Final = 600_000_000  # curves are steps of ten minutes

# (hour, factor) corners, straight between them; 1 is an ordinary working hour.
_CURVES: Final = {
    "steady": ((0, 1), (24, 1)),
    "office": (
        (0, 0.03), (6, 0.04), (7.5, 0.4), (9, 1), (11.9, 1.05), (12.4, 0.7), (13.2, 0.75), (13.7, 1), (16.5, 0.95),
        (18, 0.35), (20, 0.1), (24, 0.03),
    ),
    "logon": (
        (0, 0), (6.3, 0.02), (7.2, 1.5), (8.5, 5), (9.8, 1), (13, 0.7), (13.6, 1.5), (16, 0.3), (18, 0.05), (24, 0),
    ),
    "business": ((0, 0.12), (6, 0.15), (9, 1), (12, 1), (12.7, 0.8), (14, 1), (17, 0.9), (19, 0.3), (24, 0.12)),
    "guest": ((0, 0.01), (7, 0.03), (9, 0.7), (12, 1), (15, 1), (18, 0.4), (21, 0.05), (24, 0.01)),
    "visitor": ((0, 0.5), (4, 0.2), (9, 0.9), (14, 1), (21, 1), (24, 0.5)),
}  # fmt: skip
_WEEKEND: Final = {"steady": 1.0, "office": 0.3, "logon": 0.15, "business": 0.3, "guest": 0.05, "visitor": 0.7}
RHYTHMS: Final = tuple(_CURVES)


def curve(name: str, hours: NDArray[Any]) -> Floats:
    """The factor of a rhythm at hours of the day; any number, it wraps."""
    corners = np.array(_CURVES[name], float)
    return np.asarray(np.interp(np.mod(hours, 24), corners[:, 0], corners[:, 1]), np.float64)


def rhythms(time_us: int) -> Floats:
    """(len(RHYTHMS),) factors at a moment, the day of the week included."""
    hours, quiet = np.array([hour_of(time_us)]), is_weekend(time_us)
    return np.array([curve(name, hours)[0] * (_WEEKEND[name] if quiet else 1.0) for name in RHYTHMS])


def hour_of(time_us: int) -> float:
    """Hours since midnight."""
    return time_us % DAY_US / HOUR_US


def is_weekend(time_us: int) -> bool:
    """Saturday or Sunday; 1 January 1970 was a Thursday."""
    return (time_us // DAY_US + 3) % 7 >= 5
