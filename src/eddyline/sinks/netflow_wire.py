"""Flow tables to NetFlow v9 (RFC 3954), IPFIX (RFC 7011) and v5 datagrams. Pure; no step is taken per flow.

Times travel as device uptime (fields 21 and 22) against a header whose clock is the flows' own, in IPFIX as they are: a
simulated time arrives as it is, to the millisecond. Labels never travel.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

MTU_BYTES: Final = 1464  # of UDP content: fits Ethernet with room for a tunnel header
TEMPLATE_EVERY: Final = 20  # datagrams; a collector that starts late waits this long
_V5_RECORDS: Final = 30
_LONGEST_MS: Final = (1 << 31) - 1  # the longest span that a 32-bit uptime can say
_MAPPED: Final = b"\0" * 10 + b"\xff\xff"

Array = NDArray[Any]

_Cut = tuple[int, int, int]  # number, first flow, after the last flow
_Field = tuple[int, int, str]  # enterprise << 16 | element, width, column
_R: Final = 29305 << 16  # the reverse direction of IANA's elements (RFC 5103)
_ENDS: Final = {False: ((8, 4, "src_addr"), (12, 4, "dst_addr")), True: ((27, 16, "src_addr"), (28, 16, "dst_addr"))}
_COMMON: Final = (
    (7, 2, "src_port"), (11, 2, "dst_port"), (4, 1, "proto"), (6, 1, "tcp_flags"), (5, 1, "tos"),
    (136, 1, "end_reason"), (32, 2, "icmp"), (60, 1, "version"), (61, 1, "direction"),
    (34, 4, "sampling_rate"), (22, 4, "first"), (21, 4, "last"), (1, 8, "bytes"), (2, 8, "packets"),
)  # fmt: skip
_COMMON_IPFIX: Final = (
    (7, 2, "src_port"), (11, 2, "dst_port"), (4, 1, "proto"), (6, 2, "tcp_flags"), (5, 1, "tos"),
    (136, 1, "end_reason"), (60, 1, "version"), (34, 4, "sampling_rate"), (152, 8, "start_ms"), (153, 8, "end_ms"),
    (1, 8, "bytes"), (2, 8, "packets"),
)  # fmt: skip
_ICMP_IPFIX: Final = {False: ((32, 2, "icmp"),), True: ((139, 2, "icmp"),)}
# The reverse half only where the flow is two-way: null is not 0.
_REVERSE: Final = ((23, 8, "rev_bytes"), (24, 8, "rev_packets"))
_REVERSE_IPFIX: Final = ((_R | 1, 8, "rev_bytes"), (_R | 2, 8, "rev_packets"))
_REVERSE_FLAGS: Final = ((_R | 6, 2, "rev_tcp_flags"),)  # before the others: nfdump 1.7.1 keeps the flags it reads last
TEMPLATES: Final[dict[int, dict[int, tuple[_Field, ...]]]] = {
    9: {
        256 + 2 * wide + two_way: _ENDS[wide] + _COMMON + (_REVERSE if two_way else ())
        for wide in (False, True)
        for two_way in (False, True)
    },
    10: {
        256 + 2 * wide + two_way: (_REVERSE_FLAGS if two_way else ())
        + _ENDS[wide]
        + _COMMON_IPFIX
        + _ICMP_IPFIX[wide]
        + (_REVERSE_IPFIX if two_way else ())
        for wide in (False, True)
        for two_way in (False, True)
    },
}  # by version
_TYPES: Final = {
    version: {
        template: np.dtype([(name, "V16" if width == 16 else f">u{width}") for _, width, name in fields])
        for template, fields in templates.items()
    }
    for version, templates in TEMPLATES.items()
}
_V5_RECORD: Final = np.dtype(
    [("src_addr", ">u4"), ("dst_addr", ">u4"), ("routing", "V8"), ("packets", ">u4"), ("bytes", ">u4"),
     ("first", ">u4"), ("last", ">u4"), ("src_port", ">u2"), ("dst_port", ">u2"), ("pad1", "u1"), ("tcp_flags", "u1"),
     ("proto", "u1"), ("tos", "u1"), ("pad2", "V8")]
)  # fmt: skip


def exportable(table: pa.Table, version: int) -> tuple[pa.Table, Counter[str]]:
    """The flows that NetFlow `version` can carry, in order, and why how many others cannot.

    A flow needs two IP addresses and times from 1970 to 2106; v5 has no IPv6. v5 counters over 32 bits are sent as the
    largest that fits, and counted.
    """
    known = [_addresses(table, name) for name in ("src_addr", "dst_addr")]
    no_address = known[0][1] | known[1][1]
    ends = _numbers(table, "ts_end")  # a header counts seconds since 1970 in 32 bits, rounded up
    no_time = (ends < 0) | (ends > 0xFFFFFFFF * 1_000_000)
    no_time |= pc.is_null(table["ts_start"]).to_numpy() | pc.is_null(table["ts_end"]).to_numpy()
    ipv6 = (known[0][2] | known[1][2]) & (version == 5)
    counts = Counter({
        "without_address": int(no_address.sum()),
        "without_time": int((no_time & ~no_address).sum()),
        "ipv6_in_v5": int((ipv6 & ~no_address & ~no_time).sum()),
    })  # fmt: skip
    keep = ~(no_address | no_time | ipv6)
    flows = table if keep.all() else table.filter(pa.array(keep))
    if version == 5:
        large = (_numbers(flows, "bytes") >> np.uint64(32)) | (_numbers(flows, "packets") >> np.uint64(32))
        counts["saturated_in_v5"] = int((large > 0).sum())
    return flows, +counts


def encode_v9(
    table: pa.Table, sequence: int, boot_us: int, source_id: int = 0, template_every: int = TEMPLATE_EVERY
) -> list[bytes]:
    """NetFlow v9 (RFC 3954) datagrams of at most MTU_BYTES for flows that are `exportable`, in their order.

    Within one datagram the flows are grouped by template: IPv4 or IPv6, two-way or one-way. All templates are in each
    datagram whose sequence divides by `template_every`. Counters have 8 bytes, TCP flags 1.

    Args:
        sequence: number of the first datagram.
        boot_us: when the exporter's uptime was 0; spans over 24.8 days count as that.
        source_id: observation domain.
    """
    columns = _columns(table, boot_us)
    columns["tcp_flags"] = columns["tcp_flags"] & 0xFF
    datagrams = []
    for number, start, stop, templates, sets in _sets(columns, 9, sequence, template_every):
        export_s = _export_s(columns["ts_end"][start:stop])
        uptime = (export_s * 1000 - boot_us // 1000) & 0xFFFFFFFF
        head = (9, stop - start + templates, uptime, export_s, number & 0xFFFFFFFF, source_id)
        datagrams.append(struct.pack(">HHIIII", *head) + sets)
    return datagrams


def encode_ipfix(
    table: pa.Table, sequence: int, number: int, domain: int = 0, template_every: int = TEMPLATE_EVERY
) -> list[bytes]:
    """IPFIX (RFC 7011) messages of at most MTU_BYTES for flows that are `exportable`, in their order.

    The same as `encode_v9`, but two-way flows are biflows (RFC 5103), TCP flags have 2 bytes, times are absolute.

    Args:
        sequence: flows sent before; templates are not counted.
        number: messages sent before; all templates are in each message whose number divides by `template_every`.
        domain: observation domain.
    """
    columns = _columns(table, 0)
    messages = []
    for _, start, stop, _, sets in _sets(columns, 10, number, template_every):
        export_s = _export_s(columns["ts_end"][start:stop])
        head = (10, 16 + len(sets), export_s, (sequence + start) & 0xFFFFFFFF, domain)
        messages.append(struct.pack(">HHIII", *head) + sets)
    return messages


def _sets(
    columns: dict[str, Array], version: int, number: int, template_every: int
) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(number, first flow, after the last flow, templates, all sets) of each datagram."""
    types = _TYPES[version]
    kinds = 256 + 2 * columns["wide"] + columns["two_way"]
    parts = {template: _rows(columns, kinds == template, type_) for template, type_ in types.items()}
    before = {template: np.concatenate([[0], np.cumsum(kinds == template)]) for template in types}
    widths = np.select([kinds == template for template in types], [type_.itemsize for type_ in types.values()])
    templates = _template_set(version)
    heads = 20 + sum(4 + 3 * (type_.itemsize % 4 > 0) for type_ in types.values())  # and padding, at most
    for current, start, stop in _cuts(np.cumsum(widths), number, template_every, len(templates), MTU_BYTES - heads):
        sets = [templates] if current % template_every == 0 else []
        for template, records in parts.items():
            body = records[before[template][start] : before[template][stop]].tobytes()
            if body:
                body += bytes(-len(body) % 4)
                sets.append(struct.pack(">HH", template, 4 + len(body)) + body)
        yield current, start, stop, len(types) * (sets[0] is templates), b"".join(sets)


def encode_v5(table: pa.Table, sequence: int, boot_us: int, engine: int = 0) -> list[bytes]:
    """NetFlow v5 datagrams of up to 30 flows, for flows `exportable` in version 5. The reverse half does not travel.

    Args:
        sequence: flows sent before.
        boot_us: when the exporter's uptime was 0.
        engine: type and number, 16 bits.
    """
    columns = _columns(table, boot_us)
    columns["tcp_flags"] = columns["tcp_flags"] & 0xFF
    columns["dst_port"] = np.where(np.isin(columns["proto"], (1, 58)), columns["icmp"], columns["dst_port"])
    columns |= {name: np.minimum(columns[name], 0xFFFFFFFF) for name in ("bytes", "packets")}
    records = _rows(columns, np.ones(table.num_rows, bool), _V5_RECORD)
    datagrams = []
    for start in range(0, len(records), _V5_RECORDS):
        part = slice(start, start + _V5_RECORDS)
        export_s, rates = _export_s(columns["ts_end"][part]), columns["sampling_rate"][part]
        uptime = (export_s * 1000 - boot_us // 1000) & 0xFFFFFFFF
        rate = int(rates[0]) if (rates == rates[0]).all() and rates[0] < 1 << 14 else 0
        head = (5, len(rates), uptime, export_s, 0, (sequence + start) & 0xFFFFFFFF, engine & 0xFFFF, rate)
        datagrams.append(struct.pack(">HHIIIIHH", *head) + records[part].tobytes())
    return datagrams


def _export_s(ts_end: Array) -> int:
    """The event time of one datagram: its latest flow, rounded up to a second."""
    return -int(-ts_end.max() // 1_000_000)


def _template_set(version: int) -> bytes:
    body = b"".join(
        struct.pack(">HH", template, len(fields)) + b"".join(_specification(ie, width) for ie, width, _ in fields)
        for template, fields in TEMPLATES[version].items()
    )
    return struct.pack(">HH", 0 if version == 9 else 2, 4 + len(body)) + body


def _specification(ie: int, width: int) -> bytes:
    enterprise, element = divmod(ie, 1 << 16)
    return (
        struct.pack(">HHI", element | 0x8000, width, enterprise) if enterprise else struct.pack(">HH", element, width)
    )


def _cuts(ends: Array, sequence: int, template_every: int, template_bytes: int, most: int) -> Iterator[_Cut]:
    """Where each datagram ends; `ends` is the running sum of record bytes, of which it takes `most`."""
    start = used = 0
    while start < len(ends):
        room = most - (template_bytes if sequence % template_every == 0 else 0)
        stop = int(np.searchsorted(ends, used + room, side="right"))
        yield sequence, start, stop
        start, used, sequence = stop, int(ends[stop - 1]), sequence + 1


def _rows(columns: dict[str, Array], chosen: Array, type_: np.dtype[Any]) -> Array:
    """Wire records of the chosen flows; fields that no column has are zero."""
    records = np.zeros(int(chosen.sum()), type_)
    for name in type_.names or ():
        if name in columns:
            values = columns[name][chosen]
            narrow = name.endswith("_addr") and type_[name].itemsize == 4
            records[name] = values.view(">u4").reshape(-1, 4)[:, 3] if narrow else values
    return records


def _columns(table: pa.Table, boot_us: int) -> dict[str, Array]:
    """Every column of the wire as NumPy (E,): nulls 0, addresses 16 bytes, times as uptime in ms modulo 2^32."""
    names = ("src_port", "dst_port", "proto", "tcp_flags", "tos", "end_reason", "sampling_rate", "bytes", "packets",
             "rev_bytes", "rev_packets", "rev_tcp_flags")  # fmt: skip
    columns = {name: _numbers(table, name) for name in names}
    columns["icmp"] = _numbers(table, "icmp_type").astype(np.uint16) << 8 | _numbers(table, "icmp_code")
    columns["src_addr"], _, src_wide = _addresses(table, "src_addr")
    columns["dst_addr"], _, dst_wide = _addresses(table, "dst_addr")
    columns["wide"] = (src_wide | dst_wide).astype(np.int64)
    columns["version"] = np.where(columns["wide"], 6, 4)
    columns["two_way"] = (table["rev_bytes"].is_valid().to_numpy() | table["rev_packets"].is_valid().to_numpy()).astype(
        int
    )
    columns["ts_end"] = _numbers(table, "ts_end")
    end_ms, start_ms = columns["ts_end"] // 1000, _numbers(table, "ts_start") // 1000
    columns |= {"end_ms": end_ms, "start_ms": np.minimum(start_ms, end_ms)}
    columns["last"] = (end_ms - boot_us // 1000) & 0xFFFFFFFF
    columns["first"] = (columns["last"] - np.clip(end_ms - start_ms, 0, _LONGEST_MS)) & 0xFFFFFFFF
    return columns


def _numbers(table: pa.Table, name: str) -> Array:
    column = table[name]
    integers = column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
    numbers: Array = integers.fill_null(0).to_numpy()
    return numbers


def _addresses(table: pa.Table, name: str) -> tuple[Array, Array, Array]:
    """16 opaque bytes per flow, whether it is no address, and whether it is IPv6; each distinct text parsed once."""
    column = table[name].unify_dictionaries().combine_chunks()
    encoded = column.chunk(0) if isinstance(column, pa.ChunkedArray) and column.num_chunks else column
    if not len(encoded):
        return np.zeros(0, "V16"), np.zeros(0, bool), np.zeros(0, bool)
    packed = [_packed(text) for text in encoded.dictionary.to_pylist()]
    codes = encoded.indices.to_numpy()
    raw = np.frombuffer(b"".join([address or bytes(16) for address in packed]), "V16")
    missing = np.array([not address for address in packed])
    wide = np.array([bool(address) and not address.startswith(_MAPPED) for address in packed])
    return raw[codes], missing[codes], wide[codes]


@lru_cache(maxsize=1 << 17)
def _packed(text: str) -> bytes:
    """An address as 16 bytes, IPv4 mapped (RFC 4291); empty for text that is no address."""
    try:
        address: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        return b""
    return _MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed
