"""NetFlow v5: datagrams to columns, without sockets or clocks; and the column form that every NetFlow version shares.

A v5 datagram is a 24-byte header and `count` records of 48 bytes, all big-endian (Cisco, NetFlow Export Datagram
Format). Times are milliseconds of device uptime, which wraps after 49.7 days.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Datagram = tuple[int, str, bytes]  # arrival number in the batch, exporter's address, bytes as received

CHUNK: Final = 8192  # records converted at a time: the strided reads of one chunk stay in the second-level cache
SLACK_US: Final = 1_000_000  # a header counts whole seconds, so a flow may end up to a second after it
_SEQUENCES: Final = 65_536  # exporters whose sequence is followed, least recently seen dropped first

HEADER: Final = np.dtype(
    [("version", ">u2"), ("count", ">u2"), ("uptime", ">u4"), ("secs", ">u4"), ("nsecs", ">u4"),
     ("sequence", ">u4"), ("engine", ">u2"), ("sampling", ">u2")]
)  # fmt: skip
RECORD: Final = np.dtype(
    [("src_addr", ">u4"), ("dst_addr", ">u4"), ("next_hop", ">u4"), ("in_if", ">u2"), ("out_if", ">u2"),
     ("packets", ">u4"), ("bytes", ">u4"), ("first", ">u4"), ("last", ">u4"), ("src_port", ">u2"), ("dst_port", ">u2"),
     ("pad1", "u1"), ("tcp_flags", "u1"), ("proto", "u1"), ("tos", "u1"), ("src_as", ">u2"), ("dst_as", ">u2"),
     ("src_mask", "u1"), ("dst_mask", "u1"), ("pad2", ">u2")]
)  # fmt: skip
TIMES: Final = ("ts_start", "ts_end", "duration_us")
_PLAIN: Final[dict[str, Any]] = {
    "src_addr": np.uint32, "dst_addr": np.uint32, "src_port": np.uint16, "dst_port": np.uint16, "proto": np.uint8,
    "tcp_flags": np.uint16, "tos": np.uint8, "bytes": np.uint64, "packets": np.uint64,
}  # fmt: skip


class Rejected(NamedTuple):
    """One datagram that could not be read, whole or in part: why, from whom, and its bytes as received."""

    reason: str
    origin: str
    raw: bytes
    arrival: int  # in this batch; -1 for what came in an earlier one


@dataclass(frozen=True, slots=True)
class Records:
    """R flows that one layout gave.

    `columns` holds only what the layout has, under the names of FLOW_SCHEMA; times are int64 microseconds, IPv4
    addresses uint32, IPv6 addresses 16 opaque bytes, and `icmp` is type * 256 + code.
    """

    columns: dict[str, Array]
    exporter: Array  # int32 (R,), codes into Decoded.exporters
    order: Array  # int64 (R,), rises with arrival

    def __len__(self) -> int:
        return len(self.order)


@dataclass(slots=True)
class Decoded:
    """What one batch of datagrams held. Every datagram is in `records`, in `rejected`, or waits for its template."""

    records: list[Records] = field(default_factory=list)
    exporters: dict[str, int] = field(default_factory=dict)  # "address/domain" to code
    rejected: list[Rejected] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    by_exporter: Counter[tuple[str, str]] = field(default_factory=Counter)  # by (address, what)

    def count(self, origin: str, what: str, number: int = 1) -> None:
        """Count what happened to the exporter at that address."""
        self.counts[what] += number
        self.by_exporter[origin, what] += number

    def reject(self, arrival: int, origin: str, raw: bytes, reason: str) -> None:
        """Keep `raw` and why it could not be read."""
        self.rejected.append(Rejected(reason, origin, raw, arrival))


class Stream:
    """The export sequence of one device and domain, modulo 2^32. A restart or a late datagram is no gap.

    `expected` is the next number, -1 after a datagram of which nobody knows how far it moved the sequence on;
    `origin` the address of the device.
    """

    __slots__ = ("expected", "origin")

    def __init__(self, expected: int, origin: str) -> None:
        self.expected, self.origin = expected, origin

    def missing(self, sequence: int) -> int:
        """Units (v5: flows, v9: datagrams, IPFIX: records) lost before this datagram; 0 where `expected` is below 0."""
        ahead = (sequence - self.expected) & 0xFFFFFFFF
        return ahead if self.expected >= 0 and ahead < 0x80000000 else 0


class Sequences:
    """The streams of all exporters, bounded: the least recently asked for is dropped first."""

    def __init__(self) -> None:
        self._streams: OrderedDict[tuple[str, int], Stream] = OrderedDict()

    def stream(self, origin: str, domain: int, sequence: int) -> Stream:
        """The stream of that exporter; a new one starts at `sequence`."""
        key = (origin, domain)
        stream = self._streams.get(key)
        if stream is None:
            stream = self._streams[key] = Stream(sequence, origin)
            if len(self._streams) > _SEQUENCES:
                self._streams.popitem(last=False)
        else:
            self._streams.move_to_end(key)
        return stream


def decode_v5(datagrams: Sequence[Datagram], into: Decoded, sequences: Sequences) -> None:
    """Append the flows of v5 `datagrams` to `into`; one whose length does not fit its record count is rejected whole.

    Never raises, whatever the bytes. An interval of 0 in the header says nothing about sampling: unknown.
    """
    if not datagrams:
        return
    heads = np.frombuffer(b"".join([raw[:24].ljust(24, b"\0") for _, _, raw in datagrams]), HEADER)
    counts = heads["count"].astype(np.int64)
    lengths = np.fromiter((len(raw) for _, _, raw in datagrams), np.int64, len(datagrams))
    good = (heads["version"] == 5) & (counts > 0) & (lengths == 24 + 48 * counts)
    for wrong in np.flatnonzero(~good).tolist():
        raw = datagrams[wrong][2]
        into.reject(*datagrams[wrong], f"v5 header says {counts[wrong]} records, datagram has {len(raw)} bytes")
    if good.any():
        kept = datagrams if good.all() else [datagrams[place] for place in np.flatnonzero(good).tolist()]
        into.records.append(_convert(kept, heads[good], counts[good], into, sequences))


def _convert(kept: Sequence[Datagram], heads: Array, counts: Array, into: Decoded, sequences: Sequences) -> Records:
    view = np.frombuffer(b"".join([raw[24:] for _, _, raw in kept]), RECORD)
    base_us = spread(heads["secs"].astype(np.int64) * 1_000_000 + heads["nsecs"] // 1000, counts, np.int64)
    uptime = spread(heads["uptime"], counts, np.uint32)
    rows = len(view)
    columns = columns_of(rows, _PLAIN | dict.fromkeys(TIMES, np.int64))
    for part in chunks(rows):
        for name in _PLAIN:
            columns[name][part] = view[name][part]
        first, last = view["first"][part].astype(np.uint32), view["last"][part].astype(np.uint32)
        end, duration = from_uptime(base_us[part], uptime[part], first, last)
        settle(columns, part, end, duration, base_us[part], into.counts)
    columns["sampling_rate"] = spread(heads["sampling"] & 0x3FFF, counts, np.uint32)
    codes = np.array(_follow(kept, heads, into, sequences))
    order = np.array([arrival for arrival, _, _ in kept], np.int64) << 16
    return Records(columns, spread(codes, counts, np.int32), spread(order, counts, np.int64))


def _follow(kept: Sequence[Datagram], heads: Array, into: Decoded, sequences: Sequences) -> list[int]:
    """Count the flows lost before each datagram; return the exporters' codes."""
    codes = []
    known: dict[tuple[str, int], tuple[Stream, int]] = {}
    numbers = zip(heads["engine"].tolist(), heads["sequence"].tolist(), heads["count"].tolist(), strict=True)
    for (_, origin, _), (engine, sequence, count) in zip(kept, numbers, strict=True):
        found = known.get((origin, engine))
        if found is None:
            code = into.exporters.setdefault(f"{origin}/{engine}", len(into.exporters))
            found = known[origin, engine] = (sequences.stream(origin, engine, sequence), code)
        stream, code = found
        codes.append(code)
        missing = stream.missing(sequence)
        stream.expected = (sequence + count) & 0xFFFFFFFF
        if missing:
            into.count(origin, "sequence_gaps")
            into.count(origin, "missing_flows", missing)
    return codes


def chunks(rows: int) -> Iterator[slice]:
    """Slices of at most CHUNK rows that cover `rows`, in order."""
    return (slice(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK))


def columns_of(rows: int, types: Mapping[str, Any]) -> dict[str, Array]:
    """Uninitialised columns (R,) of the given types, in one block: the kernel clears pages of many small ones anew."""
    sizes = [-(-rows * np.dtype(type_).itemsize // 64) * 64 for type_ in types.values()]
    block = np.empty(sum(sizes), np.uint8)
    columns = {}
    offset = 0
    for (name, type_), size in zip(types.items(), sizes, strict=True):
        columns[name] = block[offset : offset + rows * np.dtype(type_).itemsize].view(type_)
        offset += size
    return columns


def spread(values: Array, counts: Array, type_: type[np.generic]) -> Array:
    """`values` (B,) of datagrams repeated to their records: (sum of counts,), read-only where all are the same."""
    values = values.astype(type_)
    if len(values) and (values == values[0]).all():
        return np.broadcast_to(values[0], (int(counts.sum()),))
    return np.repeat(values, counts)


def from_uptime(base_us: Array, uptime: Array, first: Array, last: Array) -> tuple[Array, Array]:
    """End (us since 1970) and duration (us, never negative) of flows timed by device uptime (uint32 ms).

    Differences are taken modulo 2^32 and read as signed, so a wrap between flow and export is right, and so is a flow
    a little ahead of its header. Spans over 24.8 days cannot be told from negative ones and count as 0.
    """
    age_ms = (uptime - last).view(np.int32)
    span_ms = np.maximum((last - first).view(np.int32), 0)
    return base_us - age_ms.astype(np.int64) * 1000, span_ms.astype(np.int64) * 1000


def settle(
    columns: dict[str, Array], part: slice, end: Array, duration: Array, base_us: Array, counts: Counter[str]
) -> None:
    """Write the times of `part`; a flow that ends over a second after its export is moved back to it, whole."""
    ahead = end > base_us + SLACK_US
    if ahead.any():
        counts["clamped_times"] += int(ahead.sum())
        end = np.where(ahead, base_us, end)
    columns["ts_end"][part], columns["duration_us"][part] = end, duration
    np.subtract(end, duration, out=columns["ts_start"][part])
