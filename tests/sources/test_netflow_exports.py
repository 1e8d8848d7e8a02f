"""Exports of real devices: every file gives what its golden file says, or its datagrams are counted and kept."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from eddyline.flows import PROTOCOLS, FlowBatch
from eddyline.sources.netflow.decoder import Decoder
from tests.sources.netflow_bytes import EXPORTS, export, payloads

E = "198.51.100.1"
FLAGS = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "CWR": 128}
REASONS = {"idle timeout": 1, "active timeout": 2, "end of flow": 3, "forced end": 4}


def datagrams(files: Iterable[Path]) -> list[tuple[str, bytes]]:
    """Templates first, where they are files of their own."""
    found: list[tuple[str, bytes]] = []
    for file in sorted(files, key=lambda file: ("tpl" not in file.name, file.name)):
        found += payloads(file.read_bytes()) if file.suffix == ".pcap" else [(E, file.read_bytes())]
    return found


def decode(names: Sequence[str]) -> FlowBatch:
    return Decoder().decode(datagrams(EXPORTS / name for name in names), last=True)


def golden(folder: str) -> list[dict[str, Any]]:
    """Lines of a telegraf golden file: field to number or text."""
    found = []
    for line in export(f"telegraf/{folder}/expected.out").decode().splitlines():
        fields = re.findall(r'(\w+)=("[^"]*"|[^,\s]*)', line)
        found.append({key: text.strip('"') if text[:1] == '"' else text.rstrip("u") for key, text in fields})
        found[-1]["options"] = line.startswith("netflow_options")
    return [row for row in found if "src" in row]


def telegraf(row: dict[str, Any]) -> tuple[Any, ...]:
    octets, packets = (row.get(f"in_{unit}", row.get(f"in_total_{unit}")) for unit in ("bytes", "packets"))
    reverse = [
        row.get(f"type_29305_{element}", row.get(f"rev_total_{unit}_out"))
        for element, unit in ((85, "bytes"), (86, "packets"))
    ]
    times = [int(row[name]) if name in row else None for name in ("flow_start_ms", "flow_end_ms")]
    return (
        row["src"], row["dst"], int(row["src_port"]), int(row["dst_port"]), PROTOCOLS[row["protocol"]],
        int(octets or 0), int(packets or 0), *times, REASONS.get(row.get("flow_end_reason", "")),
        *(int(each, 16) if each else None for each in reverse),
    )  # fmt: skip


def ours(row: dict[str, Any]) -> tuple[Any, ...]:
    times = [round(row[name].timestamp() * 1000) for name in ("ts_start", "ts_end")]
    names = ("src_addr", "dst_addr", "src_port", "dst_port", "proto", "bytes", "packets")
    return (*(row[name] for name in names), *times, row["end_reason"], row["rev_bytes"], row["rev_packets"])


@pytest.mark.parametrize("folder", ["ipfix_example", "ipfix_pen_35632", "issue_13305"])
def test_yaf_and_nprobe_give_flow_for_flow_what_telegraf_reads(folder: str) -> None:
    want = Counter(map(telegraf, golden(folder)))
    batch = decode([f"telegraf/{folder}/{file.name}" for file in (EXPORTS / "telegraf" / folder).glob("*.bin")])
    assert batch.rejected.num_rows == 0
    assert Counter(map(ours, batch.table.to_pylist())) == want
    assert want.total() > 1


def pmacct(row: dict[str, Any]) -> tuple[tuple[Any, ...], Counter[str], int]:
    proto = row["ip_proto"]
    number = PROTOCOLS[proto] if proto in PROTOCOLS else int(proto)
    key = (row["ip_src"], row["ip_dst"], row["port_src"], row["port_dst"], number, row["tos"])
    flags = sum(FLAGS[name] for name in row["tcp_flags"])
    return key, Counter(bytes=row["bytes"], packets=row["packets"]), flags


def read(row: dict[str, Any], scale: int) -> tuple[tuple[Any, ...], Counter[str], int]:
    key = tuple(row[name] for name in ("src_addr", "dst_addr", "src_port", "dst_port", "proto", "tos"))
    return key, Counter(bytes=scale * row["bytes"], packets=scale * row["packets"]), row["tcp_flags"]


def added(rows: Iterable[tuple[tuple[Any, ...], Counter[str], int]]) -> dict[tuple[Any, ...], tuple[Counter[str], int]]:
    found: dict[tuple[Any, ...], tuple[Counter[str], int]] = {}
    for key, counters, flags in rows:
        before, seen = found.get(key, (Counter(), 0))
        found[key] = (before + counters, seen | flags)
    return found


@pytest.mark.parametrize(
    ("folder", "flows"),
    [
        ("100-IPFIXv10-CISCO", 12),
        ("101-NFv9-CISCO-cust_primitives", 51),
        ("104-IPFIXv10-IPv6-CISCO-sampling_option", 3),
        ("110-IPFIXv10-NFv9-multiple-sources", 98),
        ("112-IPFIXv10-CISCO-options-map-reassignment", 9),
    ],
)
def test_cisco_and_huawei_give_the_counters_that_pmacct_reads(folder: str, flows: int) -> None:
    """pmacct adds up the flows of a key and, in folder 104, scales them by the sampling rate."""
    lines = export(f"pmacct/{folder}/output-flow-00.json").decode().splitlines()
    captures = (EXPORTS / "pmacct" / folder).glob("*.pcap")
    batch = decode([str(file.relative_to(EXPORTS)) for file in captures])
    scaled = folder.startswith("104")
    rows = [read(row, row["sampling_rate"] if scaled else 1) for row in batch.table.to_pylist()]
    assert len(batch) == flows
    assert added(rows) == added(pmacct(json.loads(line)) for line in lines)


CUT = "sets do not add up"
ACCOUNT = {  # file, or all files that begin like that: flows, and why how many datagrams were kept as bad
    "graylog-plugin/netflow-v5-1": (0, {"v5 header says 2 records": 1}),
    "graylog-plugin/netflow-v5-2": (30, {}),
    "graylog-plugin/netflow-v9-1": (0, {CUT: 1}),
    "graylog-plugin/netflow-v9-2": (2, {}),
    "graylog-plugin/netflow-v9-3_incomplete": (0, {"v9 template 257 never came": 1}),
    "graylog-plugin/netflow5.pcap": (4, {}),
    "graylog-plugin/netflow9.pcap": (21, {}),
    "graylog-plugin/netgraph-netflow5.pcap": (120, {}),
    "graylog-plugin/nprobe-netflow9.pcap": (152, {}),
    "graylog-plugin/nprobe-netflow9-2": (6, {}),
    "graylog-plugin/nprobe-netflow9-3": (892, {}),
    "graylog-plugin/nprobe-netflow9-4": (15, {}),
    "graylog-plugin/pmacctd-netflow5": (42, {}),
    "graylog-plugin/pmacctd-netflow9": (6, {}),
    "logstash/ipfix.dat": (0, {CUT: 1}),  # a file of two messages; test_netflow_tcp.py reads it as a stream
    "logstash/ipfix_test_barracuda_data256+logstash/ipfix_test_barracuda_tpl": (8, {}),
    "logstash/ipfix_test_barracuda_extended": (2, {}),
    "logstash/ipfix_test_juniper": (0, {}),  # options only
    "logstash/ipfix_test_nokia": (1, {}),
    "logstash/ipfix_test_openbsd": (26, {}),
    "logstash/ipfix_test_viptela": (1, {}),
    "logstash/ipfix_test_yaf": (2, {}),
    "logstash/netflow5": (29, {}),
    "logstash/netflow9_test_field": (1, {}),
    "logstash/netflow9_test_h3c_data+logstash/netflow9_test_h3c_tpl": (16, {}),
    "logstash/netflow9_test_h3c_netstream": (1, {}),
    "logstash/netflow9_test_invalid": (2, {}),
    "logstash/netflow9_test_juniper": (0, {}),  # options only
    "logstash/netflow9_test_macaddr": (29, {}),
    "logstash/netflow9_test_nprobe_data+logstash/netflow9_test_nprobe_tpl": (1, {}),
    "logstash/netflow9_test_nprobe_dpi": (0, {"v9 data set of 100 bytes": 1}),
    "logstash/netflow9_test_softflowd": (7, {}),
    "logstash/netflow9_test_streamcore": (4, {}),
    "logstash/netflow9_test_ubnt": (16, {}),
    "logstash/netflow9_test_unknown": (2, {}),
    "logstash/netflow9_test_valid": (7, {}),
    "pmacct/100": (12, {}),
    "pmacct/101": (51, {}),
    "pmacct/104": (3, {}),
    "pmacct/110": (98, {}),
    "pmacct/112": (9, {"IPFIX template 341 never came": 1, "IPFIX template 342 never came": 1}),
    "telegraf/ipfix_example": (29, {}),
    "telegraf/ipfix_options": (0, {}),  # options only
    "telegraf/ipfix_pen_35632": (2, {}),
    "telegraf/issue_13305": (2, {}),
    "telegraf/issue_14370": (0, {CUT: 1}),  # two bytes longer than its header says
    "telegraf/netflow_v5_example": (8, {}),
    "telegraf/netflow_v9_example": (8, {}),
    "telegraf/netflow_v9_options": (0, {}),  # options only
    "telegraf/sflow": (0, {"not NetFlow v5 or v9, nor IPFIX": 4}),
}


def files_of(begins: str) -> list[Path]:
    folder = EXPORTS if EXPORTS.exists() else None
    if folder is None:
        pytest.skip("the shared export fixtures are not beside this checkout")
    kinds = (".dat", ".bin", ".pcap")
    names = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.suffix in kinds}
    return [file for name, file in names.items() if name.startswith(tuple(begins.split("+")))]


@pytest.mark.parametrize("begins", ACCOUNT)
def test_every_export_is_flows_or_kept_with_its_reason(begins: str) -> None:
    flows, reasons = ACCOUNT[begins]
    sent = datagrams(files_of(begins))
    batch = Decoder().decode(sent, last=True)
    found = batch.rejected["reason"].to_pylist()
    assert {known: sum(known in reason for reason in found) for known in reasons} == reasons
    assert (len(batch), len(found)) == (flows, sum(reasons.values()))
    assert set(batch.rejected["raw"].to_pylist()) <= {raw for _, raw in sent}


def test_no_export_is_left_out() -> None:
    assert set().union(*(files_of(begins) for begins in ACCOUNT)) == set(files_of(""))


def test_a_yaf_biflow_is_what_its_bytes_say() -> None:
    row = decode([f"logstash/ipfix_test_yaf_{name}.dat" for name in ("tpl45841", "data45841")]).table.to_pylist()[0]
    # From byte 20: start 0159 360fb3aa and end ..ab, 84 and c8 bytes, 2 and 2 packets, ac1020c9, ac102064, b406, 35.
    assert [round(row[name].timestamp() * 1000) for name in ("ts_start", "ts_end")] == [0x159360FB3AA, 0x159360FB3AB]
    assert (row["bytes"], row["rev_bytes"], row["packets"], row["rev_packets"]) == (0x84, 0xC8, 2, 2)
    assert (row["src_addr"], row["dst_addr"]) == ("172.16.32.201", "172.16.32.100")
    assert (row["src_port"], row["dst_port"], row["proto"], row["end_reason"]) == (0xB406, 53, 17, 1)


def test_a_viptela_flow_is_what_its_bytes_say() -> None:
    row = decode([f"logstash/ipfix_test_viptela_{name}257.dat" for name in ("tpl", "data")]).table.to_pylist()[0]
    # From byte 20: 8 and 4 of its own, 0a710736, ac10151b, 0c, 01bb, a2f5, 06, 5a1438ef twice; 0307 bytes, 8 packets.
    assert (row["src_addr"], row["dst_addr"]) == ("10.113.7.54", "172.16.21.27")
    assert (row["src_port"], row["dst_port"], row["proto"]) == (0xA2F5, 443, 6)
    assert (row["bytes"], row["packets"], row["tcp_flags"], row["end_reason"]) == (0x307, 8, 0x10, 3)
    assert (row["ts_start"].timestamp(), row["duration_us"]) == (0x5A1438EF, 0)
