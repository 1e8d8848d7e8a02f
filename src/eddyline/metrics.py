"""What a run counts. Plain numbers, updated by the runtime, read by whoever reports them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_COUNTED_HERE: Final = ("datagrams", "flows", "rejected")  # of a source's totals, what the run counts itself
_REASONS: Final = 1_000  # of bad records that are told apart: a hostile datagram chooses the numbers in its own
OTHER: Final = "other reasons"
_KEPT: Final = 10_000  # latencies that the percentiles look at, the latest ones


def count_reasons(rejected: pa.Table, into: Counter[str]) -> None:
    """Add rows of REJECTED_SCHEMA by reason; beyond a thousand reasons new ones count together."""
    for pair in pc.value_counts(rejected["reason"]).to_pylist():
        known = pair["values"] in into or len(into) < _REASONS
        into[pair["values"] if known else OTHER] += pair["counts"]


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
        bucket: most alert groups in a site's drift bucket; far beyond `drift.FREE` for a day, recalibrate.
        seconds: how long the run took.
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
    bucket: float = 0.0
    seconds: float = 0.0

    def line(self) -> str:
        """Return the state of a running service in one line."""
        rate = self.flows / self.seconds if self.seconds else 0.0
        bad = f", {self.rejected.total():,} bad records" if self.rejected else ""
        return f"{self.flows:,} flows, {self.windows:,} windows, {self.alerts:,} alerts{bad}, {rate:,.0f} flows/s"

    def summary(self) -> list[tuple[str, str]]:
        """Return what a finished run has to say, as (name, value)."""
        p50, p99 = np.percentile(self.latency_s, [50, 99]) if self.latency_s else (0.0, 0.0)
        rows = [
            ("flows", f"{self.flows:,}"),
            ("scored", f"{self.scored:,}"),
            ("windows", f"{self.windows:,}"),
            ("late flows", f"{self.late:,}"),
            ("bad records", f"{self.rejected.total():,}"),
            *((f"  {reason}", f"{count:,}") for reason, count in self.rejected.most_common(5)),
            *((name.replace("_", " "), f"{n:,}") for name, n in self.source.items() if name not in _COUNTED_HERE),
            ("alerts", f"{self.alerts:,}"),
            ("held back by the budget", f"{self.held_back:,}"),
            ("drift bucket at most", f"{self.bucket:.1f} alert groups"),
            ("flows/s", f"{self.scored / self.seconds if self.seconds else 0:,.0f}"),
            ("window close to sink", f"p50 {p50 * 1e3:,.0f} ms, p99 {p99 * 1e3:,.0f} ms"),
        ]
        return rows
