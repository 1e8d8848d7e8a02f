"""Suricata's eve.json: flow events, netflow events, and everything between."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from eddyline.errors import ConfigError
from tests.dialects.reading import flows_of, json_file, totals

FLOW: dict[str, Any] = {
    "timestamp": "2026-03-01T13:00:00.000000+0100", "flow_id": 1, "event_type": "flow", "src_ip": "10.0.0.1",
    "src_port": 4000, "dest_ip": "2001:DB8::0:2", "dest_port": 443, "proto": "TCP", "app_proto": "tls",
    "flow": {
        "pkts_toserver": 9, "pkts_toclient": 8, "bytes_toserver": 1_386, "bytes_toclient": 5_432,
        "start": "2026-03-01T12:59:00.250000+0100", "end": "2026-03-01T12:59:01.500001+0100", "age": 1,
        "state": "closed", "reason": "timeout",
    },
    "tcp": {"tcp_flags": "1f", "tcp_flags_ts": "1b", "tcp_flags_tc": "12"},
    "host": "sensor-1",
}  # fmt: skip
NETFLOW: dict[str, Any] = {
    **{name: value for name, value in FLOW.items() if name not in ("flow", "tcp")}, "event_type": "netflow",
    "netflow": {"pkts": 3, "bytes": 180, "start": FLOW["flow"]["start"], "end": FLOW["flow"]["end"], "min_ttl": 64},
    "tcp": {"tcp_flags": "1b"},
}  # fmt: skip
ALERT: dict[str, Any] = {**FLOW, "event_type": "alert", "alert": {"signature_id": 7, "metadata": {"tag": ["CINS"]}}}
STATS = {"timestamp": FLOW["timestamp"], "event_type": "stats", "stats": {"uptime": 7, "decoder": {"pkts": 1}}}


def test_a_flow_event_is_a_two_way_flow_at_the_times_of_the_flow(tmp_path: Path) -> None:
    (flow,), reasons, counters = flows_of(json_file(tmp_path / "eve.json", FLOW))
    assert (reasons, dict(counters)) == ([], {})
    assert flow["ts_start"] == datetime(2026, 3, 1, 11, 59, 0, 250_000, UTC)
    assert flow["ts_end"] == datetime(2026, 3, 1, 11, 59, 1, 500_001, UTC)
    assert flow["duration_us"] == 1_250_001
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (1_386, 9, 5_432, 8)
    assert (flow["tcp_flags"], flow["rev_tcp_flags"]) == (0x1B, 0x12)
    assert (flow["dst_addr"], flow["app"], flow["exporter"], flow["end_reason"]) == (
        "2001:db8::2",
        "tls",
        "sensor-1",
        3,
    )


def test_events_of_other_types_are_counted_and_are_neither_flows_nor_bad_records(tmp_path: Path) -> None:
    flows, reasons, counters = flows_of(
        json_file(tmp_path / "eve.json", STATS, ALERT, FLOW, NETFLOW, STATS, FLOW, query="&dialect=suricata")
    )
    assert [flow["source_row"] for flow in flows] == [2, 5]
    assert (reasons, dict(counters)) == ([], {"other_records": 4})


def test_a_bad_line_between_events_changes_nothing_for_its_neighbours(tmp_path: Path) -> None:
    url = json_file(
        tmp_path / "eve.json", ALERT, FLOW, {**FLOW, "src_ip": "nowhere"}, NETFLOW, FLOW, query="&dialect=suricata"
    )
    path = tmp_path / "eve.json"
    path.write_text(path.read_text() + path.read_text()[:300])  # the last line is cut, so all are read one by one
    flows, reasons, counters = flows_of(url)
    assert [flow["source_row"] for flow in flows] == [1, 4]
    assert sorted(reasons) == ["column `src_ip` is no address", "no JSON object"]
    assert dict(counters) == {"other_records": 2}
    (alone,), _, _ = flows_of(json_file(tmp_path / "alone.json", FLOW))
    assert {**alone, "source_row": 1} == flows[0]


def test_netflow_events_are_one_way_flows_of_their_own_dialect(tmp_path: Path) -> None:
    url = json_file(tmp_path / "eve.json", FLOW, NETFLOW, query="&dialect=suricata-netflow")
    (flow,), _, counters = flows_of(url)
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (180, 3, None, None)
    assert (flow["tcp_flags"], flow["rev_tcp_flags"], flow["duration_us"]) == (0x1B, None, 1_250_001)
    assert dict(counters) == {"other_records": 1}


def test_a_file_with_both_kinds_must_be_told_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="suricata, suricata-netflow"):
        flows_of(json_file(tmp_path / "eve.json", FLOW, NETFLOW).replace("?order=source", ""))


def test_icmp_and_reasons(tmp_path: Path) -> None:
    icmp = {**FLOW, "proto": "IPv6-ICMP", "icmp_type": 128, "icmp_code": 0, "app_proto": "failed",
            "flow": {**FLOW["flow"], "state": "new"}}  # fmt: skip
    ended = {**icmp, "flow": {**FLOW["flow"], "state": "established", "reason": "shutdown"}}
    for name in ("src_port", "dest_port", "tcp"):
        del icmp[name]
    (flow, other), _, _ = flows_of(json_file(tmp_path / "eve.json", icmp, ended))
    assert (flow["proto"], flow["icmp_type"], flow["icmp_code"], flow["src_port"]) == (58, 128, 0, 0)
    assert (flow["app"], flow["end_reason"], other["end_reason"]) == (None, 1, 4)


def test_the_real_files_give_what_was_added_up_by_hand(shared: Path) -> None:
    records = shared / "data" / "records"
    flows, reasons, counters = flows_of(f"file://{records / 'suricata_eve_flows.json'}?order=source")
    assert (len(flows), reasons, dict(counters)) == (2_000, [], {})
    assert totals(flows, "packets", "bytes", "rev_packets", "rev_bytes") == [19_050, 2_553_890, 6_620, 484_514]
    assert sum(flow["end_reason"] == 3 for flow in flows) == 971 + 63  # closed
    assert sum(flow["tcp_flags"] is not None for flow in flows) == 1_377
    assert (flows[2]["src_addr"], flows[2]["tcp_flags"], flows[2]["rev_tcp_flags"]) == ("91.238.203.56", 2, 0x14)
    assert flows[2]["ts_end"] == datetime(2021, 6, 6, 15, 34, 31, 141_012, UTC)
    flows, reasons, counters = flows_of(f"file://{records / 'suricata_eve_mixed.json'}")
    assert (len(flows), reasons, dict(counters)) == (8, [], {"other_records": 292})
