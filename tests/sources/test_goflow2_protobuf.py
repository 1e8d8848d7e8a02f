"""goflow2's protobuf: bytes by hand, whatever an encoder writes comes back, and no bytes can hurt."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.dialects import DIALECTS, load_dialect
from eddyline.sources.kafka.protobuf import protobuf_columns
from eddyline.sources.kafka.records import Decoder, Record

# bytes = 300 (field 9: 48 ac02), proto = 6 (field 20: a001 06), src_addr = 10.0.0.1 (field 6: 32 04 0a000001)
BY_HAND = bytes.fromhex("48ac02a0010632040a000001")
NUMBERS = {
    "sampling_rate": 3, "bytes": 9, "packets": 10, "proto": 20, "src_port": 21, "dst_port": 22, "ip_tos": 23,
    "tcp_flags": 26, "etype": 30, "icmp_type": 31, "icmp_code": 32, "observation_domain_id": 70,
    "time_received_ns": 110, "time_flow_start_ns": 111, "time_flow_end_ns": 112,
}  # fmt: skip
ADDRESSES = {"src_addr": 6, "dst_addr": 7, "sampler_address": 11}


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def message(fields: dict[str, Any], more: bytes = b"") -> bytes:
    out = more
    for name, value in fields.items():
        if name in NUMBERS:
            out += varint(NUMBERS[name] << 3) + varint(value)
        else:
            raw = ip_address(value).packed
            out += varint(ADDRESSES[name] << 3 | 2) + varint(len(raw)) + raw
    return out


def delimited(raw: bytes) -> bytes:
    return varint(len(raw)) + raw


@pytest.mark.parametrize("value", [BY_HAND, b"\x0c" + BY_HAND], ids=["plain", "delimited"])
def test_a_message_by_hand_with_and_without_its_length(value: bytes) -> None:
    table, good = protobuf_columns([value])
    assert good.tolist() == [True]
    (row,) = table.to_pylist()
    assert (row["bytes"], row["proto"], row["src_addr"], row["dst_addr"], row["packets"]) == (
        300, 6, "10.0.0.1", None, 0,
    )  # fmt: skip


addresses = st.ip_addresses().map(str)
fields = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(NUMBERS, st.integers(0, 2**64 - 1)), **dict.fromkeys(ADDRESSES, addresses)}
)
unknown = st.sampled_from([
    b"", varint(14 << 3) + b"\x01", varint(100 << 3 | 2) + b"\x03abc", varint(999 << 3 | 1) + bytes(8),
    varint(2 << 3 | 5) + bytes(4),
])  # fmt: skip


def test_a_message_whose_first_tag_looks_like_its_length_is_read() -> None:
    raw = message({"sampling_rate": 128, "bytes": 2**28, "proto": 128, "src_port": 128}, varint(2 << 3 | 5) + bytes(4))
    assert raw[0] == len(raw) - 1
    table, good = protobuf_columns([raw])
    assert good.tolist() == [True]
    assert table["bytes"].to_pylist() == [2**28]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(fields, unknown, st.booleans()), max_size=8))
def test_whatever_is_written_comes_back(written: list[tuple[dict[str, Any], bytes, bool]]) -> None:
    raws = [message(found, more) for found, more, _ in written]
    # a message whose first tag is also the length of the rest may be read either way: those carry their length
    values = [
        delimited(raw) if prefix or raw[:1] == bytes([max(len(raw) - 1, 0) & 255]) else raw
        for raw, (_, _, prefix) in zip(raws, written, strict=True)
    ]
    table, good = protobuf_columns(values)
    full = [bool(raw) for raw in raws]
    assert good.tolist() == full
    expected = [
        {**dict.fromkeys(NUMBERS, 0), **dict.fromkeys(ADDRESSES), **found}
        for (found, _, _), is_full in zip(written, full, strict=True)
        if is_full
    ]
    assert table.to_pylist() == expected


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6))
def test_no_bytes_hurt_and_each_value_is_read_or_not(values: list[bytes]) -> None:
    table, good = protobuf_columns(values)
    assert table.num_rows == good.sum()
    assert len(good) == len(values)


@pytest.mark.parametrize(
    "raw",
    [
        b"", BY_HAND[:-1], b"\x48", b"\x48" + b"\xff" * 11, b"\x00\x01", b"\x4b",
        b"\x32\xff\xff\xff\xff\x0f" + bytes(9),
        varint(6 << 3 | 2) + varint(2**64 - 1), varint(9 << 3 | 1) + bytes(7),
    ],
)  # fmt: skip
def test_a_message_that_is_cut_or_wrong_is_not_read(raw: bytes) -> None:
    assert protobuf_columns([raw, BY_HAND])[1].tolist() == [False, True]


@pytest.mark.skipif("goflow2" not in DIALECTS, reason="there is no dialect `goflow2` yet")
def test_messages_become_flows_and_bad_ones_keep_their_place() -> None:
    start = 1_767_600_000_000_000_000
    flow = {
        "src_addr": "10.0.0.1", "dst_addr": "2001:db8::1", "bytes": 300, "packets": 3, "proto": 6, "src_port": 50_000,
        "dst_port": 443, "time_flow_start_ns": start, "time_flow_end_ns": start + 10**9,
        "time_received_ns": start + 10**9,
        "etype": 0x86DD, "sampling_rate": 1, "sampler_address": "192.0.2.1",
    }  # fmt: skip
    decoder = Decoder(load_dialect("goflow2"), None, "flows/0")
    values = [delimited(message(flow)), b"noise", message({**flow, "bytes": 301})]
    found, rejected = decoder.protobuf([Record(5 + at, value) for at, value in enumerate(values)])
    assert found["bytes"].to_pylist() == [300, 301]
    assert found["src_addr"].to_pylist() == ["10.0.0.1"] * 2
    assert found["duration_us"].to_pylist() == [1_000_000] * 2
    assert [(one["source_row"], one["raw"]) for one in rejected.to_pylist()] == [(6, b"noise")]
