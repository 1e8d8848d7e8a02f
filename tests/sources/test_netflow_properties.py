"""NetFlow: what our exporter writes our decoder reads, and no bytes can hurt it."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.flows import TIME, flow_table
from eddyline.sinks.netflow_wire import MTU_BYTES, encode_ipfix, encode_v5, encode_v9
from eddyline.sources.netflow.decoder import Decoder
from tests.sources.netflow_bytes import EXPORT_S, v5, v5_record

E = "198.51.100.1"
ICMP = (1, 58)
NOW_US = EXPORT_S * 1_000_000
BOOT_US = NOW_US - 86_400_000_000

hosts = st.sampled_from(["10.0.0.1", "10.0.0.2", "255.255.255.255", "2001:db8::1", "::", "fe80::1:2"]) | (
    st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None).map(str)  # those come back as IPv4
)
old_hosts = st.ip_addresses(v=4).map(str)
u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))


def flows(version: int) -> st.SearchStrategy[list[dict[str, Any]]]:
    ends, counter = (hosts | old_hosts, u64) if version != 5 else (old_hosts, u32)
    flow = st.fixed_dictionaries({
        "start_ms": st.integers(0, 50_000_000), "span_ms": st.integers(0, 40_000_000), "src": ends, "dst": ends,
        "sport": u16, "dport": u16, "proto": u8, "flags": u8, "tos": u8, "bytes": counter, "packets": counter,
        "reverse": st.none() | st.tuples(u64, u64), "icmp": st.tuples(u8, u8),
        "reason": st.none() | st.integers(1, 255),
    })  # fmt: skip
    return st.lists(flow, max_size=80)


def table_of(found: list[dict[str, Any]]) -> pa.Table:
    start = [BOOT_US + flow["start_ms"] * 1000 for flow in found]
    end = [begin + flow["span_ms"] * 1000 for begin, flow in zip(start, found, strict=True)]
    icmp = [flow["icmp"] if flow["proto"] in ICMP else (None, None) for flow in found]
    port = lambda name: pa.array([0 if flow["proto"] in ICMP else flow[name] for flow in found], pa.uint16())  # noqa: E731
    reverse = lambda place: [flow["reverse"] and flow["reverse"][place] for flow in found]  # noqa: E731
    return flow_table(
        {
            "ts_start": pa.array(start, pa.int64()).view(TIME),
            "ts_end": pa.array(end, pa.int64()).view(TIME),
            "duration_us": pa.array([flow["span_ms"] * 1000 for flow in found], pa.int64()),
            "src_addr": pa.array([flow["src"] for flow in found], pa.utf8()),
            "dst_addr": pa.array([flow["dst"] for flow in found], pa.utf8()),
            "src_port": port("sport"),
            "dst_port": port("dport"),
            "proto": pa.array([flow["proto"] for flow in found], pa.uint8()),
            "tcp_flags": pa.array([flow["flags"] for flow in found], pa.uint16()),
            "tos": pa.array([flow["tos"] for flow in found], pa.uint8()),
            "bytes": pa.array([flow["bytes"] for flow in found], pa.uint64()),
            "packets": pa.array([flow["packets"] for flow in found], pa.uint64()),
            "rev_bytes": pa.array(reverse(0), pa.uint64()),
            "rev_packets": pa.array(reverse(1), pa.uint64()),
            "icmp_type": pa.array([kind for kind, _ in icmp], pa.uint8()),
            "icmp_code": pa.array([code for _, code in icmp], pa.uint8()),
            "end_reason": pa.array([flow["reason"] for flow in found], pa.uint8()),
            "sampling_rate": pa.array([1] * len(found), pa.uint32()),
        },
        len(found),
    )


def rows(table: pa.Table, without: tuple[str, ...] = ()) -> list[str]:
    """Flows as text, sorted: within one datagram they are grouped by template."""
    return sorted(map(str, table.drop_columns(["exporter", *without]).to_pylist()))


@settings(max_examples=40, deadline=None)
@given(flows(9))
def test_v9_gives_back_every_flow_to_the_millisecond(found: list[dict[str, Any]]) -> None:
    table = table_of(found)
    datagrams = encode_v9(table, 0, BOOT_US)
    batch = Decoder().decode([(E, raw) for raw in datagrams])
    assert max(map(len, datagrams), default=0) <= MTU_BYTES
    assert batch.rejected.num_rows == 0
    assert rows(batch.table) == rows(table)


@settings(max_examples=40, deadline=None)
@given(flows(10))
def test_ipfix_gives_back_every_flow_to_the_millisecond(found: list[dict[str, Any]]) -> None:
    table = table_of(found)
    datagrams = encode_ipfix(table, 0, 0)
    batch = Decoder().decode([(E, raw) for raw in datagrams])
    assert max(map(len, datagrams), default=0) <= MTU_BYTES
    assert batch.rejected.num_rows == 0
    two_way = [None if flow["reverse"] is None else 0 for flow in found]
    place = table.schema.get_field_index("rev_tcp_flags")
    assert rows(batch.table) == rows(table.set_column(place, table.schema.field(place), pa.array(two_way, pa.uint16())))


@settings(max_examples=25, deadline=None)
@given(flows(5))
def test_v5_gives_back_every_flow_but_its_reverse_half(found: list[dict[str, Any]]) -> None:
    table = table_of(found)
    batch = Decoder().decode([(E, raw) for raw in encode_v5(table, 0, BOOT_US)])
    reverse = ("rev_bytes", "rev_packets", "end_reason")
    assert batch.rejected.num_rows == 0
    assert rows(batch.table, reverse) == rows(table, reverse)
    assert batch.table["src_port"].to_pylist() == table["src_port"].to_pylist()  # and in their order


prefixes = st.sampled_from([b"", b"\0\5", b"\0\x09", b"\0\x09" + bytes(18), b"\0\x0a", b"\0\5\0\1"])
sets = st.tuples(st.sampled_from([0, 1, 2, 256, 257]), st.binary(max_size=60)).map(
    lambda pair: struct.pack(">HH", pair[0], 4 + len(pair[1])) + pair[1]
)
hostile = st.builds(lambda head, tail: head + tail, prefixes, st.binary(max_size=100)) | st.lists(sets, max_size=5).map(
    lambda found: b"\0\x09" + bytes(18) + b"".join(found)
)


@settings(max_examples=150, deadline=None)
@given(st.lists(hostile, max_size=6))
def test_arbitrary_bytes_never_raise_and_each_v5_or_foreign_datagram_is_flows_or_rejected(raws: list[bytes]) -> None:
    decoder = Decoder()
    batch = decoder.decode([(E, raw) for raw in raws], last=True)
    counts = [_v5_flows(raw) for raw in raws]
    rejected = batch.rejected["raw"].to_pylist()
    assert set(rejected) <= set(raws)
    for raw, count in zip(raws, counts, strict=True):
        assert raw[:2] == b"\0\x09" or (raw in rejected) == (count == 0)
    assert len(batch) >= sum(counts)
    assert decoder.counters["datagrams"] == len(raws)


KINDS = [("10.0.0.1", None), ("10.0.0.3", (1, 1)), ("2001:db8::1", None), ("::2", (0, 0))]  # one of each template
FLOWS = table_of([
    {"start_ms": 5, "span_ms": n, "src": src, "dst": "10.0.0.2", "sport": 1, "dport": 2, "proto": 6, "flags": 2,
     "tos": 0, "bytes": 9, "packets": 1, "reverse": reverse, "icmp": (0, 0), "reason": None}
    for n, (src, reverse) in enumerate(KINDS * 2)
])  # fmt: skip
TAUGHT = encode_v9(FLOWS, 0, BOOT_US)  # sequence 0: with the templates
VALID = encode_v9(FLOWS, 1, BOOT_US)[0]  # sequence 1: without the templates
WIDTHS = {256: 48, 257: 64, 258: 72, 259: 88}


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), u8), min_size=1, max_size=4), st.integers(0, len(VALID)))
def test_mutated_v9_datagrams_never_raise_and_are_read_in_full_or_rejected(
    changes: list[tuple[int, int]], length: int
) -> None:
    decoder = Decoder()
    assert len(decoder.decode([(E, raw) for raw in TAUGHT])) == 8
    raw = bytearray(VALID[:length] if length % 3 == 0 else VALID)
    for place, value in changes:
        if place < len(raw):
            raw[place] = value
    batch = decoder.decode([(E, bytes(raw))], last=True)
    if batch.rejected.num_rows:
        assert batch.rejected["raw"].to_pylist() == [bytes(raw)]
    else:
        expected = _v9_flows(raw) if raw[:2] == b"\0\x09" else _v5_flows(raw)
        assert expected is None or len(batch) == expected
    assert len(decoder.decode([(E, VALID)])) == 8 or _defines(raw)  # nothing but a template changes what comes later


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 119), u8), min_size=1, max_size=4))
def test_mutated_v5_datagrams_never_raise_and_are_read_in_full_or_rejected(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(v5([v5_record("10.0.0.1", "10.0.0.2", 1, 2, 6, 1, 40, 90_000, 95_000)] * 2))
    for place, value in changes:
        raw[place] = value
    batch = Decoder().decode([(E, bytes(raw))], last=True)
    assert (len(batch), batch.rejected.num_rows) == ((2, 0) if raw[:4] == b"\0\5\0\2" else (0, 1))


def _v5_flows(raw: bytes | bytearray) -> int:
    count = int.from_bytes(raw[2:4], "big")
    return count if raw[:2] == b"\0\5" and len(raw) == 24 + 48 * count else 0


def _v9_flows(raw: bytes | bytearray) -> int | None:
    """Flows by the set headers alone; None where the datagram has templates of its own."""
    offset, total = 20, 0
    while offset < len(raw):
        set_id, length = struct.unpack_from(">HH", raw, offset)
        if set_id < 2:
            return None
        total += (length - 4) // WIDTHS[set_id]
        offset += length
    return total


def _defines(raw: bytes | bytearray) -> bool:
    offset = 20
    while offset + 4 <= len(raw):
        set_id, length = struct.unpack_from(">HH", raw, offset)
        if set_id < 2:
            return True
        offset += max(length, 4)
    return False
