"""IPFIX: what it has beyond NetFlow v9, and every answer read off the bytes by hand."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pyarrow as pa
import pytest

from eddyline.sources.netflow.decoder import Decoder
from tests.sources.netflow_bytes import (
    EXPORT_S,
    REVERSE,
    VARIABLE,
    address,
    data_set,
    ipfix,
    ipfix_options,
    ipfix_template,
    template_set,
    v9,
)

E = "198.51.100.1"
GOLDEN = bytes.fromhex(
    "000a 00a0 6553f100 00000005 00000007"  # 160 bytes, sequence 5, domain 7
    "0002 0054 0100 000f"  # template 256, 15 fields
    "0008 0004 000c 0004 0007 0002 000b 0002 0004 0001 0006 0002"
    "0001 0003 0002 0004"  # counters in 3 bytes instead of 8
    "8001 0004 00007279 8002 0001 00007279 8006 0002 00007279"  # the same elements in reverse
    "c000 0005 00007279"  # element 16384 of it: unknown
    "0098 0008 0099 0008 0008 0004"  # start and end in ms, and a sender twice
    "0100 003c"  # one record of 54 bytes and 2 of padding; read as bytes in the order above
    "0a000001 c0000207 9c40 01bb 06 001b 0004d2 00000009"
    "000000ff 02 0012 aaaaaaaaaa"
    "0000018bcfe55068 0000018bcfe56418 09090909"
    "0000"
)
ENDS = [(8, 4), (12, 4)]
S = 1_000_000


def ends(src: str = "10.0.0.1", dst: str = "10.0.0.2") -> bytes:
    return address(src) + address(dst)


def decode(*datagrams: bytes, decoder: Decoder | None = None, last: bool = False) -> pa.Table:
    batch = (decoder or Decoder()).decode([(E, raw) for raw in datagrams], last=last)
    assert batch.rejected.num_rows == 0, batch.rejected["reason"].to_pylist()
    return batch.table


def end_us(table: pa.Table) -> list[int]:
    return [end - EXPORT_S * S for end in table["ts_end"].cast("int64").to_pylist()]


def test_a_biflow_decodes_to_what_its_bytes_say() -> None:
    row = decode(GOLDEN).to_pylist()[0]
    assert (row["src_addr"], row["src_port"], row["dst_addr"], row["dst_port"]) == ("10.0.0.1", 40000, "192.0.2.7", 443)
    assert (row["proto"], row["tcp_flags"], row["rev_tcp_flags"]) == (6, 0x1B, 0x12)
    assert (row["bytes"], row["packets"], row["rev_bytes"], row["rev_packets"]) == (1234, 9, 255, 2)
    assert (row["duration_us"], row["exporter"]) == (5_040_000, f"{E}/7")
    assert round(row["ts_end"].timestamp() * 1000) == EXPORT_S * 1000 - 1000


@pytest.mark.parametrize("cut", range(len(GOLDEN)))
def test_a_message_that_is_cut_anywhere_is_rejected_whole(cut: int) -> None:
    batch = Decoder().decode([(E, GOLDEN[:cut])])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (0, [GOLDEN[:cut]])


def test_a_message_longer_than_it_says_is_rejected_whole() -> None:
    assert Decoder().decode([(E, GOLDEN + b"\0\0")]).rejected["raw"].to_pylist() == [GOLDEN + b"\0\0"]


def test_fields_of_variable_length_are_skipped_in_both_their_forms() -> None:
    template = ipfix_template(256, [(96, VARIABLE), (8, 4), (291, VARIABLE), (12, 4), (7, 2), (94, VARIABLE)])
    src, dst = address("10.0.0.1"), address("10.0.0.2")
    short = b"\3dns" + src + b"\0" + dst + b"\0\x35" + b"\1x"
    long = b"\xff\1\0" + bytes(256) + dst + b"\xff\0\2hi" + src + b"\1\xbb" + b"\0"
    table = decode(ipfix(template, data_set(256, short, long, short)))
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]
    assert table["dst_addr"].to_pylist() == ["10.0.0.2", "10.0.0.1", "10.0.0.2"]
    assert table["src_port"].to_pylist() == [53, 443, 53]


@pytest.mark.parametrize("record", [b"\x09ab", b"\xff\xff\xffab", b"\2ab\xff\1"])
def test_a_variable_field_that_leaves_its_set_rejects_the_set(record: bytes) -> None:
    template = ipfix_template(256, [*ENDS, (96, VARIABLE), (95, VARIABLE)])
    raw = ipfix(template, data_set(256, ends() + record))
    batch = Decoder().decode([(E, raw)])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (0, [raw])
    assert "variable-length" in batch.rejected["reason"][0].as_py()


@pytest.mark.parametrize("make", [ipfix_template, lambda id_, fields: ipfix_options(id_, fields[:1], fields[1:])])
def test_records_of_nothing_but_variable_fields_are_counted_and_hurt_nobody(
    make: Callable[[int, list[tuple[int, int]]], bytes],
) -> None:
    decoder = Decoder()
    names = data_set(300, b"\2ab\1c" + b"\0\5xyzuv")  # two records of two fields
    decoder.decode([("198.51.100.1", ipfix(make(300, [(82, VARIABLE), (83, VARIABLE)]), names))])
    decode(ipfix(ipfix_template(256, ENDS), data_set(256, ends()), sequence=2), decoder=decoder)
    assert (decoder.counters["flows"], decoder.counters["sequence_gaps"]) == (1, 0)


def test_a_withdrawn_template_is_not_used_any_more_until_it_comes_again() -> None:
    decoder = Decoder()
    flow = data_set(256, ends())
    assert len(decode(ipfix(ipfix_template(256, ENDS), flow), decoder=decoder)) == 1
    withdrawal = struct.pack(">HHHH", 2, 8, 256, 0)
    assert len(decode(ipfix(withdrawal, sequence=1), ipfix(flow, sequence=1), decoder=decoder)) == 0  # waits
    assert decoder.counters["unknown_templates"] == 1
    again = ipfix(ipfix_template(256, [(12, 4), (8, 4)]), sequence=2)
    assert decode(again, decoder=decoder, last=True)["src_addr"].to_pylist() == ["10.0.0.2"]


def test_all_data_templates_are_withdrawn_together_and_options_stay() -> None:
    decoder = Decoder()
    rates = ipfix_options(300, [(149, 4)], [(34, 4)])
    decode(ipfix(ipfix_template(256, ENDS), ipfix_template(257, ENDS), rates), decoder=decoder)
    decode(ipfix(struct.pack(">HHHH", 2, 8, 2, 0)), decoder=decoder)
    told = data_set(300, struct.pack(">II", 7, 64))
    assert len(decode(ipfix(data_set(256, ends()), data_set(257, ends()), told), decoder=decoder)) == 0
    assert decoder.counters["unknown_templates"] == 2
    table = decode(ipfix(ipfix_template(256, ENDS), ipfix_template(257, ENDS)), decoder=decoder, last=True)
    assert table["sampling_rate"].to_pylist() == [64, 64]


def test_a_message_withdraws_all_templates_once_and_the_rest_of_that_set_is_not_taken() -> None:
    decoder = Decoder()
    both = struct.pack(">HHHHHH", 2, 12, 2, 0, 2, 0)
    batch = decoder.decode([(E, ipfix(ipfix_template(256, ENDS), both, ipfix_template(257, ENDS)))])
    assert batch.rejected["reason"].to_pylist() == ["IPFIX template 2 is malformed or beyond the limits"]
    assert decoder.held()["templates"] == 1


def test_withdrawals_without_end_cost_no_more_than_templates_do() -> None:
    decoder = Decoder()
    for first in range(0, 1024, 128):
        decode(ipfix(*(ipfix_template(256 + first + n, ENDS) for n in range(128))), decoder=decoder)
    withdrawals = struct.pack(">HH", 2, 64_004) + struct.pack(">HH", 5_000, 0) * 16_000
    started = time.process_time()
    decode(ipfix(withdrawals), decoder=decoder)
    assert time.process_time() - started < 0.5  # 3 s where each one looks at every template
    assert decoder.held()["templates"] == 1024


def test_a_redefined_template_replaces_the_old_one_within_a_batch() -> None:
    flow = data_set(256, ends("10.0.0.1", "10.0.0.2"))
    table = decode(
        ipfix(ipfix_template(256, ENDS), flow),
        ipfix(flow, sequence=1),
        ipfix(ipfix_template(256, [(12, 4), (8, 4)]), flow, sequence=2),
        ipfix(flow, sequence=3),
    )
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"]


def test_v9_and_ipfix_of_one_device_keep_their_own_templates_and_the_order_of_their_flows() -> None:
    flow = data_set(256, ends("10.0.0.1", "10.0.0.2"))
    table = decode(
        v9(template_set(256, ENDS)),
        ipfix(ipfix_template(256, [(12, 4), (8, 4)])),
        v9(flow, sequence=1),
        ipfix(flow),
        v9(flow, sequence=2),
    )
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2", "10.0.0.1"]


def test_domains_and_exporters_keep_their_own_templates() -> None:
    flow = data_set(256, ends("10.0.0.1", "10.0.0.2"))
    one, other = ipfix_template(256, ENDS), ipfix_template(256, [(12, 4), (8, 4)])
    sent = [("a", ipfix(one, domain=1)), ("a", ipfix(other, domain=2)), ("b", ipfix(other, domain=1))]
    sent += [("a", ipfix(flow, domain=1)), ("a", ipfix(flow, domain=2)), ("b", ipfix(flow, domain=1))]
    table = Decoder().decode(sent).table
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2", "10.0.0.2"]
    assert table["exporter"].to_pylist() == ["a/1", "a/2", "b/1"]


def test_the_sequence_counts_records_of_all_kinds_and_a_gap_is_counted_in_records() -> None:
    decoder = Decoder()
    rates = ipfix_options(300, [(149, 4)], [(34, 4)]), data_set(300, struct.pack(">II", 7, 1))
    decode(
        ipfix(ipfix_template(256, ENDS), *rates, data_set(256, ends(), ends()), sequence=0xFFFFFFFE), decoder=decoder
    )
    for sequence in (1, 2, 10, 11):  # 3 records came before the first; 7 are missing before the third
        assert len(decode(ipfix(data_set(256, ends()), sequence=sequence), decoder=decoder)) == 1
    assert (decoder.counters["sequence_gaps"], decoder.counters["missing_flows"]) == (1, 7)


def test_a_datagram_of_unknown_size_is_no_gap() -> None:
    decoder = Decoder()
    decode(ipfix(ipfix_template(256, ENDS)), ipfix(data_set(400, bytes(60))), decoder=decoder)
    decode(ipfix(data_set(256, ends()), sequence=5), decoder=decoder)
    assert decoder.counters["sequence_gaps"] == 0
    decode(ipfix(data_set(256, ends()), sequence=7), decoder=decoder)
    assert decoder.counters["missing_flows"] == 1


def ntp(us: int) -> int:
    return ((us // S + 2_208_988_800) << 32) | (us % S << 32) // S


@pytest.mark.parametrize(
    ("elements", "form", "value", "exact_us"),
    [
        ((150, 151), ">I", lambda us: us // S, S),
        ((152, 153), ">Q", lambda us: us // 1000, 1000),
        ((154, 155), ">Q", ntp, 1),
        ((156, 157), ">Q", ntp, 1),
        ((156, 157), ">Q", lambda us: us * 1000, 1),  # plain nanoseconds, against the letter
        ((158, 159), ">I", lambda us: EXPORT_S * S - us, 1),
        ((323, 323), ">Q", lambda us: us // 1000, 1000),
    ],
)
def test_times_are_read_in_every_unit(elements: tuple[int, int], form: str, value, exact_us: int) -> None:  # type: ignore[no-untyped-def]
    start_us, stop_us = EXPORT_S * S - 7_123_457, EXPORT_S * S - 2_765_433
    if elements[0] == elements[1]:
        start_us, elements = stop_us, elements[:1]  # type: ignore[assignment]
    width = struct.calcsize(form)
    record = ends() + b"".join(struct.pack(form, value(us)) for us in (start_us, stop_us)[: len(elements)])
    table = decode(ipfix(ipfix_template(256, [*ENDS, *((ie, width) for ie in elements)]), data_set(256, record)))
    known_end, known_start = stop_us // exact_us * exact_us, start_us // exact_us * exact_us
    assert end_us(table) == [known_end - EXPORT_S * S]
    assert table["duration_us"].to_pylist() == [known_end - known_start]


def test_uptimes_count_from_the_start_that_the_record_says() -> None:
    record = ends() + struct.pack(">IIQ", 5_000, 7_500, EXPORT_S * 1000 - 10_000)
    table = decode(ipfix(ipfix_template(256, [*ENDS, (22, 4), (21, 4), (160, 8)]), data_set(256, record)))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-2_500_000], [2_500_000])


def test_uptimes_count_from_the_start_that_options_say_and_wrap() -> None:
    boot_ms = EXPORT_S * 1000 - (1 << 32) - 1_000  # an uptime of 1 s, one wrap later
    options = ipfix_options(300, [(143, 4)], [(160, 8)]), data_set(300, struct.pack(">IQ", 1, boot_ms))
    record = ends() + struct.pack(">II", 0xFFFFFFFF, 600)
    table = decode(ipfix(*options, ipfix_template(256, [*ENDS, (22, 4), (21, 4)]), data_set(256, record)))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-400_000], [601_000])


def test_uptimes_without_a_start_end_with_their_message_at_the_latest() -> None:
    template = ipfix_template(256, [*ENDS, (22, 4), (21, 4)])
    records = [ends() + struct.pack(">II", *times) for times in ((90, 100), (50, 5_100), (40, 2_100))]
    table = decode(ipfix(template, data_set(256, *records)), ipfix(data_set(256, records[0]), sequence=3))
    assert end_us(table) == [-5_000_000, 0, -3_000_000, 0]
    assert table["duration_us"].to_pylist() == [10_000, 5_050_000, 2_060_000, 10_000]


def test_whole_seconds_are_better_than_uptimes_from_nowhere() -> None:
    fields = [*ENDS, (22, 4), (21, 4), (150, 4), (151, 4)]
    record = ends() + struct.pack(">IIII", 5, 6, EXPORT_S - 9, EXPORT_S - 4)
    table = decode(ipfix(ipfix_template(256, fields), data_set(256, record)))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-4 * S], [5 * S])


@pytest.mark.parametrize("elements", [(152, 162), (153, 162), (152, 161), (158, 162)])
def test_times_and_durations_beyond_reason_give_a_flow_of_today_that_began_after_1970(
    elements: tuple[int, int],
) -> None:
    template = ipfix_template(256, [*ENDS, (elements[0], 8), (elements[1], 8)])
    decoder = Decoder()
    table = decode(ipfix(template, data_set(256, ends() + b"\xff" * 16)), decoder=decoder)
    assert end_us(table) == [0]
    assert 0 <= table["ts_start"].cast("int64")[0].as_py() <= EXPORT_S * S
    assert table["duration_us"][0].as_py() == EXPORT_S * S - table["ts_start"].cast("int64")[0].as_py()


@pytest.mark.parametrize(("element", "unit"), [(161, 1000), (162, 1)])
def test_a_duration_completes_a_lone_start_or_a_lone_end(element: int, unit: int) -> None:
    began = ends() + struct.pack(">QI", EXPORT_S * 1000 - 9_000, 4_000)
    one = decode(ipfix(ipfix_template(256, [*ENDS, (152, 8), (element, 4)]), data_set(256, began)))
    other = decode(ipfix(ipfix_template(256, [*ENDS, (153, 8), (element, 4)]), data_set(256, began)))
    assert (end_us(one), one["duration_us"].to_pylist()) == ([-9 * S + 4_000 * unit], [4_000 * unit])
    assert (end_us(other), other["duration_us"].to_pylist()) == ([-9 * S], [4_000 * unit])


def test_icmp_type_and_code_of_their_own_are_read_for_both_families() -> None:
    four = ipfix_template(256, [*ENDS, (4, 1), (176, 1), (177, 1)])
    six = ipfix_template(257, [(27, 16), (28, 16), (4, 1), (178, 1), (179, 1)])
    flows = data_set(256, ends() + b"\1\3\4"), data_set(257, address("::1") + address("::2") + b"\x3a\x81\0")
    table = decode(ipfix(four, six, *flows))
    assert (table["icmp_type"].to_pylist(), table["icmp_code"].to_pylist()) == ([3, 129], [4, 0])


def test_icmp_has_port_0_and_other_flows_without_ports_have_none() -> None:
    template = ipfix_template(256, [*ENDS, (4, 1)])
    table = decode(ipfix(template, data_set(256, ends() + b"\1", ends() + b"\6")))
    assert (table["src_port"].to_pylist(), table["dst_port"].to_pylist()) == ([0, None], [0, None])
    ported = ipfix_template(257, [*ENDS, (7, 2)]), data_set(257, ends() + b"\0\7")
    table = decode(ipfix(template, data_set(256, ends() + b"\1", ends() + b"\6"), *ported))
    assert table["src_port"].to_pylist() == [0, None, 7]


@pytest.mark.parametrize(
    ("fields", "values", "rate"),
    [
        ([(34, 4)], (50,), 50),
        ([(50, 4)], (60,), 60),
        ([(305, 4), (306, 4)], (1, 999), 1000),
        ([(305, 4), (306, 4)], (10, 990), 100),
        ([(305, 4), (306, 4)], (1, 0), 1),
        ([(305, 4)], (512,), 512),
        ([(305, 4), (309, 4), (310, 4)], (1, 1, 256), 256),
    ],
)
def test_every_way_to_say_a_sampling_rate(fields: list[tuple[int, int]], values: tuple[int, ...], rate: int) -> None:
    packed = struct.pack(f">{len(values)}I", *values)
    options = ipfix_options(300, [(149, 4)], fields), data_set(300, bytes(4) + packed)
    table = decode(ipfix(ipfix_template(256, ENDS), *options, data_set(256, ends())))
    own = decode(ipfix(ipfix_template(256, [*ENDS, *fields]), data_set(256, ends() + packed)))
    assert (table["sampling_rate"].to_pylist(), own["sampling_rate"].to_pylist()) == ([rate], [rate])


def test_a_flow_has_the_rate_of_the_selector_that_it_names_and_names_of_any_length_do_not_matter() -> None:
    options = ipfix_options(300, [(302, 8)], [(335, VARIABLE), (305, 4), (306, 4)])
    told = data_set(300, *(struct.pack(">QB3sII", n, 3, b"abc", 1, 10 * n - 1) for n in (1, 2)))
    flows = data_set(256, *(ends() + bytes([n]) for n in (2, 1, 3)))
    table = decode(ipfix(options, told, ipfix_template(256, [*ENDS, (302, 1)]), flows))
    assert table["sampling_rate"].to_pylist() == [20, 10, 0]


def test_a_message_without_sets_is_rejected_and_one_with_reserved_sets_too() -> None:
    raws = [ipfix(), ipfix(struct.pack(">HH", 5, 4)), ipfix(struct.pack(">HHHH", 2, 8, 256, 1))]
    rejected = Decoder().decode([(E, raw) for raw in raws]).rejected
    assert rejected["raw"].to_pylist() == raws


def test_enterprise_elements_are_not_those_of_iana() -> None:
    template = ipfix_template(256, [(8, 4, 9999), *ENDS, (7, 2, REVERSE), (1, 4, 9999)])
    row = decode(ipfix(template, data_set(256, bytes(4) + ends() + b"\0\7" + bytes(4)))).to_pylist()[0]
    assert (row["src_addr"], row["src_port"], row["bytes"], row["rev_bytes"]) == ("10.0.0.1", None, None, None)
