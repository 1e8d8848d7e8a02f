"""Argus text (CTU-13) and the UNSW-NB15 files that argus wrote."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from eddyline.dialects import ReadFlows, load_dialect, read_flows


def argus(**columns: Any) -> ReadFlows:
    rows = len(next(iter(columns.values())))
    given = {
        "starttime": ["2011/08/10 09:46:53.047277"] * rows,
        "dur": ["3550.182373"] * rows,
        "proto": ["udp"] * rows,
        "srcaddr": ["212.50.71.179"] * rows,
        "dstaddr": ["147.32.84.229"] * rows,
    }
    return read_flows(load_dialect("argus"), pa.table({**given, **columns}))


def test_start_times_without_zone_are_utc() -> None:
    row = argus(sport=["39678"]).flows.to_pylist()[0]
    assert row["ts_start"] == datetime(2011, 8, 10, 9, 46, 53, 47_277, UTC)
    assert row["ts_end"] == datetime(2011, 8, 10, 10, 46, 3, 229_650, UTC)
    assert row["duration_us"] == 3_550_182_373


def test_packets_are_split_only_with_source_packets() -> None:
    row = argus(totpkts=["12"], totbytes=["875"], srcbytes=["413"]).flows.to_pylist()[0]
    assert (row["packets"], row["rev_packets"], row["bytes"], row["rev_bytes"]) == (12, None, 413, 462)
    row = argus(totpkts=["12"], srcpkts=["7"], totbytes=["875"], srcbytes=["413"]).flows.to_pylist()[0]
    assert (row["packets"], row["rev_packets"]) == (7, 5)
    assert argus(totbytes=["10"], srcbytes=["11"]).reasons == ["column `totbytes` is less than `srcbytes`"]


def test_ports_may_be_hexadecimal_names_or_empty() -> None:
    found = argus(
        proto=["udp", "udp", "udp", "arp", "igmp", "tcp", "tcp"],
        sport=["0x0035", "domain", "", "", "", "no-such-service", "70000"],
    )
    assert found.flows["src_port"].to_pylist() == [53, 53, None, None, 0]
    assert found.flows["proto"].to_pylist() == [17, 17, 17, None, 2]
    assert found.reasons == ["column `sport` is no port or known service", "column `sport` is not from 0 to 65535"]


def test_icmp_stands_in_the_source_port_low_byte_first() -> None:
    found = argus(
        proto=["icmp", "icmp", "icmp", "ipv6-icmp", "icmp"],
        sport=["0x0303", "0x0008", "0x0103", "135", "0xc0a8"],
        dport=["0x0ecc", "0x5ec3", "0x0000", "0", "0xc0a8"],
    )
    assert found.flows["icmp_type"].to_pylist() == [3, 8, 3, 135, None]  # 168 is no ICMP type
    assert found.flows["icmp_code"].to_pylist() == [3, 0, 1, 0, None]
    assert found.flows["src_port"].to_pylist() == [0] * 5
    assert found.flows["dst_port"].to_pylist() == [0] * 5


def test_tcp_flags_stand_left_and_right_of_the_underscore() -> None:
    found = argus(proto=["tcp", "tcp", "tcp", "udp"], state=["FSPA_FSA", "S_", "RST", "S_RA"])
    assert found.flows["tcp_flags"].to_pylist() == [27, 2, None, None]
    assert found.flows["rev_tcp_flags"].to_pylist() == [19, 0, None, None]


def test_ctu_labels() -> None:
    texts = [
        "flow=From-Botnet-V42-UDP-DNS",
        "flow=From-Normal-V42-Jist",
        "flow=Background",
        "flow=Malware-TCP",
        "",
        "x",
    ]
    found = argus(label=texts)
    assert found.flows["label"].to_pylist() == ["malicious", "benign", "background", "malicious", None, None]
    assert found.flows["attack"].to_pylist() == ["From-Botnet-V42-UDP-DNS", None, None, "Malware-TCP", None, None]


def test_management_records_are_no_flows() -> None:
    found = argus(proto=["man", "llc"], srcaddr=["0", "00:00:00:00:00:00"])
    assert found.reasons == ["argus management record, no flow"]
    assert found.flows["src_addr"].to_pylist() == ["00:00:00:00:00:00"]


def unsw(**columns: Any) -> ReadFlows:
    rows = len(next(iter(columns.values())))
    given = {
        "srcip": ["59.166.0.0"] * rows,
        "dstip": ["149.171.126.6"] * rows,
        "proto": ["tcp"] * rows,
        "dur": ["0.5"] * rows,
        "stime": ["100"] * rows,
        "ltime": ["100"] * rows,
    }
    return read_flows(load_dialect("unsw"), pa.table({**given, **columns}))


def test_unsw_flows_end_at_the_later_of_both_clocks() -> None:
    flows = unsw(ltime=["100", "158"]).flows
    assert flows["ts_end"].to_pylist() == [
        datetime(1970, 1, 1, 0, 1, 40, 500_000, UTC),
        datetime(1970, 1, 1, 0, 2, 38, 0, UTC),
    ]
    assert flows["duration_us"].to_pylist() == [500_000, 500_000]


def test_unsw_ports_services_and_attacks() -> None:
    found = unsw(
        proto=["tcp", "icmp", "arp", "unas"],
        sport=["1390", "0x000b", "-", "0"],
        dsport=["0x0050", "0x20205321", "-", "0"],
        service=["http", "-", "-", "-"],
        attack_cat=["", " Fuzzers ", "", ""],
        label=["0", "1", "0", "0"],
    )
    assert found.good.all()
    rows = found.flows.to_pylist()
    assert [row["dst_port"] for row in rows] == [80, 0, None, 0]
    assert [row["proto"] for row in rows] == [6, 1, None, None]
    assert (rows[1]["icmp_type"], rows[1]["icmp_code"]) == (11, 0)
    assert [row["app"] for row in rows] == ["http", None, None, None]
    assert [row["attack"] for row in rows] == [None, "Fuzzers", None, None]
    assert [row["label"] for row in rows] == ["benign", "malicious", "benign", "benign"]
