"""When flows of templated records began and ended, from whichever of the IANA time elements a template has. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from eddyline.sources.netflow.v5 import Array, from_uptime

BOOT: Final = 160  # systemInitTimeMilliseconds: what uptimes are counted from, in a record or in options
_CLOCKS: Final = (
    ("ns", 157, 156), ("us", 155, 154), ("ms", 153, 152), ("before", 159, 158), ("uptime", 21, 22), ("s", 151, 150),
    ("ms", 323, 152), ("ns", 325, 325), ("us", 324, 324), ("ms", 323, 323), ("s", 322, 322),
)  # fmt: skip  # clock, end, start; `before` is microseconds before the export, the last five are times of an event
_SPANS: Final = ((162, 1), (161, 1000))  # flowDuration, and its unit in microseconds
_UNIT_US: Final = {"us": 1, "ms": 1000, "s": 1_000_000}
_NTP: Final = {"us": 1 << 60, "ns": 1 << 63}  # larger values are NTP times (RFC 7011 section 6.1.9 and 6.1.10)
_NTP_EPOCH_S: Final = 2_208_988_800  # NTP: seconds since 1900, then a 32-bit fraction
_LATEST_US: Final = 1 << 61  # a start and a duration together stay in int64

Places = Mapping[int, tuple[int, int]]  # element to (offset, bytes) in the record


def clock_of(places: Places, ipfix: bool) -> tuple[str, int, dict[str, tuple[int, int]]]:
    """The best clock that a template has, the unit of its durations (us), and where `end`, `start` and `span` are.

    One that tells both ends comes before one that tells a single end. IPFIX has no uptime in its header, so there
    whole seconds are better than uptimes whose beginning the record does not say.
    """
    late = ("uptime",) if ipfix and BOOT not in places else ()
    clocks = sorted(_CLOCKS, key=lambda clock: clock[0] in late)
    found = [(clock, _ends(places, clock, end, start)) for clock, end, start in clocks]
    best, where = max(found, key=lambda pair: len(pair[1]))  # the first of those with most
    if not where:
        best = ""
    if best == "uptime" and _integer(places, BOOT):
        where["boot"] = places[BOOT]
    spans = [(ie, unit_us) for ie, unit_us in _SPANS if _integer(places, ie)]
    for ie, _ in spans[:1]:
        where["span"] = places[ie]
    return best, spans[0][1] if spans else 0, where


def _ends(places: Places, clock: str, end: int, start: int) -> dict[str, tuple[int, int]]:
    return {
        name: places[ie]
        for name, ie in (("end", end), ("start", start))
        if _integer(places, ie) and (clock != "uptime" or places[ie][1] == 4)
    }


def _integer(places: Places, ie: int) -> bool:
    return 1 <= places.get(ie, (0, 0))[1] <= 8


def times(clock: str, unit_us: int, piece: Array, base_us: Array, uptime: Array) -> tuple[Array, Array]:
    """End and duration in microseconds; an absolute time of 0 is "not set", and then the export time is the end.

    No record says that a flow began or ended before 1970, but uptimes may.
    """
    names = piece.dtype.names or ()
    if clock == "uptime" and {"start", "end"} <= set(names):
        return from_uptime(base_us, uptime, piece["start"].astype(np.uint32), piece["end"].astype(np.uint32))
    known = {name: _absolute(piece[name], clock, base_us, uptime) for name in ("start", "end") if name in names}
    span = np.zeros_like(base_us)
    if unit_us:
        span = np.minimum(integers(piece["span"]), np.uint64(_LATEST_US // unit_us)).astype(np.int64) * unit_us
    if "end" in known:
        end = _set(known["end"], base_us)
        if "start" not in known:
            return end, np.minimum(span, np.maximum(end, 0))
        return end, np.maximum(end - _set(known["start"], end), 0)
    if "start" in known:
        end = _set(known["start"] + span, base_us, known["start"])
        return end, np.minimum(span, np.maximum(end, 0))
    return base_us, np.minimum(span, base_us)


def _set(found: Array, otherwise: Array, said: Array | None = None) -> Array:
    """`found`, or `otherwise` where what the record `said` (`found` itself, if None) is 0."""
    unset = (found if said is None else said) == 0
    return np.where(unset, otherwise, found) if unset.any() else found


def boots_to_uptime(view: Array, base_us: Array, boots_ms: Array, each: Array) -> Array:
    """The uptime of an IPFIX exporter when it sent each record: uint32 ms (R,), what its header does not say.

    Args:
        view: records (R,) with `end`, or only `start`; and `boot` where the record says when the uptime was 0.
        base_us: export time (R,).
        boots_ms: when it was by the options of the exporter, for each set (D,); 0 where unknown. Then the latest flow
            of a set is taken to end when it is exported.
        each: records of each set (D,), none 0.
    """
    if "boot" in (view.dtype.names or ()):
        return (base_us // 1000 - integers(view["boot"]).astype(np.int64)).astype(np.uint32)
    last = view["end" if "end" in (view.dtype.names or ()) else "start"].astype(np.uint32)
    starts = np.concatenate([[0], np.cumsum(each)[:-1]]).astype(np.int64)
    first = np.repeat(last[starts], each)
    newest = np.maximum.reduceat((last - first).view(np.int32), starts)
    guessed = first + np.repeat(newest, each).astype(np.uint32)
    boots = np.repeat(boots_ms, each)
    said = (base_us // 1000 - boots).astype(np.uint32)
    return np.where(boots != 0, said, guessed)


def integers(column: Array) -> Array:
    """Unsigned integers of any width up to 8 bytes: odd ones arrive as (R, width) bytes and are put together here."""
    if column.ndim == 1:
        return column
    total = np.zeros(len(column), np.uint64)
    for place in range(column.shape[1]):
        total = (total << np.uint64(8)) | column[:, place]
    return total


def _absolute(column: Array, clock: str, base_us: Array, uptime: Array) -> Array:
    values = integers(column).astype(np.uint64)
    if clock == "uptime":
        age_ms: Array = (uptime - values.astype(np.uint32)).view(np.int32)
        return base_us - age_ms.astype(np.int64) * 1000
    if clock == "before":
        values = np.minimum(values, base_us.astype(np.uint64))
        return base_us - values.astype(np.int64)
    if clock == "ns":
        values = np.where(values < _NTP["ns"], values // 1000, _from_ntp(values))
    elif clock == "us" and (values >= _NTP["us"]).any():
        values = np.where(values < _NTP["us"], values, _from_ntp(values))
    unit = _UNIT_US.get(clock, 1)
    latest = np.uint64(_LATEST_US // unit)
    if values.max() > latest:
        values = np.minimum(values, latest)
    found: Array = values.view(np.int64) * unit
    return found


def _from_ntp(values: Array) -> Array:
    scaled = (values & np.uint64(0xFFFFFFFF)) * np.uint64(1_000_000)
    fraction = (scaled + np.uint64(1 << 31)) >> np.uint64(32)  # rounded: exporters cut when they write the fraction
    us = ((values >> np.uint64(32)).astype(np.int64) - _NTP_EPOCH_S) * 1_000_000 + fraction.astype(np.int64)
    found: Any = np.maximum(us, 0).astype(np.uint64)
    return np.asarray(found)
