"""NetFlow v5: every answer is read off the bytes by hand."""

from __future__ import annotations

import struct

import pytest

from eddyline.sources.netflow.decoder import Decoder
from tests.sources.netflow_bytes import EXPORT_S, export, v5, v5_record

GOLDEN = bytes.fromhex(
    "0005 0003 000186a0 6553f100 1dcd6500 00000000 0102 400a"  # 3 records, uptime 100 s, .5 s, engine 1/2, 1 in 10
    "0a000001 c0000207 00000000 0001 0002 0000000a 000004d2 00014c08 00017700 9c40 01bb 00 1b 06 08 0000 000000000000"
    "0a000002 c0000208 00000000 0001 0002 00000001 00000054 00018000 00018000 0000 0803 00 00 01 00 0000 000000000000"
    "c0000207 0a000001 00000000 0002 0001 ffffffff fffffffe 00000000 000186a0 01bb 9c40 00 12 06 00 0000 000000000000"
)


def test_three_flows_decode_to_what_their_bytes_say() -> None:
    batch = Decoder().decode([("198.51.100.1", GOLDEN)], now_us=5)
    rows = batch.table.to_pylist()
    us = lambda time: round(time.timestamp() * 1_000_000)  # noqa: E731
    base = EXPORT_S * 1_000_000 + 500_000
    assert [us(row["ts_end"]) - base for row in rows] == [-4_000_000, -1_696_000, 0]
    assert [us(row["ts_start"]) - base for row in rows] == [-15_000_000, -1_696_000, -100_000_000]
    assert [row["duration_us"] for row in rows] == [11_000_000, 0, 100_000_000]
    assert [row["src_addr"] for row in rows] == ["10.0.0.1", "10.0.0.2", "192.0.2.7"]
    assert [row["dst_addr"] for row in rows] == ["192.0.2.7", "192.0.2.8", "10.0.0.1"]
    assert [(row["src_port"], row["dst_port"], row["proto"]) for row in rows] == [
        (40000, 443, 6),
        (0, 0, 1),
        (443, 40000, 6),
    ]
    assert [(row["icmp_type"], row["icmp_code"]) for row in rows] == [(None, None), (8, 3), (None, None)]
    assert [(row["packets"], row["bytes"]) for row in rows] == [(10, 1234), (1, 84), (0xFFFFFFFF, 0xFFFFFFFE)]
    assert [(row["tcp_flags"], row["tos"], row["sampling_rate"]) for row in rows] == [
        (0x1B, 8, 10),
        (0, 0, 10),
        (0x12, 0, 10),
    ]
    assert [(row["exporter"], row["site"]) for row in rows] == [("198.51.100.1/258", "default")] * 3
    assert [row["rev_bytes"] for row in rows] == [None] * 3
    assert batch.now_us == 5
    assert batch.rejected.num_rows == 0


@pytest.mark.parametrize("length", [0, 1, 2, 23, 24, 71, 167])
def test_a_truncated_v5_datagram_is_rejected_whole(length: int) -> None:
    batch = Decoder().decode([("198.51.100.1", GOLDEN[:length]), ("198.51.100.1", GOLDEN)])
    assert len(batch) == 3
    assert batch.rejected["raw"].to_pylist() == [GOLDEN[:length]]
    assert batch.rejected["origin"].to_pylist() == ["198.51.100.1"]


def test_a_datagram_longer_than_its_count_or_without_flows_is_rejected_whole() -> None:
    longer, none = GOLDEN + b"\0", v5([])
    batch = Decoder().decode([("198.51.100.1", longer), ("198.51.100.1", none)])
    assert len(batch) == 0
    assert batch.rejected["raw"].to_pylist() == [longer, none]
    assert "3 records" in batch.rejected["reason"][0].as_py()


def test_an_uptime_that_wrapped_between_flow_and_export_gives_the_right_time() -> None:
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 2, 17, 1, 1, first=0xFFFFFF00, last=0xFFFFFFFF)
    table = Decoder().decode([("198.51.100.1", v5([record], uptime=1_000))]).table
    end_us = table["ts_end"].cast("int64")[0].as_py()
    assert end_us == EXPORT_S * 1_000_000 - 1_001_000
    assert table["duration_us"].to_pylist() == [255_000]


def test_a_flow_later_than_its_export_moves_back_to_it_whole_and_is_counted() -> None:
    early = v5_record("10.0.0.1", "10.0.0.2", 1, 2, 17, 1, 1, first=100_100, last=100_999)
    late = v5_record("10.0.0.1", "10.0.0.2", 1, 2, 17, 1, 1, first=101_001, last=102_001)
    decoder = Decoder()
    table = decoder.decode([("198.51.100.1", v5([early, late]))]).table
    ends = [end - EXPORT_S * 1_000_000 for end in table["ts_end"].cast("int64").to_pylist()]
    assert ends == [999_000, 0]
    assert table["duration_us"].to_pylist() == [899_000, 1_000_000]
    assert decoder.counters["clamped_times"] == 1


def test_a_flow_that_ends_before_it_starts_has_no_duration() -> None:
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 2, 17, 1, 1, first=5_000, last=4_000)
    assert Decoder().decode([("198.51.100.1", v5([record]))]).table["duration_us"].to_pylist() == [0]


def test_missing_v5_flows_are_counted_and_a_restart_is_none() -> None:
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 2, 17, 1, 1, 0, 0)
    decoder = Decoder()
    for sequence in (0xFFFFFFFE, 0, 5, 3, 0, 1):  # wrap; 4 flows lost; then late ones and a restart
        decoder.decode([("198.51.100.1", v5([record, record], sequence=sequence))])
    assert decoder.counters["sequence_gaps"] == 1
    assert decoder.counters["missing_flows"] == 3


def test_v5_and_v9_and_noise_in_one_batch_keep_arrival_order() -> None:
    flow = lambda port: v5([v5_record("10.0.0.1", "10.0.0.2", port, 2, 17, 1, 1, 0, 0)])  # noqa: E731
    nine = export("logstash/netflow9_test_valid01.dat")
    sent = [("a", flow(1)), ("a", b"hello"), ("a", nine), ("a", flow(2)), ("a", struct.pack(">HH", 10, 16) + bytes(12))]
    batch = Decoder().decode(sent)
    ports = batch.table["src_port"].to_pylist()
    assert len(ports) == 9
    assert (ports[0], ports[-1]) == (1, 2)
    assert batch.rejected["raw"].to_pylist() == [b"hello", sent[4][1]]
    assert "IPFIX" in batch.rejected["reason"][1].as_py()


def test_a_real_v5_export_decodes_to_its_golden_file() -> None:
    batch = Decoder().decode([("127.0.0.1", export("telegraf/netflow_v5_example/netflow_v5.bin"))])
    golden = [_line(line) for line in export("telegraf/netflow_v5_example/expected.out").decode().splitlines() if line]
    assert len(golden) == 8
    for row, want in zip(batch.table.to_pylist(), golden, strict=True):
        assert (row["src_addr"], row["dst_addr"]) == (want["src"], want["dst"])
        assert (row["src_port"], row["dst_port"]) == (int(want["src_port"]), int(want["dst_port"]))
        assert (row["bytes"], row["packets"]) == (int(want["in_bytes"]), int(want["in_packets"]))
        assert row["duration_us"] == 1000 * (int(want["last_switched"]) - int(want["first_switched"]))
    assert set(batch.table["proto"].to_pylist()) == {6}


@pytest.mark.parametrize(
    ("name", "flows"), [("logstash/netflow5_test_juniper_mx80.dat", 29), ("graylog-plugin/netflow-v5-2.dat", 30)]
)
def test_real_v5_exports_give_every_flow(name: str, flows: int) -> None:
    batch = Decoder().decode([("127.0.0.1", export(name))])
    assert (len(batch), batch.rejected.num_rows) == (flows, 0)


def test_two_v5_exports_that_lie_in_one_datagram_are_rejected() -> None:
    raw = export("graylog-plugin/netflow-v5-1.dat")  # says 2 records, has 1728 bytes
    batch = Decoder().decode([("127.0.0.1", raw)])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (0, [raw])


def _line(line: str) -> dict[str, str]:
    fields = line.split(" ")[1].split(",")
    return {name: value.strip('"').rstrip("u") for name, value in (field.split("=") for field in fields)}
