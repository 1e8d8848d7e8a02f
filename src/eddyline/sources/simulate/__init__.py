"""simulate://: an office network with attacks in it, labelled, from seeds. Reads nothing and needs nothing.

    simulate://office?hosts=300&seconds=3600&speed=0&seed=7&traffic=7&campaigns=all&start=2026-01-05T08:00:00Z&window=60

`seed` is the network, `traffic` what happens on it: train on one traffic or time, run on another, of the same network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from eddyline.flows import FlowBatch
from eddyline.sources.simulate.campaigns import KINDS, Campaign, Schedule, campaign_schedule
from eddyline.sources.simulate.network import Network
from eddyline.sources.simulate.options import Options, read_options
from eddyline.sources.simulate.stream import Stream, flows, to_table
from eddyline.windows import Commit

__all__ = [
    "KINDS", "Campaign", "Network", "Options", "Schedule", "SimulateSource", "campaign_schedule", "flows",
    "open_simulate", "read_options",
]  # fmt: skip

_TICK_S: Final = 0.5  # how long a live simulation stays silent at most
_SECOND_US: Final = 1_000_000


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class SimulateSource:
    """Flows of a simulated network, in the order in which they end. Every iteration starts from the beginning.

    At speed 0 batches come as fast as they can be made and carry no clock. At any other speed the source is live: it
    yields what has ended every half second at most, an empty batch where nothing has, and `now_us` is simulated time.
    `FlowBatch.position` is the simulated time in microseconds up to which flows have come out. `commit` has nothing to
    keep: the same options give the same flows again.

    Args:
        options: which network, how long and how fast.
        clock: microseconds, only differences count.
        sleep: waits so many seconds; by default one that `close` cuts short.

    Attributes:
        network: hosts, addresses and habits.
        schedule: the campaigns of the run.
    """

    resumes = False

    def __init__(
        self, options: Options, clock: Callable[[], int] = wall_clock, sleep: Callable[[float], object] | None = None
    ) -> None:
        self._options, self._clock = options, clock
        self._stopped = threading.Event()
        self._sleep = self._stopped.wait if sleep is None else sleep
        self.network = Network(options.seed, options.hosts)
        self._traffic = options.seed if options.traffic is None else options.traffic
        self.schedule = Schedule(self.network, self._traffic, options.campaigns, options.start_us, options.seconds)

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches until the simulated time is over, or `close`."""
        start_us = self._options.start_us
        stream = Stream(self.network, self._traffic, start_us, self.schedule)
        for until_us in self._live(start_us) if self._options.speed else self._fast(start_us):
            table = to_table(self.network, stream.until(until_us))
            yield FlowBatch(table, until_us, now_us=until_us if self._options.speed else None)

    def commit(self, commit: Commit) -> None:
        """Nothing to keep: the same options give the same flows."""

    def close(self) -> None:
        """End the iteration, from any thread; twice is once."""
        self._stopped.set()

    def _fast(self, start_us: int) -> Iterator[int]:
        """Ends of batches, simulated microseconds."""
        step, now_us = max(1, round(self._options.window_s * _SECOND_US)), start_us
        while not self._stopped.is_set() and not self._over(now_us):
            now_us = self._no_further(now_us + step)
            yield now_us

    def _live(self, start_us: int) -> Iterator[int]:
        """The same by the clock; a reader that is slow gets more batches, not longer ones."""
        speed, began, now_us = self._options.speed, self._clock(), start_us
        step = max(1, round(min(self._options.window_s, _TICK_S * speed) * _SECOND_US))
        while not self._stopped.is_set() and not self._over(now_us):
            now_us = self._no_further(now_us + step)
            early_s = (now_us - start_us) / speed / _SECOND_US - (self._clock() - began) / _SECOND_US
            if early_s > 0:
                self._sleep(early_s)
            if not self._stopped.is_set():
                yield now_us

    def _end_us(self) -> int | None:
        seconds = self._options.seconds
        return self._options.start_us + round(seconds * _SECOND_US) if seconds else None

    def _over(self, now_us: int) -> bool:
        end = self._end_us()
        return end is not None and now_us >= end

    def _no_further(self, now_us: int) -> int:
        end = self._end_us()
        return now_us if end is None else min(now_us, end)


def open_simulate(url: str) -> SimulateSource:
    """The simulation that `url` describes; raises ConfigError for an option that is unknown or out of range."""
    return SimulateSource(read_options(url))
