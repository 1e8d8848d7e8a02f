"""Zeek's conn.log: its own text and JSON, rotated, compressed, cut."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.reading import flows_of, json_file, text_file, totals

NAMES = (
    "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state history "
    "orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
).split()
TCP = "100.5 C1 10.0.0.1 4000 10.0.0.2 443 tcp ssl 2.25 900 5000 SF ShADadFf 9 1260 8 5320".split()
HEADER = ["#separator \\x09", "#set_separator\t,", "#unset_field\t-", "#path\tconn", "\t".join(["#fields", *NAMES]),
          "\t".join(["#types", *NAMES])]  # fmt: skip


def line(**changed: str) -> str:
    return "\t".join({**dict(zip(NAMES, TCP, strict=True)), **changed}.values())


def one(path: Path, **changed: str) -> dict[str, Any]:
    flows, reasons, _ = flows_of(text_file(path, [*HEADER, line(**changed)]))
    assert reasons == []
    return flows[0]


def test_a_connection_is_a_two_way_flow_with_layer_3_bytes(tmp_path: Path) -> None:
    flow = one(tmp_path / "conn.log")
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (1260, 9, 5320, 8)
    assert flow["ts_start"] == datetime(1970, 1, 1, 0, 1, 40, 500_000, UTC)
    assert flow["ts_end"] == datetime(1970, 1, 1, 0, 1, 42, 750_000, UTC)
    assert (flow["proto"], flow["app"], flow["end_reason"], flow["sampling_rate"]) == (6, "ssl", 3, 1)
    assert flow["exporter"] is None


def test_flags_come_from_the_history_of_tcp_only(tmp_path: Path) -> None:
    flow = one(tmp_path / "conn.log")
    assert flow["tcp_flags"] == 2 | 16 | 1  # S, A, D, F
    assert flow["rev_tcp_flags"] == 2 | 16 | 1  # h, a, d, f
    flow = one(tmp_path / "conn.log", history="^aAdR")  # a flip says nothing of flags
    assert (flow["tcp_flags"], flow["rev_tcp_flags"]) == (16 | 4, 16)
    flow = one(tmp_path / "conn.log", proto="udp", history="Dd")
    assert (flow["tcp_flags"], flow["rev_tcp_flags"], flow["end_reason"]) == (None, None, None)


def test_what_was_not_seen_is_null_and_no_reply_is_zero(tmp_path: Path) -> None:
    unset = dict.fromkeys(("duration", "orig_bytes", "resp_bytes", "service", "history"), "-")
    flow = one(tmp_path / "conn.log", conn_state="S0", resp_pkts="0", resp_ip_bytes="0", **unset)
    assert (flow["duration_us"], flow["app"], flow["tcp_flags"], flow["end_reason"]) == (None, None, None, None)
    assert (flow["rev_bytes"], flow["rev_packets"]) == (0, 0)
    assert flow["ts_end"] == flow["ts_start"]


def test_icmp_stands_in_the_ports_and_is_icmpv6_between_ipv6_hosts(tmp_path: Path) -> None:
    icmp = {"proto": "icmp", "id.orig_p": "3", "id.resp_p": "1"}
    flow = one(tmp_path / "conn.log", **icmp)
    assert (flow["proto"], flow["icmp_type"], flow["icmp_code"], flow["src_port"], flow["dst_port"]) == (1, 3, 1, 0, 0)
    six = {"id.orig_h": "fe80::1", "id.resp_h": "fe80:0::2", "id.orig_p": "135", "id.resp_p": "136"}
    flow = one(tmp_path / "conn.log", **{**icmp, **six})
    assert (flow["proto"], flow["icmp_type"], flow["icmp_code"]) == (58, 135, 0)  # 136 is the answer's type
    assert (flow["src_addr"], flow["dst_addr"]) == ("fe80::1", "fe80::2")


def test_json_means_the_same_as_text(tmp_path: Path) -> None:
    record: dict[str, Any] = dict(zip(NAMES, TCP, strict=True))
    for name in NAMES:
        if name.startswith(("ts", "dur")):
            record[name] = float(record[name])
        elif name.endswith(("_p", "bytes", "pkts")):
            record[name] = int(record[name])
    text = one(tmp_path / "conn.log")
    iso = {**record, "ts": "1970-01-01T00:01:40.500000Z"}
    quiet = {name: value for name, value in record.items() if name not in ("duration", "service", "history")}
    (same, also, short), reasons, _ = flows_of(json_file(tmp_path / "conn.json", record, iso, quiet))
    assert reasons == []
    assert {**text, "source_row": 0} == same
    assert {**text, "source_row": 1} == also
    assert (short["duration_us"], short["app"], short["tcp_flags"]) == (None, None, None)


def test_other_logs_of_one_json_stream_are_no_connections(tmp_path: Path) -> None:
    conn: dict[str, Any] = {**dict(zip(NAMES, TCP, strict=True)), "_path": "conn"}
    dns = {**conn, "_path": "dns", "query": "example.org", "orig_ip_bytes": None}
    flows, reasons, counters = flows_of(json_file(tmp_path / "all.json", dns, conn, dns, conn))
    assert ([flow["source_row"] for flow in flows], reasons, dict(counters)) == ([1, 3], [], {"other_records": 2})


def test_milliseconds_are_refused_and_not_taken_for_seconds(tmp_path: Path) -> None:
    record: dict[str, Any] = {**dict(zip(NAMES, TCP, strict=True)), "ts": 1517422326539}
    assert flows_of(json_file(tmp_path / "conn.json", record))[1] == ["column `ts` is out of range"]


@pytest.mark.parametrize("cut", [5, 40, 74, 78])
def test_a_line_that_was_cut_is_one_bad_record_in_text_and_in_json(tmp_path: Path, cut: int) -> None:
    last = line()[:cut]
    flows, reasons, _ = flows_of(text_file(tmp_path / "conn.log", [*HEADER, line(), last], end=""))
    assert (len(flows), reasons) == (1, ["not 17 fields"])
    whole = json_file(tmp_path / "conn.json", dict(zip(NAMES, TCP, strict=True)))
    path = tmp_path / "conn.json"
    path.write_text(path.read_text() + path.read_text()[:cut])
    flows, reasons, _ = flows_of(whole)
    assert (len(flows), reasons) == (1, ["no JSON object"])


def test_rotated_and_compressed_logs_are_one_stream_and_the_summaries_beside_them_are_left_out(tmp_path: Path) -> None:
    close = "#close\t2020-01-01-01-00-00"
    text_file(tmp_path / "conn.00:00:00-01:00:00.log.gz", [*HEADER, line(uid="a"), line(ts="101"), close])
    text_file(tmp_path / "conn.01:00:00-02:00:00.log.gz", [*HEADER, close])
    text_file(tmp_path / "conn.02:00:00-03:00:00.log.gz", [*HEADER, line(ts="9000.25"), close])
    text_file(tmp_path / "conn-summary.00:00:00-01:00:00.log.gz", [">== Total === 2024-04-19-00-00-07"])
    flows, reasons, _ = flows_of(f"file://{tmp_path}/conn.*.log.gz?dialect=zeek")
    assert reasons == []
    assert [flow["source_row"] for flow in flows] == [0, 1, 2]
    assert flows[2]["ts_start"] == datetime(1970, 1, 1, 2, 30, 0, 250_000, UTC)


def test_a_log_with_another_appended_is_read_by_the_columns_of_each(tmp_path: Path) -> None:
    names = ["#fields", *reversed(NAMES)]
    other = "\t".join(reversed(line(orig_ip_bytes="77", duration="-").split("\t")))
    lines = [*HEADER, line(), "#close\tx", HEADER[0], "\t".join(names), other, line()]
    flows, reasons, _ = flows_of(text_file(tmp_path / "conn.log", lines))
    assert [flow["bytes"] for flow in flows] == [1260, 77]
    assert len(reasons) == 1  # a line in the old order under the new header
    lost = [*HEADER, line(), "#fields\tts\tuid", "100\tC", "101\tC", HEADER[4], line()]
    flows, reasons, _ = flows_of(text_file(tmp_path / "conn.log", lost))
    assert [flow["source_row"] for flow in flows] == [0, 3]
    assert len(reasons) == 1
    assert reasons[0].startswith("its #fields line lacks id.orig_h, ")


def test_another_separator_is_read_and_a_tab_before_the_first_line_does_not_matter(tmp_path: Path) -> None:
    lines = ["\t#separator \\x3b", ";".join(["#fields", *NAMES]), line().replace("\t", ";")]
    flows, reasons, _ = flows_of(text_file(tmp_path / "conn.log", lines))
    assert ([flow["bytes"] for flow in flows], reasons) == ([1260], [])


def test_the_real_logs_give_what_awk_adds_up(shared: Path) -> None:
    names = ("packets", "bytes", "rev_packets", "rev_bytes")
    records = shared / "data" / "records"
    for file, count, sums, bad in (
        ("zeek_conn.log", 141, [985, 182_788, 1_085, 1_030_541], []),
        ("zeek_conn_json.log", 29, [406, 52_439, 351, 280_278], []),
        ("zeek_conn_truncated.log", 58, [58, 4_364, 56, 4_862], ["not 21 fields"]),
    ):
        flows, reasons, _ = flows_of(f"file://{records / file}")
        assert (len(flows), totals(flows, *names), reasons) == (count, sums, bad)
    flows, _, _ = flows_of(f"file://{records / 'zeek_conn.log'}?order=source")
    assert flows[0] == {
        **dict.fromkeys(flows[0]),
        "ts_start": datetime(2020, 10, 6, 15, 32, 46, 785_668, UTC),
        "ts_end": datetime(2020, 10, 6, 15, 32, 46, 793_375, UTC),
        "duration_us": 7_707,
        "src_addr": "2001:718:2:1663:dc58:6d9:ef13:51a5", "dst_addr": "2001:718:2:1611:0:1:0:90",
        "src_port": 54_170, "dst_port": 53, "proto": 17, "bytes": 85, "packets": 1, "rev_bytes": 125,
        "rev_packets": 1, "sampling_rate": 1, "site": "default", "app": "dns", "source_row": 0,
    }  # fmt: skip
