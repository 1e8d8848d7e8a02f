"""Flows of one site and one stretch of event time: batches in; closed windows and a safe commit position out.

Tumbling windows `[start, end)` of `length_us`. A site's watermark is its latest event time minus `lateness_us`; a
window closes when the watermark reaches its end. Flows without a time, or all flows when `by` is "count", go into
one endless window per site that is cut every `count` rows. Nothing is ever dropped: a flow whose window has closed is
late and comes out in the site's next late window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How a stream is cut.

    Args:
        by: "time" (flows without a time still go by count) or "count".
        length_us: length of a time window, microseconds.
        lateness_us: how long after its end a window waits for stragglers, event time, microseconds.
        max_flows: a time window that holds so many flows is closed early in parts, so a flood stays in memory bounds.
        count: rows per count window.
    """

    by: Literal["time", "count"] = "time"
    length_us: int = 60_000_000
    lateness_us: int = 10_000_000
    max_flows: int = 1_000_000
    count: int = 10_000


@dataclass(frozen=True, slots=True)
class Window:
    """The flows of one site whose event time falls in [start_us, end_us), in arrival order. Final once seen.

    Args:
        site: one site, never two.
        start_us, end_us: microseconds UTC; None for count windows.
        part: 0, or 1, 2, … where the window was cut; (site, start_us, part) is the key of a window.
        late: these flows came after their windows had closed; [start_us, end_us) then spans those windows.
        flows: E >= 1 rows of BATCH_SCHEMA.
    """

    site: str
    start_us: int | None
    end_us: int | None
    part: int
    late: bool
    flows: pa.Table

    def __len__(self) -> int:
        return int(self.flows.num_rows)


@dataclass(frozen=True, slots=True)
class SiteState:
    """What a restarted windower must know of a site; plain numbers, so a commit can be written as JSON."""

    closed_until_us: int
    watermark_us: int
    flows_before_close: int  # flows of the stream after `Commit.position` that arrived before the site's last close
    parts: Mapping[int | None, tuple[int, int]]  # window start -> (next part, flows after the position already out)
    late_parts: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything up to `position` is in closed windows; `sites` tells a replay after it what is already out."""

    position: Any
    sites: Mapping[str, SiteState] = field(default_factory=dict)
    memories: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch caused: windows that are now final, how many flows were late, and what may be committed."""

    closed: tuple[Window, ...]
    late: int
    commit: Commit
