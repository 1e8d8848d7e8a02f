"""NetFlow templates compiled to NumPy structured types, and their records turned into columns. Pure."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from eddyline.sources.netflow_v5 import Array, Records, chunks, from_uptime, settle, spread

_PAIR: Final = struct.Struct(">HH")

_FIELDS: Final[Mapping[str, tuple[tuple[int, ...], type[np.generic]]]] = {
    "src_port": ((7,), np.uint16), "dst_port": ((11,), np.uint16), "proto": ((4,), np.uint8),
    "tcp_flags": ((6,), np.uint16), "tos": ((5,), np.uint8), "end_reason": ((136,), np.uint8),
    "bytes": ((1, 85, 231), np.uint64), "packets": ((2, 86, 298), np.uint64),
    "rev_bytes": ((232, 23), np.uint64), "rev_packets": ((299, 24), np.uint64),
    "icmp": ((32, 139), np.uint16), "sampling_rate": ((34, 50, 305), np.uint32),
}  # fmt: skip  # IANA numbers by preference, and the column's type; a field wider than its column is not used
_POST: Final = (23, 24)  # the reverse half from probes; the same half after routing from Cisco
_ADDRESSES: Final = {"src4": (8, 4), "dst4": (12, 4), "src6": (27, 16), "dst6": (28, 16)}
_CLOCKS: Final = (("us", 155, 154), ("ms", 153, 152), ("uptime", 21, 22), ("s", 151, 150))  # clock, end, start
_UNIT_US: Final = {"us": 1, "ms": 1000, "s": 1_000_000}
_SAMPLER: Final = (48, 302)
_NTP: Final = 1 << 60  # larger "microseconds" are NTP times (RFC 7011 section 6.1.9): seconds since 1900, then fraction
_NTP_EPOCH_S: Final = 2_208_988_800
_LATEST_US: Final = 1 << 62

HEADER: Final = np.dtype(
    [("version", ">u2"), ("count", ">u2"), ("uptime", ">u4"), ("secs", ">u4"), ("sequence", ">u4"), ("domain", ">u4")]
)  # of a v9 datagram


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A compiled template. `type_` is as wide as a record but names only what is read, under column names."""

    type_: np.dtype[Any]
    plain: tuple[str, ...]  # columns that are copied as they are
    family: int  # 4, 6, or 46 where records hold both and the unused one is zero; 0 where a flow has no two ends
    clock: str  # us, ms, s or uptime; empty where the template has no times
    options: bool


@dataclass(slots=True)
class Run:
    """The data sets of one batch that have one exporter, one template and one sampling rate: D of each list."""

    layout: Layout
    exporter: int  # code
    rate: int
    orders: list[int] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)  # datagram headers
    bodies: list[bytes] = field(default_factory=list)  # whole records only


@lru_cache(maxsize=4096)
def compile_template(spec: bytes, scope: int | None, reverse: bool) -> Layout:
    """The layout of field specifications (type, length: two big-endian uint16 each), as they stand in the template.

    The first of duplicate fields wins; unknown, enterprise and too wide fields are skipped by their length. `scope`
    fields of an options template come first and have numbers of their own; None for a data template.
    """
    places: dict[int, tuple[int, int]] = {}
    offset = 0
    for number, (ie, length) in enumerate(_PAIR.iter_unpack(spec)):
        if number >= (scope or 0) and length:
            places.setdefault(ie, (offset, length))
        offset += length
    plain = {}
    for name, (ies, type_) in _FIELDS.items():
        usable = (ie for ie in ies if (reverse or ie not in _POST) and ie in places)
        chosen = next((ie for ie in usable if places[ie][1] <= np.dtype(type_).itemsize), None)
        if chosen is not None:
            plain[name] = places[chosen]
    ends = {name: places[ie] for name, (ie, width) in _ADDRESSES.items() if places.get(ie, (0, 0))[1] == width}
    clock, times = _clock(places)
    fields = plain | ends | times
    if scope is not None:
        fields |= dict([("sampler", places[ie]) for ie in _SAMPLER if ie in places and places[ie][1] <= 8][:1])
    formats = [_format(name, length) for name, (_, length) in fields.items()]
    offsets = [start for start, _ in fields.values()]
    type_of = np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": offset})
    family = int("".join(f for f in "46" if {f"src{f}", f"dst{f}"} <= set(ends)) or 0)
    return Layout(type_of, tuple(plain), family, clock, scope is not None)


def _clock(places: Mapping[int, tuple[int, int]]) -> tuple[str, dict[str, tuple[int, int]]]:
    """The best clock that a template has, and where its times are; a lone start counts as the end."""
    for clock, end, start in _CLOCKS:
        widths = (4,) if clock == "uptime" else range(1, 9)
        found = [places[ie] for ie in (end, start) if ie in places and places[ie][1] in widths]
        if found:
            return clock, dict(zip(("end", "start"), found, strict=False))
    return "", {}


def _format(name: str, length: int) -> Any:
    if name in ("src6", "dst6"):
        return "V16"
    return f">u{length}" if length in (1, 2, 4, 8) else (np.uint8, (length,))


def integers(column: Array) -> Array:
    """Unsigned integers of any width up to 8 bytes: odd ones arrive as (R, width) bytes and are put together here."""
    if column.ndim == 1:
        return column
    total = np.zeros(len(column), np.uint64)
    for place in range(column.shape[1]):
        total = (total << np.uint64(8)) | column[:, place]
    return total


def convert(runs: Sequence[Run], counts: Counter[str]) -> Records:
    """The flows of runs that share a layout; times that had to be clamped are added to `counts`."""
    layout = runs[0].layout
    bodies = [body for run in runs for body in run.bodies]
    view = np.frombuffer(b"".join(bodies), layout.type_)
    heads = np.frombuffer(b"".join([head for run in runs for head in run.heads]), HEADER)
    each = np.fromiter(map(len, bodies), np.int64, len(bodies)) // layout.type_.itemsize
    base_us = spread(heads["secs"].astype(np.int64) * 1_000_000, each, np.int64)
    uptime = spread(heads["uptime"], each, np.uint32)
    columns: dict[str, Array] = {name: np.empty(len(view), _FIELDS[name][1]) for name in layout.plain}
    columns |= {name: np.empty(len(view), np.int64) for name in ("ts_start", "ts_end", "duration_us")}
    ends = np.uint32 if layout.family == 4 else np.dtype("V16")
    columns |= {name: np.empty(len(view), ends) for name in ("src_addr", "dst_addr")}
    for part in chunks(len(view)):
        piece = view[part]
        for name in layout.plain:
            columns[name][part] = integers(piece[name])
        columns["src_addr"][part], columns["dst_addr"][part] = _addresses(layout.family, piece)
        end, duration = _times(layout, piece, base_us[part], uptime[part])
        settle(columns, part, end, duration, base_us[part], counts)
    if "start" not in (layout.type_.names or ()):
        del columns["duration_us"]
    sets = [len(run.bodies) for run in runs]
    rates, codes = (np.repeat(values, sets) for values in ([run.rate for run in runs], [run.exporter for run in runs]))
    columns.setdefault("sampling_rate", spread(rates, each, np.uint32))
    order = np.array([number for run in runs for number in run.orders], np.int64)
    return Records(columns, spread(codes, each, np.int32), spread(order, each, np.int64))


def _addresses(family: int, piece: Array) -> tuple[Array, Array]:
    if family == 4:
        return piece["src4"], piece["dst4"]
    if family == 6:
        return piece["src6"], piece["dst6"]
    old = (piece["src4"] != 0) | (piece["dst4"] != 0)
    src = np.where(old, mapped(piece["src4"]), piece["src6"])
    return src, np.where(old, mapped(piece["dst4"]), piece["dst6"])


def mapped(addresses: Array) -> Array:
    """IPv4 addresses, integers (R,), as 16 opaque bytes ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2)."""
    wide = np.zeros((len(addresses), 4), ">u4")
    wide[:, 2], wide[:, 3] = 0xFFFF, addresses
    return wide.view("V16")[:, 0]


def _times(layout: Layout, piece: Array, base_us: Array, uptime: Array) -> tuple[Array, Array]:
    """End and duration in microseconds; an absolute time of 0 is "not set", and then the export time is the end."""
    if not layout.clock:
        return base_us, np.zeros_like(base_us)
    start = "start" if "start" in (layout.type_.names or ()) else "end"
    if layout.clock == "uptime":
        return from_uptime(base_us, uptime, piece[start].astype(np.uint32), piece["end"].astype(np.uint32))
    ends, starts = _absolute(piece["end"], layout.clock), _absolute(piece[start], layout.clock)
    ends = np.where(ends == 0, base_us, ends)
    return ends, np.maximum(ends - np.where(starts == 0, ends, starts), 0)


def _absolute(column: Array, clock: str) -> Array:
    values = integers(column).astype(np.uint64)
    if clock == "us" and (values >= _NTP).any():
        fraction = ((values & np.uint64(0xFFFFFFFF)) * np.uint64(1_000_000)) >> np.uint64(32)
        ntp = ((values >> np.uint64(32)).astype(np.int64) - _NTP_EPOCH_S) * 1_000_000 + fraction.astype(np.int64)
        values = np.where(values >= _NTP, np.maximum(ntp, 0).astype(np.uint64), values)
    return np.minimum(values, np.uint64(_LATEST_US // _UNIT_US[clock])).astype(np.int64) * _UNIT_US[clock]
