"""Our NetFlow exporter: its bytes, its counts, and what nfdump makes of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eddyline.errors import ConfigError, SinkError
from eddyline.flows import TIME, flow_table
from eddyline.sinks.netflow import NetflowExporter, open_exporter
from eddyline.sinks.netflow_wire import MTU_BYTES, encode_ipfix, encode_v5, encode_v9, exportable
from eddyline.sources.netflow.decoder import Decoder
from tests.programs import nfdump_reads

START_S = 1_650_000_000
START_US = START_S * 1_000_000 + 123_000
BOOT_US = (START_S - 100) * 1_000_000


def table(**changes: Any) -> pa.Table:
    """TCP two-way, UDP one-way and large, IPv6 without reply, ICMP with reply."""
    columns = {
        "ts_start": pa.array([START_US, START_US + 5_000, START_US + 70_000, START_US], pa.int64()).view(TIME),
        "ts_end": pa.array(
            [START_US + 1_500_999, START_US + 5_000, START_US + 3_333_000, START_US + 9_000_000], pa.int64()
        ).view(TIME),
        "src_addr": ["10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.1"],
        "dst_addr": ["192.0.2.7", "192.0.2.8", "2001:db8::2", "192.0.2.9"],
        "src_port": [40_000, 53, 50_000, 0],
        "dst_port": [443, 5353, 22, 0],
        "proto": [6, 17, 6, 1],
        "bytes": [1234, 5_000_000_000, 77, 84],
        "packets": [10, 4_000_000, 1, 1],
        "rev_bytes": [99_999, None, 0, 84],
        "rev_packets": [20, None, 0, 1],
        "tcp_flags": [0x1B, None, 2, None],
        "icmp_type": [None, None, None, 8],
        "icmp_code": [None, None, None, 3],
        "tos": [8, 0, None, 0],
        "sampling_rate": [1, 1, 1, 1],
        "label": ["malicious", "benign", "benign", "benign"],
        "attack": ["exfiltration-marker", None, None, None],
    }
    return flow_table(columns | changes, 4)


def test_one_way_ipv4_flow_is_these_bytes() -> None:
    raw = encode_v9(table().slice(1, 1), sequence=3, boot_us=BOOT_US, source_id=9)[0]
    assert raw.hex(" ", 4) == bytes.fromhex(
        "0009 0001 00018a88 62590081 00000003 00000009"  # uptime 101 s: 128 ms after 1,650,000,000, rounded up
        "0100 0034 0a000002 c0000208 0035 14e9 11 00 00 00 0000 04 00 00000001 00018720 00018720"
        "000000012a05f200 00000000003d0900"
    ).hex(" ", 4)


def test_two_way_ipfix_flow_is_these_bytes() -> None:
    raw = encode_ipfix(table().slice(0, 1), sequence=3, number=1, domain=9)[0]
    assert raw.hex(" ", 4) == bytes.fromhex(
        "000a 0060 62590082 00000003 00000009"  # 1,650,000,001.624 s, rounded up
        "0101 0050 0000 0a000001 c0000207 9c40 01bb 06 001b 08 00 04 00000001"
        "000001802ba9f47b 000001802ba9fa57 00000000000004d2 000000000000000a 0000"
        "000000000001869f 0000000000000014 0000"  # and two bytes of padding
    ).hex(" ", 4)


def test_ipfix_messages_fit_the_mtu_count_flows_and_repeat_the_templates() -> None:
    many = pa.concat_tables([table()] * 400)
    messages = encode_ipfix(many, sequence=0xFFFFFFFE, number=3, template_every=5)
    assert max(map(len, messages)) <= MTU_BYTES
    assert min(map(len, messages[:-1])) > MTU_BYTES - 99 - 28 - 4
    assert all(int.from_bytes(raw[2:4], "big") == len(raw) for raw in messages)
    batch = Decoder().decode([("198.51.100.1", raw) for raw in messages])
    assert (len(batch), batch.rejected.num_rows) == (1600, 0)
    assert [raw[16:18] == b"\0\2" for raw in messages[:7]] == [False, False, True, False, False, False, False]
    decoder = Decoder()
    decoder.decode([("198.51.100.1", raw) for raw in messages[2:]])
    assert decoder.counters["sequence_gaps"] == 0


def test_v5_flows_are_these_bytes_and_icmp_goes_into_the_port() -> None:
    flows, _ = exportable(table().slice(3, 1), 5)
    assert encode_v5(flows, sequence=7, boot_us=BOOT_US, engine=0x0102)[0] == bytes.fromhex(
        "0005 0001 0001adb0 6259008a 00000000 00000007 0102 0001"
        "0a000001 c0000209 00000000 00000000 00000001 00000054 0001871b 0001aa43 0000 0803 00000100 00000000 00000000"
    )


def test_null_and_zero_reverse_counters_use_different_templates() -> None:
    raw = encode_v9(table(), sequence=1, boot_us=BOOT_US)[0]
    sets, offset = [], 20
    while offset < len(raw):
        sets.append(
            (int.from_bytes(raw[offset : offset + 2], "big"), int.from_bytes(raw[offset + 2 : offset + 4], "big"))
        )
        offset += sets[-1][1]
    assert sets == [(256, 4 + 48), (257, 4 + 2 * 64), (259, 4 + 88)]  # one-way; two-way twice; IPv6 two-way


def test_datagrams_fit_the_mtu_are_numbered_and_repeat_the_templates() -> None:
    many = pa.concat_tables([table()] * 400)
    datagrams = encode_v9(many, sequence=0xFFFFFFFE, boot_us=BOOT_US, template_every=5)
    assert max(map(len, datagrams)) <= MTU_BYTES
    assert min(map(len, datagrams[:-1])) > MTU_BYTES - 88 - 16
    numbers = [0xFFFFFFFE + n for n in range(len(datagrams))]
    assert [int.from_bytes(raw[12:16], "big") for raw in datagrams] == [number & 0xFFFFFFFF for number in numbers]
    assert [raw[20:22] == b"\0\0" for raw in datagrams] == [number % 5 == 0 for number in numbers]
    records = sum(int.from_bytes(raw[2:4], "big") for raw in datagrams)
    assert records == 1600 + 4 * sum(number % 5 == 0 for number in numbers)


def test_labels_never_travel() -> None:
    marked, plain = table(), table(label=[None] * 4, attack=[None] * 4)
    assert encode_v9(marked, 0, BOOT_US) == encode_v9(plain, 0, BOOT_US)
    assert b"marker" not in b"".join(encode_v9(marked, 0, BOOT_US))


def test_what_v5_cannot_carry_is_left_out_and_counted() -> None:
    flows, counts = exportable(table(), 5)
    assert flows["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert counts == {"ipv6_in_v5": 1, "saturated_in_v5": 1}


def test_flows_without_address_or_time_are_left_out_and_counted() -> None:
    times = pa.array([None, START_US, START_US, START_US], pa.int64()).view(TIME)
    flows, counts = exportable(table(src_addr=["10.0.0.1", "workstation", "::1", "10.0.0.1"], ts_end=times), 9)
    assert flows["src_addr"].to_pylist() == ["::1", "10.0.0.1"]
    assert counts == {"without_address": 1, "without_time": 1}


def test_a_chunked_table_with_different_dictionaries_is_sent_as_one() -> None:
    halves = pa.concat_tables(
        [table().slice(0, 2), table(src_addr=["10.9.9.9", "10.0.0.1", "10.0.0.2", "::1"]).slice(2, 2)]
    )
    whole = table(src_addr=["10.0.0.1", "10.0.0.2", "10.0.0.2", "::1"])
    assert encode_v9(halves, 0, BOOT_US) == encode_v9(whole, 0, BOOT_US)


def test_an_empty_table_is_no_datagram() -> None:
    assert encode_v9(table().slice(0, 0), 0, BOOT_US) == encode_v5(table().slice(0, 0), 0, BOOT_US) == []


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.bind(("127.0.0.1", 0))
        end.settimeout(5)
        yield end, end.getsockname()[1]


def test_sending_goes_on_with_its_sequence_and_returns_the_flows_sent() -> None:
    with listening() as (end, port):
        exporter = open_exporter(f"netflow://127.0.0.1:{port}?version=5&source_id=3")
        assert [exporter.send(table()), exporter.send(table()), exporter.send(table().slice(2, 1))] == [3, 3, 0]
        exporter.close()
        raws = [end.recv(2000), end.recv(2000)]
    assert [int.from_bytes(raw[16:20], "big") for raw in raws] == [0, 3]
    assert exporter.counters == {"flows": 6, "datagrams": 2, "ipv6_in_v5": 3, "saturated_in_v5": 2}


def test_ipfix_goes_on_with_its_sequence_and_its_templates() -> None:
    with listening() as (end, port):
        exporter = open_exporter(f"netflow://127.0.0.1:{port}?version=10&source_id=3")
        assert [exporter.send(table()), exporter.send(table().slice(0, 2))] == [4, 2]
        exporter.close()
        raws = [end.recv(2000), end.recv(2000)]
    assert [int.from_bytes(raw[8:12], "big") for raw in raws] == [0, 4]
    assert [raw[16:18] for raw in raws] == [b"\0\2", b"\1\0"]


def test_sending_keeps_to_its_rate() -> None:
    with listening() as (_, port):
        exporter = NetflowExporter("127.0.0.1", port, packets_per_second=500)
        many = pa.concat_tables([table()] * 600)
        began = time.monotonic()
        assert exporter.send(many) == 2400
        took = time.monotonic() - began
        exporter.close()
    datagrams = exporter.counters["datagrams"]
    assert datagrams > 100
    assert took > (datagrams - 40) / 500  # the first 32 may leave at once


def test_a_network_that_refuses_says_what_was_not_sent() -> None:
    exporter = NetflowExporter("255.255.255.255", 9)  # broadcast is not allowed
    with pytest.raises(SinkError, match=r"1 of 1 datagrams to 255.255.255.255:9 not sent"):
        exporter.send(table())
    exporter.close()


@pytest.mark.parametrize(
    "url",
    ["netflow://:2055", "netflow://127.0.0.1:x", "netflow://127.0.0.1:1?version=8", "netflow://127.0.0.1:1?speed=2",
     "netflow://127.0.0.1:1?version=nine", "netflow://127.0.0.1:1?source_id=-1",
     "netflow://127.0.0.1:1?source_id=4294967296", "netflow://127.0.0.1:1?version=5&source_id=65536",
     "kafka://127.0.0.1:1", "netflow://127.0.0.1:1?packets_per_second=0",
     "netflow://no-such-host.invalid:1"],
)  # fmt: skip
def test_a_url_that_cannot_work_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="netflow exporter"):
        open_exporter(url)


def exported(version: int, flows: pa.Table) -> Callable[[int], None]:
    def send(port: int) -> None:
        exporter = NetflowExporter("127.0.0.1", port, version)
        exporter.send(flows)
        exporter.close()

    return send


def milliseconds(time: datetime) -> str:
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")


def same(row: dict[str, Any], read: dict[str, Any], reverse: bool) -> None:
    family = "src6_addr" if ":" in row["src_addr"] else "src4_addr"
    assert (read[family], read[family.replace("src", "dst")]) == (row["src_addr"], row["dst_addr"])
    assert (read["first"], read["last"]) == (milliseconds(row["ts_start"]), milliseconds(row["ts_end"]))
    assert (read["proto"], read["in_bytes"], read["in_packets"]) == (row["proto"], row["bytes"], row["packets"])
    assert read["src_tos"] == (row["tos"] or 0)
    if row["proto"] == 1:
        assert (read["icmp_type"], read["icmp_code"]) == (row["icmp_type"], row["icmp_code"])
    else:
        assert (read["src_port"], read["dst_port"]) == (row["src_port"], row["dst_port"])
    assert (read.get("out_bytes"), read.get("out_packets")) == (
        (row["rev_bytes"], row["rev_packets"]) if reverse else (None, None)
    )
    if row["proto"] == 6:
        assert read["tcp_flags"] == {0x1B: "...AP.SF", 2: "......S."}[row["tcp_flags"]]


@pytest.mark.parametrize("version", [9, 10])
def test_nfdump_reads_our_v9_and_ipfix_flow_for_flow(version: int, tmp_path: Path) -> None:
    many = pa.concat_tables([table()] * 30)
    read = nfdump_reads(exported(version, many), tmp_path)
    assert len(read) == 120
    by_bytes = {flow["in_bytes"]: flow for flow in read}
    assert sorted(flow["in_bytes"] for flow in read) == sorted(many["bytes"].to_pylist())
    for row in table().to_pylist():
        same(row, by_bytes[row["bytes"]], reverse=True)


def test_nfdump_reads_our_v5_flow_for_flow(tmp_path: Path) -> None:
    flows = table(bytes=[1234, 0xFFFFFFFF, 77, 84])
    read = nfdump_reads(exported(5, flows), tmp_path)
    for row, flow in zip([row for row in flows.to_pylist() if ":" not in row["src_addr"]], read, strict=True):
        same(row, flow, reverse=False)
