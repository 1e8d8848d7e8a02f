"""What the tests of crashes share: minutes sent one after the other, and a run that nothing disturbs."""

import random
import signal
import threading
import time
from collections.abc import Callable

from tests.kafka.forks import Forks
from tests.kafka.topics import as_scored, kafka, minute, scored, stream_of

SITES = ("hq", "lab")
QUICK = "session.timeout.ms=1000&heartbeat.interval.ms=200"  # a dead replica is noticed after a second
EXACTLY = ("--delivery", "exactly_once", "--flush-s", 0.3)
FLOWS = 40  # per minute and site


class Feeder(threading.Thread):
    """Sends minutes of all sites, each site to its own partition, one after the other."""

    def __init__(self, servers: str, topic: str, minutes: int, pause_s: float, sites: tuple[str, ...] = SITES) -> None:
        super().__init__(daemon=True)
        self._topic, self._minutes, self._pause_s, self._sites = topic, minutes, pause_s, sites
        self._producer = kafka.Producer({"bootstrap.servers": servers, "enable.idempotence": True})
        self._left = -1
        self.start()

    def run(self) -> None:
        for number in range(self._minutes):
            for partition, site in enumerate(self._sites):
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


def killed_at_random(
    forks: Forks, feeder: Feeder, kills: int, seed: int, progress: Callable[[], int], *arguments: object
) -> list[int]:
    """Start a replica and kill it, `kills` times; `progress` after each.

    Every other one dies at a random moment after something of its own was written, while there is something to write;
    the others wherever they are.
    """
    rng, seen = random.Random(seed), [progress()]
    for number in range(kills):
        process, until = forks.start(*arguments), time.monotonic() + 60
        if number % 2:
            time.sleep(rng.uniform(0.1, 1.5))
        else:
            while progress() == seen[-1] and feeder.is_alive():
                assert time.monotonic() < until, f"nothing was written within a minute: {forks.log.read_text()[-2000:]}"
            time.sleep(rng.uniform(0.0, 0.6))
        forks.signal(process, signal.SIGKILL)
        assert forks.wait(process) == -signal.SIGKILL
        seen.append(progress())
    return seen


def wait_until_read(forks: Forks, topic: str, times: int) -> None:
    """Return when partitions of `topic` have been taken so many times, by whichever replicas."""
    until = time.monotonic() + 60
    while (found := sum(f"{topic}/" in line and "is read here now" in line for line in forks.lines())) < times:
        assert time.monotonic() < until, f"taken {found} times, not {times}: {forks.log.read_text()[-2000:]}"
        time.sleep(0.1)
