"""Simulated flows exported as NetFlow v9 at a steady rate, ten times faster than they are dated."""

import threading
import time
import zlib

import numpy as np
import pyarrow as pa

from eddyline.flows import TIME
from eddyline.sinks.netflow import NetflowExporter
from eddyline.sources.simulate import KINDS, Network, Schedule, flows

SPEED = 10  # event seconds per second: a window of a minute closes every six seconds
TICK_S = 0.2
PARTITIONS = 2
POOL_S = 7_200  # simulated seconds that the traffic is drawn from, over and over
MINUTE_US = 60_000_000
SENDERS = {"127.0.0.2": "hq", "127.0.0.3": "branch"}  # an exporter for each site
assert len({zlib.crc32(site.encode()) % PARTITIONS for site in SENDERS.values()}) == PARTITIONS


class Traffic(threading.Thread):
    """Exports `rate` flows a second, half of them from each site's exporter, for `seconds`; none has another's time.

    Attributes:
        sent: per site, (ts_end ms, bytes) of what went out, (2, E) int64.
        pulses: per site, (newest ts_end us, when it was sent on the clock of the wall, us), in order.
        behind_s: how much later than due the latest tick was.
    """

    def __init__(self, port: int, rate: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._each, self._ticks = max(1, round(rate * TICK_S / len(SENDERS))), round(seconds / TICK_S)
        self.rate = self._each * len(SENDERS) / TICK_S
        self._exporters = {site: NetflowExporter("127.0.0.1", port, sender=ip) for ip, site in SENDERS.items()}
        self._pools = {site: _pool(number) for number, site in enumerate(SENDERS.values())}
        self._sent: dict[str, list[np.ndarray]] = {site: [] for site in SENDERS.values()}
        self.pulses: dict[str, list[tuple[int, int]]] = {site: [] for site in SENDERS.values()}
        self.behind_s = 0.0
        now_us = time.time_ns() // 1000
        began = now_us - round(seconds * (SPEED - 1) * 1e6)  # it ends in the present: no flow is dated ahead
        self._first_us = began // MINUTE_US * MINUTE_US

    def run(self) -> None:
        began = time.monotonic()
        for tick in range(self._ticks):
            left = began + tick * TICK_S - time.monotonic()
            self.behind_s = max(self.behind_s, -left)
            time.sleep(max(0.0, left))
            for site in SENDERS.values():
                self._send(site, tick)

    @property
    def sent(self) -> dict[str, np.ndarray]:
        return {site: np.concatenate(parts, axis=1) for site, parts in self._sent.items()}

    def closed_us(self, site: str, due_us: int) -> int | None:
        """When the first flow left whose time is `due_us` or later: then the window that waits for it may close."""
        times = [newest for newest, _ in self.pulses[site]]
        place = int(np.searchsorted(times, due_us))
        return self.pulses[site][place][1] if place < len(times) else None

    def _send(self, site: str, tick: int) -> None:
        pool = self._pools[site]
        first = tick * self._each % (pool.num_rows - self._each)
        step_us = round(TICK_S * SPEED * 1e6)
        ends_ms = (self._first_us + tick * step_us) // 1000 + np.arange(self._each) * (step_us // 1000) // self._each
        table = _dated(pool.slice(first, self._each), ends_ms * 1000)
        assert self._exporters[site].send(table) == self._each
        self._sent[site].append(np.stack([ends_ms, table["bytes"].to_numpy().astype(np.int64)]))
        self.pulses[site].append((int(ends_ms[-1]) * 1000, time.time_ns() // 1000))


def _pool(number: int) -> pa.Table:
    network = Network(7, 300)
    start_us = 1_767_600_000_000_000
    schedule = Schedule(network, number, KINDS, start_us, POOL_S)
    table = flows(network, start_us, start_us + POOL_S * 1_000_000, number, schedule)
    span = table["duration_us"].to_numpy()
    return table.filter(pa.array(span < 1_800_000_000)).combine_chunks()


def _dated(table: pa.Table, ends_us: np.ndarray) -> pa.Table:
    starts_us = (ends_us - table["duration_us"].to_numpy()) // 1000 * 1000
    for name, values in (("ts_end", ends_us), ("ts_start", starts_us)):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values).view(TIME))
    return table
