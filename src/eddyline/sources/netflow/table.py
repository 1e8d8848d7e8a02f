"""Decoded NetFlow columns as one Arrow table of flows: addresses as text, one dictionary a batch. Pure."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.flows import TIME, empty_flows, flow_table
from eddyline.sources.netflow.layouts import mapped
from eddyline.sources.netflow.v5 import Array, Decoded, Records

_COPIED = (
    "duration_us", "tcp_flags", "rev_tcp_flags", "bytes", "packets", "rev_bytes", "rev_packets", "tos", "sampling_rate"
)  # fmt: skip
_ICMP = (1, 58)
AHEAD_US = 5_000_000  # a flow cannot have ended after it was received; headers count whole seconds, clocks drift
_MAPPED = b"\0" * 10 + b"\xff\xff"


def flows_of(decoded: Decoded) -> pa.Table:
    """E rows of BATCH_SCHEMA in arrival order; a column that some layouts lack is null for their flows.

    ICMP type and code go to their own columns, from field 32 or from the destination port, where Cisco puts them.
    """
    records = [part for part in decoded.records if len(part)]
    rows = sum(len(part) for part in records)
    if not rows:
        return empty_flows()
    columns: dict[str, Any] = {name: _arrow(*_joined(records, name)) for name in _COPIED}
    columns |= _ends_and_ports(records)
    columns |= {name: pa.array(_everywhere(records, name)).view(TIME) for name in ("ts_start", "ts_end")}
    reason, unknown = _joined(records, "end_reason")
    if reason is not None:
        columns["end_reason"] = _arrow(reason, reason == 0 if unknown is None else unknown | (reason == 0))
    exporters = pa.array(list(decoded.exporters), pa.utf8())
    codes = pa.array(np.concatenate([part.exporter for part in records]))
    columns["exporter"] = pa.DictionaryArray.from_arrays(codes, exporters)
    table = flow_table({name: column for name, column in columns.items() if column is not None}, rows)
    if len(records) == 1:
        return table
    order = np.concatenate([part.order for part in records])
    return table.take(pa.array(np.argsort(order, kind="stable")))


def dated_by(table: pa.Table, now_us: int) -> tuple[pa.Table, int]:
    """The flows, those that end over AHEAD_US after `now_us` moved back to it, whole; and how many those are.

    Watermarks only rise: one datagram of a device whose clock is a day ahead would make the flows of all others late.
    Five seconds are half of what windows wait for stragglers by default.
    """
    if not table.num_rows or pc.max(table["ts_end"]).value <= now_us + AHEAD_US:
        return table, 0
    ends = table["ts_end"].cast(pa.int64()).to_numpy()
    shift = np.where(ends > now_us + AHEAD_US, ends - now_us, 0)
    for name in ("ts_start", "ts_end"):
        place = table.schema.get_field_index(name)
        moved = pa.array(table[name].cast(pa.int64()).to_numpy() - shift).view(TIME)
        table = table.set_column(place, table.schema.field(place), moved)
    return table, int(np.count_nonzero(shift))


def _joined(records: list[Records], name: str) -> tuple[Array | None, Array | None]:
    """The column over all records, and where it is null; None for either that is nowhere."""
    present = [name in part.columns for part in records]
    if not any(present):
        return None, None
    if len(records) == 1:
        return records[0].columns[name], None
    type_ = next(part.columns[name].dtype for part in records if name in part.columns)
    values = np.concatenate([part.columns.get(name, np.zeros(len(part), type_)) for part in records])
    if all(present):
        return values, None
    return values, np.repeat(np.logical_not(present), [len(part) for part in records])


def _everywhere(records: list[Records], name: str) -> Array:
    return records[0].columns[name] if len(records) == 1 else np.concatenate([part.columns[name] for part in records])


def _arrow(values: Array | None, null: Array | None) -> pa.Array | None:
    return None if values is None else pa.array(values, mask=null)


def _ends_and_ports(records: list[Records]) -> dict[str, pa.Array | None]:
    src_addr, dst_addr = _addresses(records)
    proto, no_proto = _joined(records, "proto")
    src_port, no_src = _joined(records, "src_port")
    dst_port, no_dst = _joined(records, "dst_port")
    columns = {"src_addr": src_addr, "dst_addr": dst_addr, "proto": _arrow(proto, no_proto)}
    icmp = None if proto is None else np.isin(proto, _ICMP)
    if icmp is not None and icmp.any():
        own, without = _joined(records, "icmp")
        folded = np.zeros(len(icmp), np.uint16) if dst_port is None else dst_port
        code = folded if own is None else np.where((own == 0) if without is None else without | (own == 0), folded, own)
        columns["icmp_type"] = _arrow((code >> 8).astype(np.uint8), ~icmp)
        columns["icmp_code"] = _arrow((code & 0xFF).astype(np.uint8), ~icmp)
        src_port, no_src = _no_ports(src_port, no_src, icmp)
        dst_port, no_dst = _no_ports(dst_port, no_dst, icmp)
    return columns | {"src_port": _arrow(src_port, no_src), "dst_port": _arrow(dst_port, no_dst)}


def _no_ports(port: Array | None, missing: Array | None, icmp: Array) -> tuple[Array, Array | None]:
    """Port 0 for ICMP, also where its template has no ports: null says that nobody knows."""
    if port is None:
        return np.zeros(len(icmp), np.uint16), ~icmp
    return np.where(icmp, np.uint16(0), port), None if missing is None else missing & ~icmp


def _addresses(records: list[Records]) -> tuple[pa.Array, pa.Array]:
    """Senders and receivers over one shared dictionary; each distinct address is written as text once."""
    parts = [part.columns[name] for name in ("src_addr", "dst_addr") for part in records]
    if all(part.dtype == np.uint32 for part in parts):
        encoded = pa.array(np.concatenate(parts)).dictionary_encode()
        raw = encoded.dictionary.to_numpy().astype(">u4").tobytes()
        texts = [socket.inet_ntoa(raw[start : start + 4]) for start in range(0, len(raw), 4)]
    else:
        wide = np.concatenate([mapped(part) if part.dtype == np.uint32 else part for part in parts])
        packed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(wide), [None, pa.py_buffer(wide.tobytes())])
        encoded = packed.dictionary_encode()
        texts = [_text(address) for address in encoded.dictionary.to_pylist()]
    half = len(encoded) // 2
    names = pa.array(texts, pa.utf8())
    src, dst = encoded.indices[:half], encoded.indices[half:]
    return pa.DictionaryArray.from_arrays(src, names), pa.DictionaryArray.from_arrays(dst, names)


def _text(address: bytes) -> str:
    """Canonical text (RFC 5952) of 16 bytes; an IPv4-mapped address is the IPv4 address."""
    return socket.inet_ntoa(address[12:]) if address[:12] == _MAPPED else str(IPv6Address(address))
