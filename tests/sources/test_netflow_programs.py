"""The same export read by our collector and by nfcapd, from an exporter that nobody here wrote: flow for flow equal."""

from __future__ import annotations

import socket
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from eddyline.sources.netflow.udp import NetflowSource
from tests.programs import nfdump_reads, softflowd

PCAPS = Path(__file__).parents[2] / ".." / "shared" / "data" / "pcaps"
UNSET = "1970-01-01T00:00:00.000"
# What nfdump 1.7.1 does of its own: an uptime of 0 is 1970, the ends of softflowd's IPFIX are exchanged, and a
# biflow has the tos and the flags of its reverse half.
OWN = "nfdump differs beyond what it does of its own"


def exported(pcap: Path, *options: str) -> list[bytes]:
    """The datagrams that softflowd makes of a capture."""
    if not pcap.exists():
        pytest.skip("the shared captures are not beside this checkout")
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        end.bind(("127.0.0.1", 0))
        softflowd(pcap, *options, port=end.getsockname()[1])
        end.setblocking(False)
        while True:
            try:
                found.append(end.recv(65_535))
            except BlockingIOError:
                return found


def send(datagrams: list[bytes], port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for raw in datagrams:
            end.sendto(raw, ("127.0.0.1", port))
            time.sleep(0.001)


def collected(datagrams: list[bytes]) -> list[dict[str, Any]]:
    source = NetflowSource("127.0.0.1", 0)
    send(datagrams, source.port)
    batches = iter(source)
    tables = [next(batches).table]
    source.close()
    tables += [batch.table for batch in batches]
    assert source.counters["rejected"] == 0
    return list(pa.concat_tables(tables).to_pylist())


def milliseconds(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds")


def theirs(flow: dict[str, Any]) -> tuple[Any, ...]:
    ends = [flow.get("src4_addr", flow.get("src6_addr")), flow.get("dst4_addr", flow.get("dst6_addr"))]
    ports = [flow.get("src_port", 0), flow.get("dst_port", 0)]
    icmp = [flow.get("icmp_type"), flow.get("icmp_code")] if flow["proto"] in (1, 58) else [None, None]
    counters = [flow[name] for name in ("in_packets", "in_bytes")] + [
        flow.get(name) for name in ("out_packets", "out_bytes")
    ]
    tos = flow["src_tos"] if counters[2] is None else None
    return (*ends, *ports, *icmp, flow["proto"], tos, *counters)


def ours(flow: dict[str, Any]) -> tuple[Any, ...]:
    names = ("src_addr", "dst_addr", "src_port", "dst_port", "icmp_type", "icmp_code", "proto", "tos", "packets",
             "bytes", "rev_packets", "rev_bytes")  # fmt: skip
    return tuple(None if name == "tos" and flow["rev_packets"] is not None else flow[name] for name in names)


def flags(flow: dict[str, Any]) -> str:
    last = flow["tcp_flags"] if flow["rev_tcp_flags"] is None else flow["rev_tcp_flags"]
    return "".join(name if last >> bit & 1 else "." for bit, name in zip(range(7, -1, -1), "CEUAPRSF", strict=True))


@pytest.mark.parametrize(
    ("pcap", "options"),
    [
        ("malcolm_DNS.pcap", ("-v", "5")),
        ("malcolm_DNS.pcap", ("-v", "9")),
        ("malcolm_DNS.pcap", ("-v", "10")),
        ("zeek-training_07-chatty-pairs.pcap", ("-v", "9")),
        ("ndpi_teams.pcap", ("-v", "10", "-A", "milli")),
        ("ndpi_teams.pcap", ("-v", "10", "-b")),
    ],
)
def test_softflowd_gives_us_and_nfdump_the_same_flows(pcap: str, options: tuple[str, ...], tmp_path: Path) -> None:
    datagrams = exported(PCAPS / pcap, *options)
    read = nfdump_reads(lambda port: send(datagrams, port), tmp_path)
    flows = collected(datagrams)
    assert len(flows) > 50
    assert Counter(map(theirs, read)) == Counter(map(ours, flows))
    unset = sum(flow["first"] == UNSET for flow in read)
    assert unset <= 2, OWN
    dated = Counter((*theirs(flow), *sorted((flow["first"], flow["last"]))) for flow in read if flow["first"] != UNSET)
    here = Counter((*ours(flow), milliseconds(flow["ts_start"]), milliseconds(flow["ts_end"])) for flow in flows)
    assert (here - dated).total() == unset, OWN
    assert not dated - here
    tcp = Counter(flow["tcp_flags"] for flow in read if flow["proto"] == 6)
    assert tcp == Counter(flags(flow) for flow in flows if flow["proto"] == 6)


@pytest.mark.parametrize(("clock", "width_us"), [("sec", 1_000_000), ("milli", 1000), ("micro", 1), ("nano", 1)])
def test_softflowd_times_are_the_same_in_every_unit(clock: str, width_us: int) -> None:
    pcap = PCAPS / "ndpi_teams.pcap"
    exact = {ours(flow): flow for flow in collected(exported(pcap, "-v", "10", "-A", "nano"))}
    flows = collected(exported(pcap, "-v", "10", "-A", clock))
    assert len(flows) == len(exact) > 50
    for flow in flows:
        for name in ("ts_start", "ts_end"):
            us = round(exact[ours(flow)][name].timestamp() * 1e6)
            assert us - us % width_us == round(flow[name].timestamp() * 1e6)
