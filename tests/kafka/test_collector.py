"""NetFlow through the collector and a broker that stalls to scores: nothing lost, nothing twice, memory bounded."""

import signal
import socket
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa
import pytest

from eddyline.sinks.netflow import NetflowExporter
from tests.kafka.broker import Broker, free_ports
from tests.kafka.feeding import EXACTLY, FLOWS, QUICK, finish
from tests.kafka.forks import Forks
from tests.kafka.topics import consume, minute, new_topic, wait_for_flows
from tests.kafka.traffic import PARTITIONS, SENDERS
from tests.kafka.watching import rss_mib

MINUTES, STALLED = 24, 8
GROWTH_MIB = 64


@pytest.mark.slow
def test_a_broker_that_stalls_holds_collector_and_replica_up_and_costs_nothing(
    broker: Broker, forks: Forks, tmp_path: Path
) -> None:
    address, topic, port = broker.address, new_topic(broker.address, PARTITIONS), free_ports(1)[0]
    (tmp_path / "sites").write_text("".join(f"{sender}/32 = {site}\n" for sender, site in SENDERS.items()))
    source = f"netflow://127.0.0.1:{port}?sites={tmp_path}/sites"
    collector = forks.command("collect", "--source", source, "--sink", f"kafka://{address}/{topic}")
    replica = forks.start(
        "--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut", *EXACTLY
    )
    wait_until_listening(port)
    with ExitStack() as ends:
        exporters = {
            site: ends.enter_context(closing(NetflowExporter("127.0.0.1", port, sender=sender)))
            for sender, site in SENDERS.items()
        }
        for number in range(MINUTES):
            if number == STALLED:
                wait_for_flows(address, f"{topic}-cut", 2 * FLOWS)
                before = [rss_mib(process) for process in (collector, replica)]
                broker.stall(3)  # three times as long as a member may be silent
            for site, exporter in exporters.items():
                assert exporter.send(minute(number, site, FLOWS)) == FLOWS
            time.sleep(0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        stranger.sendto(b"\x00\x07 no NetFlow", ("127.0.0.1", port))
    wait_for_flows(address, f"{topic}-cut", (MINUTES - 1) * len(SENDERS) * FLOWS)
    after = [rss_mib(process) for process in (collector, replica)]
    for process in (replica, collector):
        forks.signal(process, signal.SIGTERM)
        assert forks.wait(process) == 0, forks.log.read_text()[-3000:]
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    sent = [(site, size) for site in SENDERS.values() for n in range(MINUTES) for size in sizes(minute(n, site, FLOWS))]
    assert [one[:2] for one in sorted(cut, key=lambda one: one[:2])] == sorted(sent)
    assert all(0 < now < then + GROWTH_MIB for then, now in zip(before, after, strict=True)), (before, after)
    (letter,) = consume(address, f"{topic}.dead-letters")
    assert (letter.value, letter.headers["origin"]) == (b"\x00\x07 no NetFlow", "127.0.0.2")
    assert letter.headers["reason"] == "not NetFlow v5 or v9, nor IPFIX"


def sizes(flows: pa.Table) -> list[int]:
    return [int(size) for size in flows["bytes"].to_pylist()]


def wait_until_listening(port: int) -> None:
    """Return when somebody has bound the UDP port."""
    until = time.monotonic() + 60
    while f":{port:04X} " not in Path("/proc/net/udp").read_text() + Path("/proc/net/udp6").read_text():
        assert time.monotonic() < until, f"nobody listens on UDP port {port} after a minute"
        time.sleep(0.05)
