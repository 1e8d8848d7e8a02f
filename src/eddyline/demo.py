"""`make demo`: the service on live NetFlow v9 with attacks in it, and what it found of them.

One process exports a simulated office as NetFlow; this one collects, scores and tells. Labels never travel on the wire:
which alerts were right is judged afterwards, from the simulator's own schedule of campaigns.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eddyline.config import AlertConfig, RunSettings, load
from eddyline.errors import SourceError
from eddyline.metrics import Counts
from eddyline.runtimes import load_runtime
from eddyline.sources.simulate import Campaign, open_simulate

SPEED: Final = 60  # simulated seconds per second: one window a second
ALERTS: Final = AlertConfig(per_hour=30, per_day=300)
_NETWORK: Final = "hosts=300&seed=7"  # the network that `artifacts/gae` was trained on, on another day
_DAY: Final = "traffic=3&start=2026-01-06T10:00:00Z"
_SLACK_US: Final = 1_000_000  # exported times are whole milliseconds, so a campaign's edges get a second
_DRAIN_S: Final = 3.0  # after the last flow, until the last window has closed


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the campaigns, and of the alerts.

    Args:
        campaigns: each with the ids of the alerts that found it; none = missed.
        true: alerts of which at least half of the flows belong to a campaign.
        collateral: of the others, those of which at least half of the flows have an end that a campaign's flow touched
            in the same minute: they name a host that really was attacking or attacked.
        false: the rest.
    """

    campaigns: Sequence[tuple[Campaign, tuple[str, ...]]]
    true: int
    collateral: int
    false: int


def run_demo(
    seconds: float, port: int, out: Path, stop: Event, report: Callable[[Counts], None]
) -> tuple[Counts, Verdict]:
    """Export for `seconds` (0 = until `stop`), score what arrives on 127.0.0.1:`port`, write to `out`, judge.

    Args:
        seconds: of real time; a simulated minute passes in each of them.
        out: folder for the scored flows and alerts; what an earlier demo left there is removed.
        stop: ends the demo early.
        report: told about once a second.
    """
    shutil.rmtree(out, ignore_errors=True)
    sinks = ["stdout:", f"file://{out}"]
    source = f"netflow://127.0.0.1:{port}?times=exporter"  # a simulated day need not lie before today
    flags = {"source": source, "sink": sinks, "alerts": ALERTS.model_dump(), "flush_s": 1.0}
    settings = load(RunSettings, flags)
    with _Exporter(round(seconds * SPEED), port, stop) as exporter:

        def watch(counts: Counts) -> None:
            exporter.watch()
            report(counts)

        counts = load_runtime(settings.runtime)(settings, stop, watch)
    start_us, end_us = _span(out)
    schedule = open_simulate(f"simulate://office?{_url(round(seconds * SPEED))}").schedule
    return counts, judge(
        out, [campaign for campaign in schedule.between(start_us, end_us) if campaign.start_us < end_us]
    )


class _Exporter:
    """`eddyline simulate` as a process of its own, started once the collector listens; sets `stop` when it is done."""

    def __init__(self, simulated_s: int, port: int, stop: Event) -> None:
        options = _url(simulated_s).replace("=", " ").replace("&", " --").split()
        sink = f"netflow://127.0.0.1:{port}?version=9"
        speed = ["--speed", str(SPEED), "--sink", sink]
        self._command = [sys.executable, "-m", "eddyline.cli", "simulate", f"--{options[0]}", *options[1:], *speed]
        self._stop, self._ended = stop, 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def watch(self) -> None:
        """Start it the first time; later see whether it has ended, and give the last window time to close."""
        if self._process is None:
            self._process = subprocess.Popen(self._command, stderr=subprocess.PIPE)  # noqa: S603  # our own command
        elif not self._ended and self._process.poll() is not None:
            self._ended = time.monotonic()
        elif self._ended and time.monotonic() - self._ended > _DRAIN_S:
            self._stop.set()

    def __exit__(self, *failure: object) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
        _, said = self._process.communicate(timeout=10)
        if self._process.returncode not in (0, -15) and failure[0] is None:
            raise SourceError(f"demo: the exporter failed: {said.decode(errors='replace').strip()}")


def _url(simulated_s: int) -> str:
    return f"{_NETWORK}&{_DAY}&seconds={simulated_s}"


def _span(out: Path) -> tuple[int, int]:
    """First and last event time in the scored flows, microseconds."""
    flows = pq.read_table(out / "flows", columns=["ts_end"]) if (out / "flows").is_dir() else None
    if flows is None or not flows.num_rows:
        raise SourceError("demo: not one flow arrived; is another program taking the datagrams of this port?")
    ends = pc.min_max(flows["ts_end"])
    return int(ends["min"].value), int(ends["max"].value)


def judge(out: Path, campaigns: Sequence[Campaign]) -> Verdict:
    """Compare the alerts in the scored flows of `out` with the campaigns that really took place."""
    flows = pq.read_table(out / "flows", columns=["src_addr", "dst_addr", "ts_end", "window_start", "alert_id"])
    of_campaign = _campaign_of(flows, campaigns)
    touched = _touched(flows, of_campaign >= 0)
    found: list[list[str]] = [[] for _ in campaigns]
    kinds = Counter[str]()
    alert_of = np.array(flows["alert_id"].to_pylist(), dtype=object)
    for alert in flows["alert_id"].unique().drop_null().to_pylist():
        mine = alert_of == alert
        parts = of_campaign[mine]
        kind = "true" if (parts >= 0).mean() >= 0.5 else "collateral" if touched[mine].mean() >= 0.5 else "false"
        kinds[kind] += 1
        for number in np.unique(parts[parts >= 0]) if kind == "true" else ():
            found[number].append(alert)
    by_campaign = [(campaign, tuple(ids)) for campaign, ids in zip(campaigns, found, strict=True)]
    return Verdict(by_campaign, kinds["true"], kinds["collateral"], kinds["false"])


def _campaign_of(flows: pa.Table, campaigns: Sequence[Campaign]) -> NDArray[np.int64]:
    """Number of the campaign that each flow belongs to, by its ends and its time, (E,); -1 for none."""
    ends = flows["ts_end"].cast(pa.int64()).to_numpy()
    of_campaign = np.full(len(ends), -1)
    for number, campaign in enumerate(campaigns):
        during = (ends >= campaign.start_us - _SLACK_US) & (ends <= campaign.end_us + _SLACK_US)
        ways = ((campaign.attackers, campaign.victims), (campaign.victims, campaign.attackers))
        met = [_within(flows["src_addr"], one) & _within(flows["dst_addr"], other) for one, other in ways]
        of_campaign[during & (met[0] | met[1])] = number
    return of_campaign


def _touched(flows: pa.Table, attack: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether an end of each flow is an end of an attack flow in the same window, (E,)."""
    minute = flows["window_start"].cast(pa.int64()).to_numpy() // 60_000_000
    both = pa.chunked_array([c.cast(pa.utf8()) for end in ("src_addr", "dst_addr") for c in flows[end].chunks])
    hosts = both.combine_chunks().dictionary_encode().indices.to_numpy().reshape(2, -1).astype(np.int64)
    keys = (minute - minute.min()) * (int(hosts.max()) + 1) + hosts
    return np.asarray(np.isin(keys, keys[:, attack]).any(axis=0), np.bool_)


def _within(column: pa.ChunkedArray, hosts: Sequence[str]) -> NDArray[np.bool_]:
    inside = pc.is_in(column.cast(pa.utf8()), value_set=pa.array(hosts, pa.utf8()))
    return np.asarray(inside.to_numpy(), np.bool_)


def tell(verdict: Verdict, console: Console) -> None:
    """Print what was found and what was not."""
    table = Table(title="The campaigns that were really there", title_justify="left", box=None, pad_edge=False)
    for column in ("campaign", "began", "from", "to", "", "alerts"):
        table.add_column(column)
    for campaign, ids in verdict.campaigns:
        began = datetime.fromtimestamp(campaign.start_us / 1e6, UTC).strftime("%H:%M:%S")
        result = "[green]found[/]" if ids else "[red]missed[/]"
        table.add_row(campaign.kind, began, _few(campaign.attackers), _few(campaign.victims), result, _few(ids))
    console.print()
    console.print(table, highlight=False)
    found = sum(bool(ids) for _, ids in verdict.campaigns)
    alerts = verdict.true + verdict.collateral + verdict.false
    console.print(f"Found {found} of {len(verdict.campaigns)} campaigns.", highlight=False)
    console.print(
        f"{alerts} alerts: {verdict.true} on a campaign's flows, {verdict.collateral} on other flows of hosts that a "
        f"campaign was touching, {verdict.false} false.",
        highlight=False,
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:1]) + (f" +{len(names) - 1:,}" if len(names) > 1 else "")
