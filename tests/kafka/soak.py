"""`make soak`: the whole service for ten minutes, replicas killed every minute, the broker restarted once.

Our exporters send NetFlow v9 over UDP at a steady rate -> `eddyline collect` -> Kafka -> two replicas of `eddyline run
--delivery exactly_once` -> Kafka, and a reader of committed records looks on. It ends with exit status 1 where a
promise is broken: every exported flow has exactly one score, and no process grows.

SOAK_SECONDS (600), SOAK_RATE (flows per second, 600), SOAK_AWAY_S (how long the broker is away besides its own start,
a twentieth of SOAK_SECONDS).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from tests.kafka.broker import Broker, NoBroker, free_ports
from tests.kafka.topics import ONE_THREAD, new_topic
from tests.kafka.traffic import PARTITIONS, SENDERS, SPEED, Traffic
from tests.kafka.watching import Watcher, rss_mib

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
RATE = int(os.environ.get("SOAK_RATE", "600"))
AWAY_S = float(os.environ.get("SOAK_AWAY_S", SECONDS / 20))
KILL_EVERY_S = min(60.0, SECONDS / 4)
BROKER_AT_S = (SECONDS // KILL_EVERY_S // 2 + 0.75) * KILL_EVERY_S  # between two kills
WARM_S = 30.0  # after its start, until a process has its working memory
LATENESS_US = 10_000_000
GROWTH, ALLOWANCE_MIB = 1.15, 32.0  # of what a process has when it is warm
UNREACHED = "the listener and security.protocol"
ROOT = Path(__file__).parents[2]


class Service:
    """One `eddyline` process, started again after a kill; `lives` has the memory of each, MiB: (warm, last)."""

    def __init__(self, name: str, folder: Path, *arguments: object) -> None:
        self.name, self._log = name, folder / f"{name}.txt"
        self._command = [sys.executable, "-m", "eddyline.cli", *map(str, arguments), "--metrics", ""]
        self.lives: list[list[float]] = []
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=ONE_THREAD, cwd=ROOT)
        self._began, self._measured = time.monotonic(), [0.0, 0.0]

    def look(self) -> None:
        """Note its memory; raises if it has ended by itself."""
        if self._process.poll() == 1 and self.said().rstrip().endswith(UNREACHED):
            say(f"        {self.name} was just starting while the broker was away; started again, as a supervisor does")
            self.start()
        if self._process.poll() is not None:
            raise SystemExit(f"soak: {self.name} ended with {self._process.returncode}: {self.said()}")
        now = rss_mib(self._process.pid)
        if time.monotonic() - self._began >= WARM_S:
            self._measured = [self._measured[0] or now, now]

    def end(self, number: int, seconds: float = 180) -> int:
        """Send a signal and wait; the exit status."""
        self._process.send_signal(number)
        status = self._process.wait(seconds)
        if self._measured[0]:
            self.lives.append(self._measured)
        return status

    def said(self) -> str:
        return self._log.read_text()[-2000:]


@contextmanager
def services(address: str, folder: Path, topic: str) -> Iterator[tuple[int, Service, list[Service]]]:
    """The collector, on a free UDP port, and two replicas; killed if they are left behind."""
    port = free_udp_port()
    sites = folder / "sites"
    sites.write_text("".join(f"{sender} = {site}\n" for sender, site in SENDERS.items()))
    source = f"netflow://127.0.0.1:{port}?sites={sites}"
    out = f"kafka://{address}/{topic}-out"
    with ExitStack() as ends:
        collector = Service("collector", folder, "collect", "--source", source, "--sink", f"kafka://{address}/{topic}")
        ends.callback(collector._process.kill)
        run = ("run", "--delivery", "exactly_once", "--source", f"kafka://{address}/{topic}", "--sink", out)
        replicas = [Service(f"replica-{number}", folder, *run) for number in (1, 2)]
        for replica in replicas:
            ends.callback(lambda replica=replica: replica._process.kill())
        yield port, collector, replicas


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Run it and say what came of each promise."""
    with tempfile.TemporaryDirectory(prefix="eddyline-soak-") as name, ExitStack() as ends:
        folder = Path(name)
        try:
            broker = Broker(folder, free_ports(4))
            broker.start()
        except NoBroker as reason:
            raise SystemExit(f"soak: {reason}") from reason
        ends.callback(broker.stop)
        topic = new_topic(broker.address, PARTITIONS)
        with services(broker.address, folder, topic) as (port, collector, replicas):
            wait_until_reading(folder, topic, replicas)
            watcher = Watcher(broker.address, f"{topic}-out", f"{topic}-out.alerts")
            traffic = Traffic(port, RATE, SECONDS)
            say(f"soak: {traffic.rate:,.0f} flows/s as NetFlow v9 for {SECONDS:,.0f} s, dated {SPEED} times faster")
            say(f"soak: a replica is killed every {KILL_EVERY_S:.0f} s, the broker restarts after {BROKER_AT_S:.0f} s")
            traffic.start()
            disturb(traffic, broker, collector, replicas)
            drain(broker.address, folder, topic, collector, replicas)
        broken = judge(traffic, watcher, [collector, *replicas])
        for line in broken:
            say(f"soak: BROKEN: {line}")
        if broken:
            for log in sorted(folder.glob("*.txt")):
                say(f"--- {log.name}\n{log.read_text()[-3000:]}")
    say("soak: every promise was kept" if not broken else f"soak: {len(broken)} promises are broken")
    sys.exit(bool(broken))


def wait_until_reading(folder: Path, topic: str, replicas: list[Service]) -> None:
    """Return when both partitions are read and the collector listens."""
    until = time.monotonic() + 300
    while True:
        said = "".join((folder / f"{replica.name}.txt").read_text() for replica in replicas)
        if all(f"{topic}/{number} is read here now" in said for number in range(PARTITIONS)):
            return
        if time.monotonic() > until:
            raise SystemExit(f"soak: the replicas do not read after five minutes: {said}")
        time.sleep(0.2)


def disturb(traffic: Traffic, broker: Broker, collector: Service, replicas: list[Service]) -> None:
    """Kill and restart while the traffic lasts, and note the memory of everyone every second."""
    began, kills, restarted = time.monotonic(), 0, False
    while traffic.is_alive():
        passed = time.monotonic() - began
        for service in (collector, *replicas):
            service.look()
        if passed >= (kills + 1) * KILL_EVERY_S and passed < SECONDS - 5:
            victim = replicas[kills % 2]
            victim.end(signal.SIGKILL)
            victim.start()
            kills += 1
            say(f"{passed:6.0f} s: {victim.name} killed and started again")
        if not restarted and passed >= BROKER_AT_S:
            broker.stop()
            time.sleep(AWAY_S)
            broker.start()
            restarted = True
            say(f"{passed:6.0f} s: broker restarted within {time.monotonic() - began - passed:.1f} s")
        time.sleep(1.0)
    say(f"{time.monotonic() - began:6.0f} s: traffic over, {kills} kills; the latest datagrams left "
        f"{traffic.behind_s:.2f} s after they were due")  # fmt: skip


def drain(address: str, folder: Path, topic: str, collector: Service, replicas: list[Service]) -> None:
    """Stop everyone, then let one more run read the topic to its end and close the last windows."""
    time.sleep(2)
    assert collector.end(signal.SIGTERM) == 0, collector.said()
    say("\n".join(f"  {line}" for line in collector.said().splitlines() if "flows/s" not in line))
    for replica in replicas:
        assert replica.end(signal.SIGTERM) == 0, replica.said()
    last = Service(
        "last", folder, "run", "--delivery", "exactly_once", "--source", f"kafka://{address}/{topic}?until=end",
        "--sink", f"kafka://{address}/{topic}-out",
    )  # fmt: skip
    assert last._process.wait(300) == 0, last.said()


def judge(traffic: Traffic, watcher: Watcher, everyone: list[Service]) -> list[str]:
    """Say the numbers; what is broken."""
    scored = watcher.finish()
    broken = []
    for site, sent in traffic.sent.items():
        found = scored.get(site, np.zeros((2, 0), np.int64))
        once = np.array_equal(by_time(sent), by_time(found))
        say(f"site {site}: {sent.shape[1]:,} flows exported, {found.shape[1]:,} scores")
        if not once:
            broken.append(f"site {site}: {lost_and_twice(sent, found)}")
    if watcher.scoreless:
        broken.append(f"{watcher.scoreless} flows have a score that is no number")
    say(f"late flows: {watcher.late:,}; alert records: {len(watcher.alerts):,}")
    windows = [(site, end_us, seen_us) for (site, end_us), seen_us in watcher.windows.items()]
    for what, seen in (("scores", windows), ("alerts", watcher.alerts)):
        say_latency(traffic, what, seen)
    for service in everyone:
        broken += memory(service)
    return broken


def by_time(flows: np.ndarray) -> np.ndarray:
    return flows[:, np.lexsort(flows)]


def lost_and_twice(sent: np.ndarray, found: np.ndarray) -> str:
    times, counts = np.unique(found[0], return_counts=True)
    lost = np.setdiff1d(sent[0], times)
    return (f"{len(lost):,} flows without a score, {int((counts > 1).sum()):,} with several, "
            f"{len(np.setdiff1d(times, sent[0])):,} that nobody sent; the first lost: {lost[:3]}")  # fmt: skip


def say_latency(traffic: Traffic, what: str, seen: list[tuple[str, int, int]]) -> None:
    """Seconds from the datagram that lets a window close until a reader of committed records has it."""
    closed = [traffic.closed_us(site, end_us + LATENESS_US) for site, end_us, _ in seen]
    took = [(at - closed_us) / 1e6 for (_, _, at), closed_us in zip(seen, closed, strict=True) if closed_us is not None]
    if took:
        p50, p99 = np.percentile(took, [50, 99])
        say(f"window close to {what}: p50 {p50:.2f} s, p99 {p99:.2f} s, longest {max(took):.2f} s ({len(took):,})")


def memory(service: Service) -> list[str]:
    """Say what each life of a process had when warm and at its end; what grew."""
    lives = service.lives
    told = ", ".join(f"{warm:.0f} to {last:.0f}" for warm, last in lives)
    say(f"memory of {service.name}, MiB, warm to last, each life: {told or 'none lived long enough'}")
    if not lives:
        return []
    most = lives[0][0] * GROWTH + ALLOWANCE_MIB
    return [f"{service.name} grew from {lives[0][0]:.0f} to {last:.0f} MiB" for _, last in lives if last > most]


if __name__ == "__main__":
    main()
