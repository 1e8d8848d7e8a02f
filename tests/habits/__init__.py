"""Windows of a few flows, and memories that lived through some."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from eddyline.flows import flow_table
from eddyline.graphs import FlowGraph, build_graph, columns_of
from eddyline.habits import Conversations, Habits
from eddyline.scoring import remembered
from eddyline.windows import Window

MINUTE_US = 60_000_000


class Flow(NamedTuple):
    """One flow; answered unless `back_packets` is 0, a one-way record where it is None."""

    src: str
    dst: str
    dst_port: int | None = 443
    sent: int = 1_000
    back: int | None = 5_000
    back_packets: int | None = 10
    src_port: int | None = 50_000
    proto: int | None = 6
    packets: int = 10
    duration_us: int = 1_000_000

    @property
    def silent(self) -> "Flow":
        """The same flow without an answer."""
        return self._replace(back=0, back_packets=0)


def window(flows: Sequence[Flow], minute: int = 0) -> Window:
    columns = {
        "src_addr": pa.array([flow.src for flow in flows], pa.utf8()),
        "dst_addr": pa.array([flow.dst for flow in flows], pa.utf8()),
        "src_port": pa.array([flow.src_port for flow in flows], pa.uint16()),
        "dst_port": pa.array([flow.dst_port for flow in flows], pa.uint16()),
        "proto": pa.array([flow.proto for flow in flows], pa.uint8()),
        "bytes": pa.array([flow.sent for flow in flows], pa.uint64()),
        "rev_bytes": pa.array([flow.back for flow in flows], pa.uint64()),
        "packets": pa.array([flow.packets for flow in flows], pa.uint64()),
        "rev_packets": pa.array([flow.back_packets for flow in flows], pa.uint64()),
        "duration_us": pa.array([flow.duration_us for flow in flows], pa.int64()),
    }
    start = minute * MINUTE_US
    return Window("default", start, start + MINUTE_US, 0, False, flow_table(columns, len(flows)))


def grouped(*flows: Flow) -> Conversations:
    return build_graph(window(flows)).conversations()


def live(habits: Habits, one: Window, weight: Sequence[float] | None = None) -> tuple[FlowGraph, Habits]:
    """The window as the memory saw it when it was new, and the memory after it."""
    graph, now = remembered(one, habits, "cpu")
    weights = np.ones(len(one)) if weight is None else np.array(weight, float)
    return graph, habits.after(graph.conversations(), columns_of(graph), now, weights)


def lived(*minutes: Sequence[Flow], first: int = 1) -> Habits:
    """The memory after these windows, numbered from `first`; the last LAG of them still wait to be learned."""
    habits = Habits.empty()
    for minute, flows in enumerate(minutes, first):
        _, habits = live(habits, window(flows, minute))
    return habits


def some_flows(rng: np.random.Generator, flows: int, hosts: int = 8) -> list[Flow]:
    """Flows of every sort: answered, silent and one-way, TCP, UDP and ICMP, clients and servers first."""
    found = []
    for _ in range(flows):
        src, dst = (f"10.0.0.{rng.integers(hosts)}" for _ in range(2))
        sort, proto = rng.integers(4), int(rng.choice([1, 6, 6, 17]))
        ports = (
            (None, None) if proto == 1 else (int(rng.integers(40_000, 60_000)), int(rng.choice([22, 53, 443, 9_000])))
        )
        ports = ports[::-1] if sort == 3 else ports
        back = (
            (0, 0) if sort == 0 else (None, None) if sort == 1 else (int(rng.lognormal(6, 2)), int(rng.integers(1, 50)))
        )
        found.append(Flow(src, dst, ports[1], int(rng.lognormal(6, 2)), *back, ports[0], proto,
                          int(rng.integers(1, 90)), int(rng.integers(10**7))))  # fmt: skip
    return found
