"""One-way records: goflow2 and pmacct JSON, and the UGR'16 files."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.dialects import load_dialect, read_flows
from eddyline.dialects.ugr16 import UGR16
from eddyline.errors import ConfigError
from tests.dialects.reading import flows_of, json_file, text_file, totals

SECOND_NS = 1_000_000_000
AT_NS = 1_767_324_720 * SECOND_NS  # 2026-01-02 03:32:00 UTC
AT = datetime(2026, 1, 2, 3, 32, tzinfo=UTC)
GOFLOW2: dict[str, Any] = {
    "type": "NETFLOW_V9", "time_received_ns": AT_NS + 2 * SECOND_NS, "sequence_num": 65_361, "sampling_rate": 100,
    "sampler_address": "192.0.2.1", "observation_domain_id": 7, "time_flow_start_ns": AT_NS - 1_500_000_999,
    "time_flow_end_ns": AT_NS + 999, "bytes": 143, "packets": 2, "src_addr": "10.0.0.1", "dst_addr": "10.0.0.2",
    "etype": "IPv4", "proto": "TCP", "src_port": 4000, "dst_port": 443, "in_if": 11, "out_if": 12, "tcp_flags": 27,
    "ip_tos": 184, "icmp_type": 0, "icmp_code": 0,
}  # fmt: skip


def goflow2(path: Path, *changes: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    flows, reasons, _ = flows_of(json_file(path / "flows.json", *({**GOFLOW2, **change} for change in changes)))
    return flows, reasons


def test_goflow2_times_are_nanoseconds_and_its_records_one_way(tmp_path: Path) -> None:
    (flow,), reasons = goflow2(tmp_path, {})
    assert reasons == []
    assert (flow["ts_start"], flow["ts_end"]) == (datetime(2026, 1, 2, 3, 31, 58, 499_999, UTC), AT)
    assert flow["duration_us"] == 1_500_001
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (143, 2, None, None)
    assert (flow["proto"], flow["tcp_flags"], flow["tos"], flow["sampling_rate"]) == (6, 27, 184, 100)
    assert flow["exporter"] == "192.0.2.1/7"
    assert (flow["icmp_type"], flow["icmp_code"]) == (None, None)


def test_goflow2_protocols_are_names_or_numbers(tmp_path: Path) -> None:
    for proto in ("UDP", 17, "17", "udp"):
        assert goflow2(tmp_path, {"proto": proto})[0][0]["proto"] == 17
    icmp = {"proto": "IPv6-ICMP", "icmp_type": 135, "icmp_code": 0, "src_addr": "FE80::1", "dst_addr": "fe80::2"}
    (flow,), _ = goflow2(tmp_path, icmp)
    assert (flow["proto"], flow["icmp_type"], flow["icmp_code"], flow["dst_port"]) == (58, 135, 0, 0)
    assert flow["src_addr"] == "fe80::1"


def test_goflow2_without_flow_times_ends_when_it_was_received(tmp_path: Path) -> None:
    (flow,), _ = goflow2(tmp_path, {"time_flow_start_ns": 0, "time_flow_end_ns": 0})
    assert flow["ts_start"] == flow["ts_end"] == AT.replace(second=2)


def test_goflow2_flows_that_end_after_their_receipt_are_moved_back_whole(tmp_path: Path) -> None:
    wrap = (1 << 32) * 1_000_000  # 2**32 ms, what a wrapped uptime adds
    late = {"time_flow_start_ns": AT_NS + wrap - SECOND_NS, "time_flow_end_ns": AT_NS + wrap}
    soon = {"time_flow_end_ns": AT_NS + 7 * SECOND_NS, "time_flow_start_ns": AT_NS}
    (flow, kept), reasons = goflow2(tmp_path, late, soon)
    assert reasons == []
    assert (flow["ts_start"], flow["ts_end"]) == (AT.replace(second=1), AT.replace(second=2))
    assert (kept["ts_start"], kept["ts_end"]) == (AT, AT.replace(second=7))


def test_goflow2_times_beyond_int64_are_one_bad_record_and_cost_their_neighbours_no_digit(tmp_path: Path) -> None:
    exact = {"time_flow_end_ns": AT_NS + 123_456_000}
    flows, reasons = goflow2(tmp_path, exact, {"time_flow_end_ns": 2**64 - 1}, exact)
    assert reasons == ["column `time_flow_end_ns` is no time"]
    assert [flow["ts_end"].microsecond for flow in flows] == [123_456, 123_456]


def test_goflow2_may_write_its_times_as_text(tmp_path: Path) -> None:
    (flow, other, third), reasons = goflow2(
        tmp_path, {"time_received_ns": "2026-01-02T03:32:02.064235982Z"}, {}, {"time_flow_end_ns": AT_NS / 1}
    )
    assert reasons == []
    assert flow["ts_end"] == other["ts_end"] == third["ts_end"] == AT


PMACCT: dict[str, Any] = {
    "event_type": "purge", "peer_ip_src": "192.0.2.1", "ip_src": "10.0.0.1", "ip_dst": "10.0.0.2", "port_src": 4000,
    "port_dst": 443, "tcp_flags": "27", "ip_proto": "tcp", "tos": 0, "timestamp_start": "2026-07-01 14:00:00.250000",
    "timestamp_end": "2026-07-01 14:00:01.500000", "packets": 2, "bytes": 143, "flows": 1, "writer_id": "x/1",
    "label": {"nkey": "unknown"},
}  # fmt: skip


def pmacct(path: Path, *changes: dict[str, Any], query: str = "") -> tuple[list[dict[str, Any]], list[str], Any]:
    records = ({**PMACCT, **change} for change in changes)
    return flows_of(json_file(path / "flows.json", *records, query=query))


def test_pmacct_flags_are_a_number_text_or_names_and_mean_the_same(tmp_path: Path) -> None:
    for flags in ("27", 27, ["FIN", "SYN", "ACK", "PSH"]):
        (flow,), reasons, _ = pmacct(tmp_path, {"tcp_flags": flags})
        assert (flow["tcp_flags"], reasons) == (27, [])
    flows, reasons, _ = pmacct(tmp_path, {}, {"tcp_flags": 27}, {"tcp_flags": ["ACK"]}, {"tcp_flags": []},
                               {"tcp_flags": ["A\"CK"]}, {"tcp_flags": "x"}, {"tcp_flags": 65_536},
                               {"tcp_flags": -1})  # fmt: skip
    assert [flow["tcp_flags"] for flow in flows] == [27, 27, 16, 0]
    assert reasons == ["column `tcp_flags` is no TCP flags"] * 4


def test_pmacct_times_are_local_unless_they_say_otherwise(tmp_path: Path) -> None:
    (flow,), _, _ = pmacct(tmp_path, {}, query="&zone=Europe/Berlin")
    assert (flow["ts_start"], flow["ts_end"]) == (
        datetime(2026, 7, 1, 12, 0, 0, 250_000, UTC),
        datetime(2026, 7, 1, 12, 0, 1, 500_000, UTC),
    )
    assert pmacct(tmp_path, {})[0][0]["ts_end"] == datetime(2026, 7, 1, 14, 0, 1, 500_000, UTC)
    epoch = {"timestamp_start": "1782914400.250000", "timestamp_end": "1782914401.500000"}
    rfc = {"timestamp_start": "2026-07-01T14:00:00.250000Z", "timestamp_end": "2026-07-01T15:00:01.500000+01:00"}
    for change in (epoch, rfc):
        (flow,), _, _ = pmacct(tmp_path, change, query="&zone=Europe/Berlin")
        assert flow["ts_end"] == datetime(2026, 7, 1, 14, 0, 1, 500_000, UTC)


def test_an_hour_that_came_twice_or_never_has_one_meaning_in_every_company(tmp_path: Path) -> None:
    times = {"2026-10-25 02:30:00": datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # the first of both
             "2026-03-29 02:30:00": datetime(2026, 3, 29, 1, 30, tzinfo=UTC),  # never shown: read with winter's offset
             "2026-07-01 14:00:00": datetime(2026, 7, 1, 12, tzinfo=UTC)}  # fmt: skip
    changes = [{"timestamp_start": text, "timestamp_end": text} for text in times]
    together, _, _ = pmacct(tmp_path, *changes, query="&zone=Europe/Berlin")
    alone = [pmacct(tmp_path, change, query="&zone=Europe/Berlin")[0][0] for change in changes]
    assert [flow["ts_end"] for flow in together] == [flow["ts_end"] for flow in alone] == list(times.values())


def test_an_unknown_zone_stops_at_once(tmp_path: Path) -> None:
    for zone in ("Europe/Nowhere", "../etc/passwd", ""):
        with pytest.raises(ConfigError, match="no such time zone; give an IANA name"):
            pmacct(tmp_path, {}, query=f"&zone={zone}")


def test_pmacct_bins_marks_and_labels(tmp_path: Path) -> None:
    binned = {"timestamp_start": "0", "timestamp_end": "0", "stamp_inserted": "2026-07-01 14:00:00",
              "stamp_updated": "2026-07-01 14:05:01"}  # fmt: skip
    url = json_file(tmp_path / "x.json", {**PMACCT, **binned}, {"event_type": "purge_init", "writer_id": "x"},
                    {"event_type": "purge_close", "writer_id": "x"})  # fmt: skip
    (flow,), reasons, counters = flows_of(url)
    assert (reasons, dict(counters)) == ([], {"other_records": 2})
    assert flow["duration_us"] == 301_000_000
    assert (flow["label"], flow["attack"], flow["rev_bytes"], flow["exporter"]) == (None, None, None, "192.0.2.1")


def test_pmacct_icmp_stands_in_the_destination_port(tmp_path: Path) -> None:
    (flow,), _, _ = pmacct(tmp_path, {"ip_proto": "1", "port_src": 0, "port_dst": 3 * 256 + 1})
    assert (flow["icmp_type"], flow["icmp_code"], flow["dst_port"]) == (3, 1, 0)


def test_the_real_pmacct_outputs_give_what_was_added_up_by_hand(shared: Path) -> None:
    found = {}
    for path in sorted((shared / "data" / "exports" / "pmacct").glob("*/output-flow-00.json")):
        flows, reasons, counters = flows_of(f"file://{path}?order=source")
        assert (reasons, dict(counters)) == ([], {})
        found[path.parent.name[:3]] = [len(flows), *totals(flows, "bytes", "packets")]
    assert found == {
        "100": [12, 34_172, 34], "101": [51, 4_500, 56], "104": [3, 2_721_792, 30_976], "110": [72, 46_266, 197],
        "112": [9, 1_197, 19],
    }  # fmt: skip


UGR = "2016-07-27 13:43:21,48.380,187.96.221.207,42.219.153.7,53,5353,TCP,.AP.SF,0,0,2,209,background"


def ugr16(path: Path, *lines: str, query: str = "") -> tuple[list[dict[str, Any]], list[str]]:
    flows, reasons, _ = flows_of(text_file(path / "july.csv", lines) + query)
    return flows, reasons


def test_ugr16_is_known_by_its_thirteen_columns_once_named_and_its_time_is_the_end(tmp_path: Path) -> None:
    (flow,), reasons = ugr16(tmp_path, UGR, query="&dialect=ugr16&zone=Europe/Madrid")
    assert reasons == []
    assert flow["ts_end"] == datetime(2016, 7, 27, 11, 43, 21, tzinfo=UTC)
    assert flow["ts_start"] == datetime(2016, 7, 27, 11, 42, 32, 620_000, UTC)
    assert (flow["src_port"], flow["dst_port"], flow["proto"], flow["tcp_flags"]) == (53, 5353, 6, 16 | 8 | 2 | 1)
    assert (flow["packets"], flow["bytes"], flow["rev_packets"], flow["rev_bytes"]) == (2, 209, None, None)
    assert (flow["label"], flow["attack"], flow["sampling_rate"]) == ("background", None, 0)


def test_ugr16_labels_icmp_and_bad_lines(tmp_path: Path) -> None:
    icmp = UGR.replace("TCP,.AP.SF", "ICMP,......")
    lines = [UGR.replace("background", "nerisbotnet"), UGR.replace("background", "blacklist"),
             icmp.replace("5353", "3.10"), icmp.replace("5353", "2048"), icmp.replace("5353", "3.999"),
             UGR.replace(".AP.SF", ".AQ.SF"), UGR + ",more", UGR[:60]]  # fmt: skip
    flows, reasons = ugr16(tmp_path, *lines, query="&dialect=ugr16")
    assert [flow["label"] for flow in flows] == ["malicious", "malicious", "background", "background"]
    assert [flow["attack"] for flow in flows] == ["nerisbotnet", "blacklist", None, None]
    assert [(flow["icmp_type"], flow["icmp_code"]) for flow in flows[2:]] == [(3, 10), (8, 0)]
    assert sorted(reasons) == ["column `dp` is no port or ICMP type and code", "column `flg` is no TCP flags",
                               "not 13 fields", "not 13 fields"]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=13, max_size=13), max_size=4))
def test_ugr16_never_raises_whatever_stands_in_its_columns(rows: list[list[str]]) -> None:
    columns = {name: pa.array([row[at] for row in rows], pa.utf8()) for at, name in enumerate(UGR16.header)}
    read = read_flows(load_dialect("ugr16"), pa.table(columns))
    assert len(read.reasons) == len(rows) - read.flows.num_rows
