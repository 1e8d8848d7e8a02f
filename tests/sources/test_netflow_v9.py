"""NetFlow v9: templates, and every answer read off the bytes by hand."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest

from eddyline.sources.netflow import exporters, templated
from eddyline.sources.netflow.decoder import Decoder
from tests.sources.netflow_bytes import EXPORT_S, address, data_set, export, options_set, payloads, template_set, v9

E = "198.51.100.1"
GOLDEN = bytes.fromhex(
    "0009 0004 000186a0 6553f100 00000005 00000007"  # uptime 100 s, sequence 5, source id 7
    "0000 0038 0100 000c"  # template 256, 12 fields
    "0008 0004 000c 0004 0007 0002 000b 0002 0004 0001 0006 0001"
    "0005 0001 0088 0001 0020 0002 0016 0004 0015 0004 0001 0003"
    "0100 005c"  # 3 records of 29 bytes and 1 of padding
    "0a000001 c0000207 9c40 01bb 06 1b 08 03 0000 00014c08 00017700 0004d2"
    "0a000002 c0000208 0000 0000 01 00 00 00 0803 00018000 00018000 010000"
    "c0000207 0a000001 01bb 9c40 06 12 00 01 0000 00000000 000186a0 ffffff"
    "00"
)
ENDS = [(8, 4), (12, 4)]
TIMED = [*ENDS, (22, 4), (21, 4)]


def ends(src: str = "10.0.0.1", dst: str = "10.0.0.2") -> bytes:
    return address(src) + address(dst)


def decode(*datagrams: bytes, decoder: Decoder | None = None, last: bool = False) -> pa.Table:
    batch = (decoder or Decoder()).decode([(E, raw) for raw in datagrams], last=last)
    assert batch.rejected.num_rows == 0, batch.rejected["reason"].to_pylist()
    return batch.table


def end_us(table: pa.Table) -> list[int]:
    return [end - EXPORT_S * 1_000_000 for end in table["ts_end"].cast("int64").to_pylist()]


def test_three_flows_decode_to_what_their_bytes_say() -> None:
    table = decode(GOLDEN)
    rows = table.to_pylist()
    assert end_us(table) == [-4_000_000, -1_696_000, 0]
    assert [row["duration_us"] for row in rows] == [11_000_000, 0, 100_000_000]
    assert [(row["src_addr"], row["dst_addr"]) for row in rows] == [
        ("10.0.0.1", "192.0.2.7"), ("10.0.0.2", "192.0.2.8"), ("192.0.2.7", "10.0.0.1")
    ]  # fmt: skip
    assert [(row["src_port"], row["dst_port"], row["proto"]) for row in rows] == [
        (40000, 443, 6),
        (0, 0, 1),
        (443, 40000, 6),
    ]
    assert [(row["icmp_type"], row["icmp_code"]) for row in rows] == [(None, None), (8, 3), (None, None)]
    assert [(row["tcp_flags"], row["tos"], row["end_reason"]) for row in rows] == [
        (0x1B, 8, 3),
        (0, 0, None),
        (0x12, 0, 1),
    ]
    assert [(row["bytes"], row["packets"]) for row in rows] == [
        (1234, None),
        (65536, None),
        (0xFFFFFF, None),
    ]  # 3 bytes wide
    assert [(row["rev_bytes"], row["rev_packets"], row["sampling_rate"]) for row in rows] == [(None, None, 0)] * 3
    assert {row["exporter"] for row in rows} == {f"{E}/7"}


def test_flows_before_their_template_wait_for_it_and_come_first() -> None:
    decoder = Decoder()
    early = v9(data_set(256, ends("10.0.0.9") + struct.pack(">II", 90_000, 95_000)), export_s=EXPORT_S - 60)
    assert len(decode(early, decoder=decoder)) == 0
    assert decoder.counters["unknown_templates"] == 1
    now = data_set(256, ends("10.0.0.1") + struct.pack(">II", 90_000, 95_000))
    table = decode(v9(template_set(256, TIMED), now, sequence=1), decoder=decoder)
    assert table["src_addr"].to_pylist() == ["10.0.0.9", "10.0.0.1"]
    assert end_us(table) == [-65_000_000, -5_000_000]
    assert decode(v9(template_set(256, TIMED), sequence=2), decoder=decoder, last=True).num_rows == 0


def test_flows_whose_template_never_comes_are_rejected_at_the_end() -> None:
    decoder = Decoder()
    raw = v9(data_set(300, bytes(20)), data_set(301, bytes(20)))
    assert decoder.decode([(E, raw)]).rejected.num_rows == 0
    rejected = decoder.decode([], last=True).rejected
    assert rejected["raw"].to_pylist() == [raw]  # once, not for each of its sets
    assert rejected["origin"].to_pylist() == [f"{E}/7"]
    assert "300" in rejected["reason"][0].as_py()


def test_waiting_flows_are_bounded_and_what_falls_out_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templated, "MAX_PENDING", 2)
    raws = [v9(data_set(256, ends(f"10.0.0.{n}")), sequence=n) for n in range(5)]
    decoder = Decoder()
    assert decoder.decode([(E, raw) for raw in raws]).rejected["raw"].to_pylist() == raws[:3]
    table = decode(v9(template_set(256, ENDS), sequence=5), decoder=decoder)
    assert table["src_addr"].to_pylist() == ["10.0.0.3", "10.0.0.4"]


def test_waiting_bytes_are_bounded_too() -> None:
    raws = [v9(data_set(256, bytes(60)), sequence=n) for n in range(2)]
    assert Decoder(pending_bytes=100).decode([(E, raw) for raw in raws]).rejected["raw"].to_pylist() == raws[:1]


def test_a_redefined_template_replaces_the_old_one_within_a_batch() -> None:
    record = ends("10.0.0.1", "10.0.0.2") + bytes([6])
    table = decode(
        v9(template_set(256, [*ENDS, (4, 1)])),
        v9(data_set(256, record), sequence=1),
        v9(template_set(256, [(12, 4), (8, 4), (5, 1)]), sequence=2),
        v9(data_set(256, record), sequence=3),
    )
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2"]
    assert table["proto"].to_pylist() == [6, None]
    assert table["tos"].to_pylist() == [None, 6]


def test_flows_that_do_not_fit_their_template_are_rejected() -> None:
    raw = v9(data_set(256, ends() + b"\1\2\3\4"))  # 12 bytes against records of 8: another template was meant
    short = v9(data_set(256, bytes(4)), sequence=2)
    batch = Decoder().decode([(E, v9(template_set(256, ENDS), sequence=0)), (E, raw), (E, short)])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (0, [raw, short])


def test_two_domains_of_one_exporter_keep_their_own_templates() -> None:
    table = decode(
        v9(template_set(256, ENDS), domain=1),
        v9(template_set(256, [(12, 4), (8, 4)]), domain=2),
        v9(data_set(256, ends("10.0.0.1", "10.0.0.2")), domain=2, sequence=1),
        v9(data_set(256, ends("10.0.0.1", "10.0.0.2")), domain=1, sequence=1),
    )
    assert table["src_addr"].to_pylist() == ["10.0.0.2", "10.0.0.1"]
    assert table["exporter"].to_pylist() == [f"{E}/2", f"{E}/1"]


def test_two_exporters_with_the_same_source_id_keep_their_own_templates() -> None:
    flow = v9(data_set(256, ends("10.0.0.1", "10.0.0.2")), sequence=1)
    sent = [
        ("a", v9(template_set(256, ENDS))),
        ("b", v9(template_set(256, [(12, 4), (8, 4)]))),
        ("a", flow),
        ("b", flow),
    ]
    assert Decoder().decode(sent).table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.2"]


def test_an_uptime_that_wrapped_between_flow_and_export_gives_the_right_time() -> None:
    record = ends() + struct.pack(">II", 0xFFFFFF00, 0xFFFFFFFF)
    table = decode(v9(template_set(256, TIMED), data_set(256, record), uptime=1_000))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-1_001_000], [255_000])


@pytest.mark.parametrize(
    ("start", "end", "form", "unit"), [(150, 151, ">II", 1_000_000), (152, 153, ">QQ", 1_000), (154, 155, ">QQ", 1)]
)
def test_absolute_times_are_read_in_their_unit(start: int, end: int, form: str, unit: int) -> None:
    now = EXPORT_S * 1_000_000 // unit
    times = struct.pack(form, now - 7, now - 3)
    table = decode(
        v9(template_set(256, [*ENDS, (start, len(times) // 2), (end, len(times) // 2)]), data_set(256, ends() + times))
    )
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-3 * unit], [4 * unit])


def test_microseconds_as_ntp_times_are_read_too() -> None:
    ntp = lambda seconds, fraction: ((seconds + 2_208_988_800) << 32) | fraction  # noqa: E731
    times = struct.pack(">QQ", ntp(EXPORT_S - 2, 1 << 31), ntp(EXPORT_S - 1, 1 << 30))
    table = decode(v9(template_set(256, [*ENDS, (154, 8), (155, 8)]), data_set(256, ends() + times)))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([-750_000], [750_000])


def test_flows_without_times_happen_when_they_are_exported() -> None:
    table = decode(v9(template_set(256, ENDS), data_set(256, ends())))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([0], [None])


def test_an_absolute_time_of_zero_is_not_1970() -> None:
    records = [ends() + struct.pack(">QQ", 0, 0), ends() + struct.pack(">QQ", 0, EXPORT_S * 1000 - 5)]
    table = decode(v9(template_set(256, [*ENDS, (152, 8), (153, 8)]), data_set(256, *records)))
    assert (end_us(table), table["duration_us"].to_pylist()) == ([0, -5_000], [0, 0])


def test_out_counters_are_the_reverse_half_unless_told_otherwise() -> None:
    raw = v9(
        template_set(256, [*ENDS, (1, 4), (2, 4), (23, 4), (24, 4)]),
        data_set(256, ends() + struct.pack(">IIII", 9, 1, 0, 0)),
    )
    assert decode(raw).select(["bytes", "packets", "rev_bytes", "rev_packets"]).to_pylist() == [
        {"bytes": 9, "packets": 1, "rev_bytes": 0, "rev_packets": 0}
    ]
    ignored = decode(raw, decoder=Decoder(reverse=False))
    assert (ignored["rev_bytes"].to_pylist(), ignored["rev_packets"].to_pylist()) == ([None], [None])


def test_one_way_and_two_way_templates_in_one_batch_keep_null_and_zero_apart_and_their_order() -> None:
    one, two = template_set(256, [*ENDS, (1, 4)]), template_set(257, [*ENDS, (1, 4), (23, 4)])
    one_way, two_way = data_set(256, ends() + struct.pack(">I", 1)), data_set(257, ends() + struct.pack(">II", 2, 0))
    table = decode(v9(one, two, one_way), v9(two_way, sequence=1), v9(one_way, sequence=2))
    assert table["bytes"].to_pylist() == [1, 2, 1]
    assert table["rev_bytes"].to_pylist() == [None, 0, None]


def test_unknown_enterprise_duplicate_and_too_wide_fields_are_skipped_by_length() -> None:
    fields = [(40_000, 5), (8, 4), (400, 3), (12, 4), (8, 4), (7, 4), (11, 2), (1, 16), (2, 5), (95, 4)]
    record = bytes(5) + address("10.0.0.1") + bytes(3) + address("10.0.0.2") + address("9.9.9.9") + bytes(4) + b"\0\x35"
    record += bytes(16) + b"\1\0\0\0\2" + bytes(4)
    row = decode(v9(template_set(256, fields), data_set(256, record))).to_pylist()[0]
    assert (row["src_addr"], row["dst_addr"], row["src_port"], row["dst_port"]) == ("10.0.0.1", "10.0.0.2", None, 53)
    assert (row["bytes"], row["packets"]) == (None, (1 << 32) + 2)


def test_ipv6_and_mapped_ipv4_addresses_have_canonical_text() -> None:
    pairs = [("2001:db8:0:0:1:0:0:1", "::"), ("::ffff:10.0.0.1", "fe80::1")]
    records = [address(src) + address(dst) for src, dst in pairs]
    table = decode(v9(template_set(256, [(27, 16), (28, 16)]), data_set(256, *records)))
    assert table["src_addr"].to_pylist() == ["2001:db8::1:0:0:1", "10.0.0.1"]
    assert table["dst_addr"].to_pylist() == ["::", "fe80::1"]


def test_a_template_with_both_families_uses_the_one_that_is_set() -> None:
    fields = [*ENDS, (27, 16), (28, 16)]
    records = [ends() + bytes(32), bytes(8) + address("2001:db8::1") + address("2001:db8::2")]
    table = decode(v9(template_set(256, fields), data_set(256, *records)))
    assert table["src_addr"].to_pylist() == ["10.0.0.1", "2001:db8::1"]


def test_one_dictionary_serves_senders_and_receivers() -> None:
    table = decode(
        v9(template_set(256, ENDS), data_set(256, ends("10.0.0.1", "10.0.0.2"), ends("10.0.0.2", "10.0.0.1")))
    )
    src, dst = (table[name].combine_chunks() for name in ("src_addr", "dst_addr"))
    assert src.dictionary.to_pylist() == dst.dictionary.to_pylist() == ["10.0.0.1", "10.0.0.2"]


def test_sampling_from_options_holds_for_flows_that_do_not_say_it() -> None:
    rate = options_set(300, [(1, 4)], [(34, 4), (35, 1)])
    flow = data_set(256, ends())
    decoder = Decoder()
    first = decode(
        v9(flow, template_set(256, ENDS), data_set(300, struct.pack(">IIB", 0, 64, 1)), rate), decoder=decoder
    )
    assert first["sampling_rate"].to_pylist() == [64]  # options count before the flows of their datagram
    assert decode(v9(flow, sequence=1), decoder=decoder)["sampling_rate"].to_pylist() == [64]
    assert decode(v9(template_set(256, ENDS), flow, domain=8), decoder=decoder)["sampling_rate"].to_pylist() == [0]
    own = v9(template_set(257, [*ENDS, (34, 2)]), data_set(257, ends() + b"\0\5"), sequence=2)
    assert decode(own, decoder=decoder)["sampling_rate"].to_pylist() == [5]


def test_samplers_that_differ_leave_the_rate_unknown() -> None:
    rate = options_set(300, [(1, 4)], [(48, 1), (50, 4)])
    told = data_set(300, *(struct.pack(">IBI", 0, sampler, each) for sampler, each in ((1, 10), (2, 20))))
    table = decode(v9(rate, told, template_set(256, ENDS), data_set(256, ends())))
    assert table["sampling_rate"].to_pylist() == [0]


def test_templates_are_bounded_for_each_exporter_least_recently_used_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporters, "MAX_TEMPLATES", 2)
    decoder = Decoder()
    flow = lambda template, n: v9(data_set(template, ends()), sequence=n)  # noqa: E731
    decode(v9(template_set(256, ENDS), template_set(257, ENDS)), flow(256, 1), decoder=decoder)
    decode(v9(template_set(258, ENDS), sequence=2), decoder=decoder)
    assert len(decode(flow(256, 3), flow(258, 4), decoder=decoder)) == 2
    assert len(decode(flow(257, 5), decoder=decoder)) == 0  # waits
    assert decoder.counters["unknown_templates"] == 1


def test_templates_are_bounded_over_all_exporters_longest_silent_first() -> None:
    decoder = Decoder(templates=2)
    for origin in ("a", "b", "c"):
        decoder.decode([(origin, v9(template_set(256, ENDS)))])
    flows = [len(decoder.decode([(origin, v9(data_set(256, ends()), sequence=1))])) for origin in ("b", "c", "a")]
    assert flows == [1, 1, 0]


@pytest.mark.parametrize(
    "bad",
    [
        template_set(256, []),
        template_set(256, [(8, 0), (12, 0)]),
        template_set(256, [(8, 4), (95, 65_534)]),
        template_set(256, [(8, 4)] * 513),
        template_set(255, ENDS),
        template_set(256, ENDS)[:-2] + b"\0\0\1\0",
        struct.pack(">HHHH", 0, 8, 256, 60_000),
        options_set(256, [(1, 4)] * 600, []),
        struct.pack(">HH", 7, 4),
    ],
)
def test_a_bad_template_is_rejected_and_the_rest_of_its_datagram_still_counts(bad: bytes) -> None:
    if len(bad) != int.from_bytes(bad[2:4], "big"):
        bad = bad[:2] + struct.pack(">H", len(bad)) + bad[4:]
    decoder = Decoder()
    raw = v9(template_set(300, ENDS), bad, data_set(300, ends()))
    batch = decoder.decode([(E, raw)])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (1, [raw])


def test_a_template_without_addresses_gives_no_flows_but_is_said() -> None:
    raws = [
        v9(template_set(256, [(1, 4)])),
        v9(data_set(256, bytes(4)), sequence=1),
        v9(data_set(256, bytes(4)), sequence=2),
    ]
    batch = Decoder().decode([(E, raw) for raw in raws])
    assert batch.rejected["raw"].to_pylist() == raws[1:]


@pytest.mark.parametrize("cut", [0, 1, 3, 19, 20, 21, 24, 60, 80, 100, 167])
def test_a_truncated_v9_datagram_is_rejected_whole(cut: int) -> None:
    batch = Decoder().decode([(E, GOLDEN[:cut])])
    assert (len(batch), batch.rejected["raw"].to_pylist()) == (0, [GOLDEN[:cut]])


def test_missing_datagrams_are_counted_and_a_restart_clears_no_template() -> None:
    decoder = Decoder()
    decode(v9(template_set(256, ENDS), sequence=0xFFFFFFFF), decoder=decoder)
    for sequence in (0, 1, 5, 0, 1):
        assert len(decode(v9(data_set(256, ends()), sequence=sequence), decoder=decoder)) == 1
    assert (decoder.counters["sequence_gaps"], decoder.counters["missing_datagrams"]) == (1, 3)


def test_datagrams_in_the_wrong_order_are_one_gap_and_not_another_when_they_come() -> None:
    decoder = Decoder()
    decode(v9(template_set(256, ENDS), sequence=0xFFFFFFFF), decoder=decoder)
    for sequence in (1, 0, 2, 3, 3, 4):  # two changed places; one came twice
        decode(v9(data_set(256, ends()), sequence=sequence), decoder=decoder)
    assert (decoder.counters["sequence_gaps"], decoder.counters["missing_datagrams"]) == (1, 1)


def test_softflowd_decodes_to_what_its_bytes_say() -> None:
    table = decode(export("logstash/netflow9_test_valid01.dat"))
    assert len(table) == 7
    first, last = table.to_pylist()[0], table.to_pylist()[-1]
    # From byte 152: ac102064 ac1020f8, last 04c1 = 1217, first 04c0 = 1216, 4c bytes, 1 packet; uptime 45076.
    assert (first["src_addr"], first["dst_addr"]) == ("172.16.32.100", "172.16.32.248")
    assert (first["src_port"], first["dst_port"], first["proto"]) == (123, 123, 17)
    assert (first["bytes"], first["packets"], first["duration_us"]) == (76, 1, 1_000)
    assert round(first["ts_end"].timestamp() * 1000) == 1_444_331_070_000 - (45_076 - 1_217)
    assert ":" in last["src_addr"]


def test_nprobe_with_its_padding_decodes_to_what_its_bytes_say() -> None:
    row = decode(*(export(f"logstash/netflow9_test_nprobe_{name}.dat") for name in ("tpl", "data"))).to_pylist()[0]
    # From byte 24: c8 bytes, 2 packets, 06 10 18, port 16, ac1020c9, port fe22, ac102001, last 5, first 0; then 0d0001.
    assert (row["bytes"], row["packets"], row["proto"], row["tos"], row["tcp_flags"]) == (200, 2, 6, 16, 0x18)
    assert (row["src_addr"], row["src_port"]) == ("172.16.32.201", 22)
    assert (row["dst_addr"], row["dst_port"]) == ("172.16.32.1", 65_058)
    assert (row["exporter"], row["duration_us"]) == (f"{E}/147", 5_000)
    assert round(row["ts_end"].timestamp() * 1000) == 1_444_331_189_000 - (33_990 - 5)


@pytest.mark.parametrize(
    ("names", "flows"),
    [
        (("ubnt_edgerouter_tpl", "ubnt_edgerouter_data1024", "ubnt_edgerouter_data1025"), 16),
        (("h3c_tpl3281", "h3c_data3281"), 16),
        (("macaddr_tpl", "macaddr_data"), 29),
        (("streamcore_tpl_data256", "streamcore_tpl_data260"), 4),
        (("unknown_tpl266_292_data",), 2),
        (("field_layer2segmentid_tpl", "field_layer2segmentid_data"), 1),
        (("juniper_srx_tplopt",), 0),
    ],
)
def test_real_devices_give_every_flow(names: tuple[str, ...], flows: int) -> None:
    assert len(decode(*(export(f"logstash/netflow9_test_{name}.dat") for name in names), last=True)) == flows


def test_ubiquiti_flows_have_the_uptimes_of_their_bytes() -> None:
    table = decode(*(export(f"logstash/netflow9_test_ubnt_edgerouter_{name}.dat") for name in ("tpl", "data1024")))
    raw = export("logstash/netflow9_test_ubnt_edgerouter_data1024.dat")
    uptime, export_s = struct.unpack_from(">II", raw, 4)
    for number, row in enumerate(table.to_pylist()):
        last, first, octets, packets = struct.unpack_from(">IIII", raw, 24 + 59 * number)
        assert (row["bytes"], row["packets"], row["duration_us"]) == (octets, packets, (last - first) * 1000)
        assert round(row["ts_end"].timestamp() * 1000) == export_s * 1000 - (uptime - last)


def test_sampled_flows_of_a_real_device_have_the_rate_of_its_options() -> None:
    table = decode(export("logstash/netflow9_test_invalid01.dat"))
    assert table["sampling_rate"].to_pylist() == [100, 100]


def test_variable_length_fields_that_a_vendor_brought_to_v9_are_skipped() -> None:
    names = ("h3c_netstream_varstring_tpl3281", "h3c_netstream_varstring_data3281")
    row = decode(*(export(f"logstash/netflow9_test_{name}.dat") for name in names)).to_pylist()[0]
    # From byte 24: 9 packets, 02be bytes; from 56: 14141414 1414ffff; at the end ff 0001 00, a name of one byte.
    assert (row["src_addr"], row["dst_addr"]) == ("20.20.20.20", "20.20.255.255")
    assert (row["src_port"], row["dst_port"], row["proto"]) == (137, 137, 17)
    assert (row["packets"], row["bytes"]) == (9, 702)


def test_a_real_v9_export_decodes_to_its_golden_file_but_for_a_header_that_is_a_day_behind() -> None:
    decoder = Decoder()
    table = decode(export("telegraf/netflow_v9_example/netflow_v9.bin"), decoder=decoder)
    lines = [line for line in export("telegraf/netflow_v9_example/expected.out").decode().splitlines() if line]
    assert len(table) == len(lines) == 8
    for row, line in zip(table.to_pylist(), lines, strict=True):
        want = dict(field.split("=") for field in line.split(" ")[1].split(","))
        number = {name: int(want[name].rstrip("u")) for name in want if want[name].endswith("u")}
        assert (row["src_addr"], row["dst_addr"]) == (want["src"].strip('"'), want["dst"].strip('"'))
        assert (row["src_port"], row["dst_port"]) == (number["src_port"], number["dst_port"])
        assert (row["bytes"], row["packets"]) == (number["in_bytes"], number["in_packets"])
        assert row["duration_us"] == 1000 * (number["flow_end_ms"] - number["flow_start_ms"])
        assert row["ts_end"].timestamp() == 1_666_264_078  # the header's; the flow says 86,403 s later
    assert decoder.counters["clamped_times"] == 8


def test_options_of_a_real_router_are_read_past() -> None:
    assert len(decode(export("telegraf/netflow_v9_options/message.bin"), last=True)) == 0


@pytest.mark.parametrize(("name", "flows"), [("", 152), ("-2", 6), ("-3", 892), ("-4", 15)])
def test_captures_of_nprobe_give_all_the_flows_that_their_headers_count(name: str, flows: int) -> None:
    contents = [raw for _, raw in payloads(export(f"graylog-plugin/nprobe-netflow9{name}.pcap"))]
    counted = sum(int.from_bytes(raw[2:4], "big") for raw in contents)
    templates = sum(raw[:2] + raw[20:22] == b"\0\x09\0\0" for raw in contents)  # such a one counts 7 more
    assert len(decode(*contents, last=True)) == counted - 7 * templates == flows
