"""Templates of v9 and IPFIX compiled to NumPy structured types, and their records turned into columns. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

import numpy as np

from eddyline.sources.netflow.forms import VARIABLE, Form, Template, fields
from eddyline.sources.netflow.times import BOOT, Places, boots_to_uptime, clock_of, integers, times
from eddyline.sources.netflow.v5 import TIMES, Array, Records, chunks, columns_of, settle, spread
from eddyline.sources.netflow.variable import cut

_R: Final = 29305 << 16  # the reverse direction of IANA's elements (RFC 5103 section 6.1)
_FIELDS: Final[Mapping[str, tuple[tuple[int, ...], type[np.generic]]]] = {
    "src_port": ((7,), np.uint16), "dst_port": ((11,), np.uint16), "proto": ((4,), np.uint8),
    "tcp_flags": ((6,), np.uint16), "rev_tcp_flags": ((_R | 6,), np.uint16), "tos": ((5,), np.uint8),
    "end_reason": ((136,), np.uint8), "bytes": ((1, 85, 231), np.uint64), "packets": ((2, 86, 298), np.uint64),
    "rev_bytes": ((_R | 1, _R | 85, 232, 23), np.uint64), "rev_packets": ((_R | 2, _R | 86, 299, 24), np.uint64),
    "icmp": ((32, 139), np.uint16), "icmp_type": ((176, 178), np.uint8), "icmp_code": ((177, 179), np.uint8),
}  # fmt: skip  # numbers by preference, and the column's type; a field wider than its column is not used
_POST: Final = (23, 24)  # the reverse half from probes; the same half after routing from Cisco
_ADDRESSES: Final = {"src4": (8, 4), "dst4": (12, 4), "src6": (27, 16), "dst6": (28, 16)}
_SAMPLER: Final = (302, 48)
_RATES: Final = (
    (("rate", 34),), (("rate", 50),), (("rate", 305), ("of", 305), ("space", 306)), (("rate", 310), ("of", 309)),
    (("rate", 305),),
)  # fmt: skip  # elements that make 1 in N, by preference


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """A compiled template. `type_` is as wide as a record but names only what is read, under column names."""

    form: Form
    type_: np.dtype[Any]  # of a record without its variable-length fields
    plain: tuple[str, ...]  # columns that are copied as they are
    family: int  # 4, 6, or 46 where records hold both and the unused one is zero; 0 where a flow has no two ends
    clock: str  # see `times.clock_of`; empty where the template has no times
    span_us: int  # the unit of its durations; 0 where it has none
    options: bool
    segments: tuple[int, ...]  # bytes between variable-length fields; empty where there are none

    def records(self, body: bytes) -> tuple[bytes, int, str]:
        """The whole records of a data set's content, without padding, and how many; or why there are none.

        Padding is under 4 bytes (nProbe's is not zero); more, with content, means that another template was used.
        """
        name, size = self.form.name, self.type_.itemsize
        if self.segments:
            kept, count = cut(self.segments, body)
            fits = count > 0
            return (kept, count, "") if fits else (b"", 0, f"{name} data set does not fit its variable-length template")
        rest = len(body) % size
        if len(body) < size:
            return b"", 0, f"{name} data set of {len(body)} bytes is shorter than its template's record of {size}"
        if rest > 3 and any(body[-rest:]):
            return b"", 0, f"{name} data set of {len(body)} bytes does not fit its template's records of {size}"
        return body[: len(body) - rest], len(body) // size, ""


@dataclass(slots=True)
class Run:
    """The data sets of one batch that have one exporter, one template and one state of options: D of each list."""

    layout: Layout
    exporter: int  # code
    rate: int  # 1 in how many packets is seen; 0 where unknown or samplers differ
    rates: Mapping[int, int] = field(default_factory=dict)  # by sampler
    boot_ms: int = 0  # when the exporter's uptime was 0; 0 where its options do not say
    orders: list[int] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)  # datagram headers
    bodies: list[bytes] = field(default_factory=list)  # whole records only


@lru_cache(maxsize=4096)
def compile_template(form: Form, template: Template, reverse: bool) -> Layout:
    """The layout of a template within the limits, see `netflow_forms.sane`.

    The first of duplicate fields wins; unknown, enterprise, too wide and variable-length fields are skipped by their
    length. The scope fields of v9 options have numbers of their own, those of IPFIX are ordinary ones.
    """
    places: dict[int, tuple[int, int]] = {}
    segments = [0]
    offset = 0
    own = 0 if form.ipfix else template.scope or 0
    for number, (ie, length) in enumerate(fields(form, template.spec)):
        if length == VARIABLE:
            segments.append(0)
            continue
        if number >= own and length:
            places.setdefault(ie, (offset, length))
        offset += length
        segments[-1] += length
    plain = _plain(places, reverse)
    ends = {name: places[ie] for name, (ie, width) in _ADDRESSES.items() if places.get(ie, (0, 0))[1] == width}
    clock, span_us, when = clock_of(places, form.ipfix)
    options = template.scope is not None
    found = plain | ends | when | _sampling(places, options)
    formats = [_format(name, length) for name, (_, length) in found.items()]
    offsets = [start for start, _ in found.values()]
    type_ = np.dtype({"names": list(found), "formats": formats, "offsets": offsets, "itemsize": offset})
    family = int("".join(f for f in "46" if {f"src{f}", f"dst{f}"} <= set(ends)) or 0)
    variable = tuple(segments) if len(segments) > 1 else ()
    return Layout(form, type_, tuple(plain), family, clock, span_us, options, variable)


def _plain(places: Places, reverse: bool) -> dict[str, tuple[int, int]]:
    """Where each column is that the template has."""
    plain = {}
    for name, (ies, type_) in _FIELDS.items():
        usable = (ie for ie in ies if (reverse or ie not in _POST) and ie in places)
        chosen = next((ie for ie in usable if places[ie][1] <= np.dtype(type_).itemsize), None)
        if chosen is not None:
            plain[name] = places[chosen]
    return plain


def _sampling(places: Places, options: bool) -> dict[str, tuple[int, int]]:
    """Where the parts of a sampling rate are, whose it is, and when the uptime of the exporter was 0.

    Whole PSAMP pairs come before an interval without its space, which is how many exporters say 1 in N.
    """
    whole = [parts for parts in _RATES if all(ie in places and places[ie][1] <= 4 for _, ie in parts)]
    found = list(whole[0]) if whole else []
    found += [("sampler", ie) for ie in _SAMPLER if ie in places and places[ie][1] <= 8][:1]
    found += [("boot", BOOT)] if options and places.get(BOOT, (0, 9))[1] <= 8 else []
    return {name: places[ie] for name, ie in found}


def _format(name: str, length: int) -> Any:
    if name in ("src6", "dst6"):
        return "V16"
    return f">u{length}" if length in (1, 2, 4, 8) else (np.uint8, (length,))


def sampling_of(view: Array) -> Array:
    """1 in how many packets each record (R,) says is seen, uint32: PSAMP's interval and space, or its size, count too.

    RFC 5477 section 8.2: of (interval + space) packets `interval` are seen.
    """
    names = view.dtype.names or ()
    rate = integers(view["rate"]).astype(np.uint32)
    if "of" not in names:
        return rate
    total = rate.astype(np.uint64) + (integers(view["space"]) if "space" in names else np.uint64(0))
    of = np.maximum(integers(view["of"]).astype(np.uint64), np.uint64(1))
    return np.minimum((total + of // np.uint64(2)) // of, np.uint64(0xFFFFFFFF)).astype(np.uint32)


def convert(runs: Sequence[Run], counts: Counter[str]) -> Records:
    """The flows of runs that share a layout; times that had to be clamped are added to `counts`."""
    layout = runs[0].layout
    bodies = [body for run in runs for body in run.bodies]
    view = np.frombuffer(b"".join(bodies), layout.type_)
    each = np.fromiter(map(len, bodies), np.int64, len(bodies)) // layout.type_.itemsize
    sets = [len(run.bodies) for run in runs]
    base_us, uptime = _exported(layout, runs, view, each, np.repeat([run.boot_ms for run in runs], sets))
    ends = np.uint32 if layout.family == 4 else np.dtype("V16")
    types = {name: _FIELDS[name][1] for name in layout.plain} | dict.fromkeys(TIMES, np.int64)
    columns = columns_of(len(view), types | dict.fromkeys(("src_addr", "dst_addr"), ends))
    for part in chunks(len(view)):
        piece = view[part]
        for name in layout.plain:
            columns[name][part] = integers(piece[name])
        columns["src_addr"][part], columns["dst_addr"][part] = _addresses(layout.family, piece)
        end, duration = times(layout.clock, layout.span_us, piece, base_us[part], uptime[part])
        settle(columns, part, end, duration, base_us[part], counts)
    names = set(layout.type_.names or ())
    if not ({"start", "end"} <= names or "span" in names):
        del columns["duration_us"]
    if {"icmp_type", "icmp_code"} <= columns.keys():
        columns.setdefault("icmp", columns["icmp_type"].astype(np.uint16) << 8 | columns["icmp_code"])
    codes = np.repeat([run.exporter for run in runs], sets)
    columns["sampling_rate"] = sampling_of(view) if "rate" in names else _rates(layout, runs, view, each)
    order = np.array([number for run in runs for number in run.orders], np.int64)
    return Records(columns, spread(codes, each, np.int32), spread(order, each, np.int64))


def _exported(layout: Layout, runs: Sequence[Run], view: Array, each: Array, boots_ms: Array) -> tuple[Array, Array]:
    """When each record was exported (us since 1970), and the device's uptime then (uint32 ms)."""
    heads = np.frombuffer(b"".join([head for run in runs for head in run.heads]), layout.form.header)
    base_us = spread(heads["secs"].astype(np.int64) * 1_000_000, each, np.int64)
    if layout.clock != "uptime":
        return base_us, np.zeros(len(view), np.uint32)
    if layout.form.ipfix:
        return base_us, boots_to_uptime(view, base_us, boots_ms, each)
    return base_us, spread(heads["uptime"], each, np.uint32)


def _rates(layout: Layout, runs: Sequence[Run], view: Array, each: Array) -> Array:
    """The sampling rates that options gave: of the sampler that a flow names, else of its exporter."""
    sets = [len(run.bodies) for run in runs]
    rates = spread(np.repeat([run.rate for run in runs], sets), each, np.uint32)
    if "sampler" not in (layout.type_.names or ()):
        return rates
    rates = rates.copy()
    stops = np.cumsum(each)[np.cumsum(sets) - 1]
    samplers = integers(view["sampler"])
    for run, start, stop in zip(runs, [0, *stops[:-1].tolist()], stops.tolist(), strict=True):
        for sampler, rate in run.rates.items():
            rates[start:stop][samplers[start:stop] == sampler] = rate
    return rates


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
