"""NetFlow through the collector and a broker that stalls to scores: nothing lost, nothing twice, memory bounded."""

import signal
import socket
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pyarrow as pa
import pytest

from eddyline.errors import SinkError
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
    sink = f"kafka://{address}/{topic}?queue.buffering.max.messages=4"  # full at once when the broker stalls
    collector = forks.command("collect", "--source", source, "--sink", sink)
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
                stalled = threading.Thread(target=broker.stall, args=(3,))  # 3 times as long as a member may be silent
                stalled.start()
            for site, exporter in exporters.items():
                assert exporter.send(minute(number, site, FLOWS)) == FLOWS
            time.sleep(0.1)
    stalled.join()
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


@pytest.mark.slow
def test_a_stop_waits_so_long_for_a_broker_and_then_says_how_many_flows_are_lost(broker: Broker, forks: Forks) -> None:
    topic, port = new_topic(broker.address), free_ports(1)[0]
    sink = f"kafka://{broker.address}/{topic}?queue.buffering.max.messages=2"
    collector = forks.command("collect", "--source", f"netflow://127.0.0.1:{port}", "--sink", sink,
                                    "--stop-s", 0.5, "--metrics", "")  # fmt: skip
    wait_until_listening(port)
    exporter = NetflowExporter("127.0.0.1", port)
    stalled = threading.Thread(target=broker.stall, args=(5,))
    stalled.start()
    for number in range(4):  # two records wait for the broker, the third for the buffer, the last in the socket
        assert exporter.send(minute(number, "hq", FLOWS)) == FLOWS
        time.sleep(0.5)
    exporter.close()
    forks.signal(collector, signal.SIGTERM)
    assert forks.wait(collector) == 1
    stalled.join()
    said = next(line for line in reversed(forks.lines()) if line.startswith("eddyline:"))
    assert "not written: up to 2 records with 120 flows since" in said
    assert said.endswith("are lost if by UDP")


def test_a_record_that_was_given_a_time_is_given_up_after_it_and_said_once(broker: Broker) -> None:
    from eddyline.sinks.kafka_flows import open_flow_topic  # needs the extra, without which this file skips

    url = f"kafka://{broker.address}/{new_topic(broker.address)}?message.timeout.ms=500"
    topic = open_flow_topic(url, meanwhile=lambda: True)
    stalled = threading.Thread(target=broker.stall, args=(2.5,))
    stalled.start()
    topic.send(minute(0, "hq", FLOWS))
    with pytest.raises(SinkError, match="timed out; not written: up to 1 records with 40 flows since the last commit"):
        topic.flush()
    topic.close()  # has nothing left to wait for
    stalled.join()


@pytest.mark.slow
def test_a_broker_that_is_away_at_the_start_is_a_failure_that_a_supervisor_may_try_again(forks: Forks) -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    collector = forks.command("collect", "--source", f"netflow://127.0.0.1:{free_ports(1)[0]}",
                                    "--sink", f"kafka://{address}/flows", "--metrics", "")  # fmt: skip
    replica = forks.start("--source", f"kafka://{address}/flows", "--sink", f"kafka://{address}/out", *EXACTLY)
    assert (forks.wait(collector), forks.wait(replica)) == (1, 1)
    for step in ("target", "source"):
        assert any(line.startswith(f"eddyline: kafka {step}: kafka://{address}/flows does not answer: ")
                   for line in forks.lines())  # fmt: skip


def sizes(flows: pa.Table) -> list[int]:
    return [int(size) for size in flows["bytes"].to_pylist()]


def wait_until_listening(port: int) -> None:
    """Return when somebody has bound the UDP port."""
    until = time.monotonic() + 60
    while f":{port:04X} " not in Path("/proc/net/udp").read_text() + Path("/proc/net/udp6").read_text():
        assert time.monotonic() < until, f"nobody listens on UDP port {port} after a minute"
        time.sleep(0.05)
