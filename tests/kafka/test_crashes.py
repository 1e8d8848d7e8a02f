"""Kills, restarts and rebalances: a reader of committed records sees every flow once, scored as if nothing happened."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.kafka.forks import Forks
from tests.kafka.topics import as_scored, consume, kafka, minute, new_topic, scored, stream_of, wait_for_flows
from tests.test_end_to_end import scored as scored_in
from tests.test_end_to_end import tiny_model

SITES = ("hq", "lab")
QUICK = "session.timeout.ms=1000&heartbeat.interval.ms=200"  # a dead replica is noticed after a second
EXACTLY = ("--delivery", "exactly_once", "--flush-s", 0.3)
FLOWS = 40  # per minute and site
KILLS = int(os.environ.get("KILLS", "6"))  # the suite has ten minutes; KILLS=20 takes two of them alone


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    started = Forks(tiny_model(tmp_path_factory), tmp_path_factory.mktemp("services"))
    yield started
    started.close()


class Feeder(threading.Thread):
    """Sends minutes of both sites, each site to its own partition, one after the other."""

    def __init__(self, servers: str, topic: str, minutes: int, pause_s: float) -> None:
        super().__init__(daemon=True)
        self._topic, self._minutes, self._pause_s = topic, minutes, pause_s
        self._producer = kafka.Producer({"bootstrap.servers": servers, "enable.idempotence": True})
        self._left = -1
        self.start()

    def run(self) -> None:
        for number in range(self._minutes):
            for partition, site in enumerate(SITES):
                value = stream_of(minute(number, site, FLOWS))
                self._producer.produce(self._topic, value, site.encode(), partition)
                if number % 5 == 2:
                    self._producer.produce(self._topic, f"noise {number}".encode(), site.encode(), partition)
            self._producer.poll(0)
            time.sleep(self._pause_s)
        self._left = self._producer.flush(60)

    def finish(self) -> None:
        """Return when every minute is with the broker."""
        self.join(150)
        assert self._left == 0


def finish(forks: Forks, address: str, topic: str, group: str, out: str) -> list[tuple[object, ...]]:
    """Let `group` read the topic to its end; what is in `out` then."""
    source = f"kafka://{address}/{topic}?group={group}&until=end&{QUICK}"
    code = forks.wait(forks.start("--source", source, "--sink", f"kafka://{address}/{out}", *EXACTLY))
    assert code == 0, forks.log.read_text()[-3000:]
    return as_scored(scored(address, out))


def same_as_uninterrupted(forks: Forks, address: str, topic: str, cut: list[tuple[object, ...]]) -> None:
    whole = finish(forks, address, topic, "whole", f"{topic}-whole")
    assert len(cut) == len(whole)
    assert cut == whole


@pytest.mark.slow
def test_kills_at_random_points_under_load_change_nothing(broker: Broker, forks: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    rng = random.Random(5)
    minutes = 10 * KILLS
    feeder = Feeder(address, topic, minutes, 0.2)
    seen = []
    for _ in range(KILLS):
        process = forks.start(*run, *EXACTLY)
        time.sleep(rng.uniform(1.0, 4.0))
        forks.signal(process, signal.SIGKILL)
        assert forks.wait(process) == -signal.SIGKILL
        seen.append(scored(address, f"{topic}-cut").num_rows)
    feeder.finish()
    assert len(set(seen)) > KILLS // 3, f"hardly any run came to a commit: {seen}"
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    assert len(cut) == len({one[:2] for one in cut}) == minutes * len(SITES) * FLOWS
    same_as_uninterrupted(forks, address, topic, cut)
    noise = sorted((got.headers["partition"], got.value) for got in consume(address, f"{topic}-cut.dead-letters"))
    assert noise == sorted((p, f"noise {n}".encode()) for p in "01" for n in range(2, minutes, 5))


@pytest.mark.slow
def test_kills_under_at_least_once_leave_each_window_once_in_a_folder(
    broker: Broker, forks: Forks, tmp_path: Path
) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    source, sink = f"kafka://{address}/{topic}?group=cut&{QUICK}", f"file://{tmp_path}/out"
    rng = random.Random(6)
    feeder = Feeder(address, topic, 60, 0.2)
    for _ in range(5):
        process = forks.start("--source", source, "--sink", sink, "--flush-s", 0.3)
        time.sleep(rng.uniform(2.0, 4.0))
        forks.signal(process, signal.SIGKILL)
        assert forks.wait(process) == -signal.SIGKILL
    feeder.finish()
    assert forks.wait(forks.start("--source", f"{source}&until=end", "--sink", sink)) == 0
    cut = as_scored(scored_in(tmp_path / "out"))
    assert len(cut) == 60 * len(SITES) * FLOWS
    same_as_uninterrupted(forks, address, topic, cut)


@pytest.mark.slow
def test_a_broker_that_is_killed_and_comes_back_costs_nothing(broker: Broker, forks: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    process = forks.start(*run, *EXACTLY)
    feeder = Feeder(address, topic, 60, 0.2)
    wait_for_flows(address, f"{topic}-cut", 5 * FLOWS)
    broker.stop(kill=True)
    broker.start()
    feeder.finish()
    wait_for_flows(address, f"{topic}-cut", 59 * len(SITES) * FLOWS, 120)
    forks.signal(process, signal.SIGTERM)
    assert forks.wait(process) == 0
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    same_as_uninterrupted(forks, address, topic, cut)


@pytest.mark.slow
def test_replicas_that_come_and_go_hand_their_sites_over(broker: Broker, forks: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    feeder = Feeder(address, topic, 80, 0.2)
    first = forks.start(*run, *EXACTLY)
    wait_for_flows(address, f"{topic}-cut", 5 * FLOWS)
    second = forks.start(*run, *EXACTLY)  # takes one partition over
    time.sleep(5)
    forks.signal(first, signal.SIGTERM)  # gives the other one away
    assert forks.wait(first) == 0
    third = forks.start(*run, *EXACTLY)
    time.sleep(4)
    forks.signal(third, signal.SIGKILL)
    forks.wait(third)
    feeder.finish()
    wait_for_flows(address, f"{topic}-cut", 79 * len(SITES) * FLOWS, 120)
    forks.signal(second, signal.SIGTERM)
    assert forks.wait(second) == 0
    assert forks.log.read_text().count(f"{topic}/1 is read here now") >= 2
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    same_as_uninterrupted(forks, address, topic, cut)
