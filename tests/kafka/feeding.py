"""What the tests of crashes share: minutes sent one after the other, and a run that nothing disturbs."""

import threading
import time

from tests.kafka.forks import Forks
from tests.kafka.topics import as_scored, kafka, minute, scored, stream_of

SITES = ("hq", "lab")
QUICK = "session.timeout.ms=1000&heartbeat.interval.ms=200"  # a dead replica is noticed after a second
EXACTLY = ("--delivery", "exactly_once", "--flush-s", 0.3)
FLOWS = 40  # per minute and site


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
