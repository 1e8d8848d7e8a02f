"""What a run counts. Plain numbers, updated by the runtime, read by whoever reports them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.combine import ScoredFlows

_COUNTED_HERE: Final = ("datagrams", "flows", "rejected")  # of a source's totals, what the run counts itself
_REASONS: Final = 1_000  # of bad records that are told apart: a hostile datagram chooses the numbers in its own
OTHER: Final = "other reasons"
_KEPT: Final = 10_000  # latencies that the percentiles look at, the latest ones
_WINDOWS: Final = 16  # whose scores the quantiles look at, the latest ones
_SAMPLED: Final = 4_096  # flows of each, evenly spread
P_STEPS: Final = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0)  # p-values that flows are counted by
SECONDS_STEPS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)  # from window close to sink


def count_reasons(rejected: pa.Table, into: Counter[str]) -> None:
    """Add rows of REJECTED_SCHEMA by reason; beyond a thousand reasons new ones count together."""
    for pair in pc.value_counts(rejected["reason"]).to_pylist():
        known = pair["values"] in into or len(into) < _REASONS
        into[pair["values"] if known else OTHER] += pair["counts"]


@dataclass(slots=True)
class Steps:
    """How many values lay at or below each step; the sum and number of all."""

    steps: tuple[float, ...]
    at_most: NDArray[np.int64] = field(init=False)
    total: float = 0.0
    number: int = 0

    def __post_init__(self) -> None:
        self.at_most = np.zeros(len(self.steps), np.int64)

    def add(self, values: NDArray[Any]) -> None:
        """Count values, (E,)."""
        first = np.searchsorted(np.array(self.steps), values)  # the lowest step that each is at or below
        self.at_most = self.at_most + np.bincount(first, minlength=len(self.steps) + 1)[:-1].cumsum()
        self.total, self.number = self.total + float(values.sum()), self.number + len(values)

    def include(self, other: Steps) -> None:
        """Count what another one, of the same steps, has counted."""
        self.at_most = self.at_most + other.at_most
        self.total, self.number = self.total + other.total, self.number + other.number


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the run of one partition is.

    Args:
        behind: offsets up to the end of the partition; None while the broker has not said.
        newest_us: end of its newest window in the sinks, event time; None before the first.
    """

    behind: int | None
    newest_us: int | None


@dataclass(slots=True)
class Counts:
    """Counts of one run.

    Args:
        flows: taken from the source. scored: of them, in windows that reached the sinks.
        windows, late, alerts: windows written; flows that came after their window; alerts opened.
        held_back: stories that the alert budget did not allow.
        rejected: records that could not be read, by reason.
        latency_s: seconds from the moment a window closed until the sinks had it, oldest first dropped.
        source: totals that the source keeps, such as gaps in the sequence of an exporter.
        exporters: the same by exporter, which is told by a number; of several runs, one at most listens.
        partitions: how far each partition is that is read here now, by topic and number.
        bucket: most alert groups in a site's drift bucket; far beyond `drift.FREE` for a day, recalibrate.
        seconds: how long the run took.
        bytes: of the scored flows, both directions, as observed.
        newest_us: end of the newest window in the sinks, event time.
        levels: alert groups in each site's drift bucket now.
        queues: batches that wait in a queue and its size, by its name.
        p: scored flows by p-value. took_s: windows by seconds from their close to the sinks.
        recent: scores of some flows of the latest windows: "combined" and each detector's raw ones.
    """

    flows: int = 0
    scored: int = 0
    windows: int = 0
    late: int = 0
    alerts: int = 0
    held_back: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    latency_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    source: Mapping[str, int] = field(default_factory=dict)
    exporters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    partitions: Mapping[tuple[str, int], Standing] = field(default_factory=dict)
    bucket: float = 0.0
    seconds: float = 0.0
    bytes: int = 0
    newest_us: int | None = None
    levels: dict[str, float] = field(default_factory=dict)
    queues: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    p: Steps = field(default_factory=lambda: Steps(P_STEPS))
    took_s: Steps = field(default_factory=lambda: Steps(SECONDS_STEPS))
    recent: deque[Mapping[str, NDArray[Any]]] = field(default_factory=lambda: deque(maxlen=_WINDOWS))

    @classmethod
    def over(cls, runs: Iterable[Counts], seconds: float) -> Self:
        """Totals of several runs of one service, which may go on meanwhile; `seconds` is how long that took."""
        total, source = cls(seconds=seconds), Counter[str]()
        for one in runs:
            for name in ("flows", "scored", "windows", "late", "alerts", "held_back", "bytes"):
                setattr(total, name, getattr(total, name) + getattr(one, name))
            total.rejected.update(one.rejected.copy())
            source.update(dict(one.source))
            total.exporters = one.exporters or total.exporters
            total.latency_s.extend(one.latency_s.copy())
            total.recent.extend(one.recent.copy())
            total.bucket = max(total.bucket, one.bucket)
            total.levels |= one.levels.copy()
            total.p.include(one.p)
            total.took_s.include(one.took_s)
            if one.newest_us is not None:
                total.newest_us = max(total.newest_us or 0, one.newest_us)
            total.queues = _queues(total.queues, dict(one.queues))
        total.source = source
        return total

    def wrote(self, scored: ScoredFlows, seconds: float) -> None:
        """Count a window that reached the sinks `seconds` after it had closed."""
        self.windows += 1
        self.scored += len(scored)
        self.latency_s.append(seconds)
        self.took_s.add(np.array([seconds]))
        self.p.add(scored.p)
        flows = scored.window.flows
        self.bytes += sum(pc.sum(flows[name]).as_py() or 0 for name in ("bytes", "rev_bytes"))
        if scored.window.end_us is not None:
            self.newest_us = max(self.newest_us or 0, scored.window.end_us)
        stride = max(1, -(-len(scored) // _SAMPLED))
        self.recent.append(
            {"combined": 1 - scored.p[::stride]} | {name: raw[::stride].copy() for name, raw in scored.raw.items()}
        )

    def line(self) -> str:
        """Return the state of a running service in one line."""
        rate = self.flows / self.seconds if self.seconds else 0.0
        bad = f", {self.rejected.total():,} bad records" if self.rejected else ""
        return f"{self.flows:,} flows, {self.windows:,} windows, {self.alerts:,} alerts{bad}, {rate:,.0f} flows/s"

    def on_the_way(self) -> list[tuple[str, str]]:
        """Return what could not be read and what the source lost, as (name, value)."""
        return [
            ("bad records", f"{self.rejected.total():,}"),
            *((f"  {reason}", f"{count:,}") for reason, count in self.rejected.most_common(5)),
            *((name.replace("_", " "), f"{n:,}") for name, n in self.source.items() if name not in _COUNTED_HERE),
        ]

    def summary(self) -> list[tuple[str, str]]:
        """Return what a finished run has to say, as (name, value)."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) if self.latency_s else (0.0, 0.0)
        rows = [
            ("flows", f"{self.flows:,}"),
            ("scored", f"{self.scored:,}"),
            ("windows", f"{self.windows:,}"),
            ("late flows", f"{self.late:,}"),
            *self.on_the_way(),
            ("alerts", f"{self.alerts:,}"),
            ("held back by the budget", f"{self.held_back:,}"),
            ("drift bucket at most", f"{self.bucket:.1f} alert groups"),
            ("flows/s", f"{self.scored / self.seconds if self.seconds else 0:,.0f}"),
            ("window close to sink", f"p50 {p50 * 1e3:,.0f} ms, p99 {p99 * 1e3:,.0f} ms"),
        ]
        return rows


def _queues(one: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """What waits and may wait in both, by the queue's name."""
    pairs = {name: (one.get(name, (0, 0)), other.get(name, (0, 0))) for name in {**one, **other}}
    return {name: (first[0] + second[0], first[1] + second[1]) for name, (first, second) in pairs.items()}
