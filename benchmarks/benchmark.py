"""Flows per second, memory and equality, window to scores: ours beside a plain implementation, in one run.

    .venv/bin/python benchmarks/benchmark.py --quick                     # under two minutes
    .venv/bin/python benchmarks/benchmark.py --json benchmark.json       # everything; half an hour on two cores
    .venv/bin/python benchmarks/benchmark.py --workloads busy --flows 100000

Implementations take turns, each number is the median of its turns, and both may use the same threads. Peak memory is
of a process that scores this one window. `published` is the published network with weights drawn from a seed, on both
sides the same, BatchNorm settled; `default` is what `eddyline train` makes of six benign windows of the same workload,
from graph to the memory after the window. `midas_r` is the sketch that many compare with: it counts edges and sees no
features. Everything that is left out is listed at the end.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from reference_gae import ReferenceGae, plain_node_features
from rich.console import Console
from rich.table import Table
from torch import Tensor
from workloads import WORKLOADS, distinct_rows, window

from eddyline.artifacts import load_models
from eddyline.combine import combine
from eddyline.config import TrainSettings
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.kernels import bfloat16_is_fast
from eddyline.detectors.gae.model import GuidedGae
from eddyline.detectors.gae.node_features import address_features, propagate
from eddyline.drift import ALPHA
from eddyline.evaluation.midas import midas_r
from eddyline.graphs import FlowGraph, build_graph
from eddyline.scoring import Memory, memory_of, score_window
from eddyline.training import train
from eddyline.windows import Window

WARM: Final = 6  # windows that the default model is trained on
FEATURES: Final = ("bytes", "rev_bytes", "duration_us")
SIZES: Final = (10_000, 100_000, 1_000_000)
FIXED: Final = {"busy": (100_000,), "hub": (1_000_000,)}  # windows that have one size only
MOST: Final = {"reference": 100_000, "slow bfloat16": 10_000}  # flows: beyond, memory runs out or minutes go by
Scored = tuple[dict[str, float], Tensor | None]  # seconds by step, and scores


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `step` is a part of the way or `whole`, `spearman` is with the reference's scores."""

    workload: str
    flows: int
    hosts: int
    pairs: int
    distinct_rows: int
    step: str
    implementation: str
    size: str
    dtype: str
    threads: int
    flows_per_s: float
    peak_mib: float | None
    max_score_difference: float | None
    spearman: float | None


class Clock:
    """Seconds of each step, and of all so far as `whole`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = self.start = time.perf_counter()

    def step(self, name: str) -> None:
        """End a step."""
        now = time.perf_counter()
        self.seconds.pop("whole", None)
        self.seconds[name], self.last = now - self.last, now
        self.seconds["whole"] = now - self.start


class Published:
    """The published network in both implementations, on windows like those of one workload.

    Args:
        like: what features are scaled and BatchNorm's statistics settled by.
    """

    def __init__(self, like: Window) -> None:
        torch.manual_seed(0)
        self.model, self.projection = GuidedGae(), torch.rand(4, 32) * 2 - 1
        graph = build_graph(like)
        raw = torch.stack([graph.feature(name) for name in FEATURES], 1).double()
        self.mean, self.scale = raw.mean(0), raw.std(0)
        x, edges = self._inputs(graph)
        self.model.norm.momentum = None  # one window is all of the average
        self.model.train().encode([(x, edges)])
        self._tame(x, edges)
        self.reference = ReferenceGae(self.model.eval())

    def _tame(self, x: Tensor, edges: Edges) -> None:
        """Bring what is random into the range of what is trained, or equality would be no test.

        tanh of pooling must not saturate, for rounding decides ties, in either implementation; and scores must not all
        be 0 or 1.
        """
        model = self.model.eval()
        for step in (*model.unet.down, *model.unet.up):
            step.weight.mul_(0.3)
        logits = model.logits(model.embed(x, edges), edges, model.summary(edges.given))
        model.decoder.fc.bias.sub_(logits.median())

    def _attr(self, graph: FlowGraph) -> Tensor:
        raw = torch.stack([graph.feature(name) for name in FEATURES], 1).double()
        return ((raw - self.mean) / self.scale).float()

    def _inputs(self, graph: FlowGraph) -> tuple[Tensor, Edges]:
        edges = Edges.of(graph.edge_index, self._attr(graph), len(graph.hosts), graph.pairs())
        own = address_features(graph.hosts, self.projection)
        return propagate(own, edges.pairs, edges.hosts, edges.flows_per_pair()), edges

    def eddyline(self, made: Window, dtype: torch.dtype = torch.float32) -> Scored:
        """Score a window our way."""
        clock, self.model.decoder.products = Clock(), dtype
        graph = build_graph(made)
        graph.pairs()
        clock.step("graph")
        x, edges = self._inputs(graph)
        clock.step("node_features")
        z = self.model.embed(x, edges)
        clock.step("encode")
        scores = torch.sigmoid(-self.model.logits(z, edges, self.model.summary(edges.given)))
        clock.step("decode")
        return clock.seconds, scores

    def plain(self, made: Window) -> Scored:
        """Score a window flow by flow."""
        clock = Clock()
        graph = build_graph(made)
        clock.step("graph")
        attr = self._attr(graph)
        x = plain_node_features(address_features(graph.hosts, self.projection), graph.edge_index)
        clock.step("node_features")
        z = self.reference.embed(x, graph.edge_index, attr)
        clock.step("encode")
        scores = torch.sigmoid(-self.reference.logits(z, graph.edge_index, attr))
        clock.step("decode")
        return clock.seconds, scores


class Default:
    """The default model on consecutive windows of one site, trained on the first of them."""

    def __init__(self, workload: str, flows: int) -> None:
        self.draw, self.number = lambda: window(workload, flows, self.number), WARM
        with TemporaryDirectory() as folder:
            file = Path(folder) / "benign.parquet"
            pq.write_table(pa.concat_tables([window(workload, flows, number).flows for number in range(WARM)]), file)
            train(TrainSettings(source=f"file://{file}", model=Path(folder) / "model"), lambda *_: None)
            self.model = load_models([Path(folder) / "model"], "cpu")
        self.memory = memory_of(self.model, "default")
        parts, made = self.memory.parts(), self.draw()
        want, _ = score_window(made, Memory.of(parts), self.model)
        scored = self.eddyline()[1]
        assert scored is not None
        np.testing.assert_array_equal(scored, want.p)  # the steps below are those of `score_window`

    def eddyline(self) -> Scored:
        """Score the next window, step by step as `score_window` does."""
        made, model, memory = self.draw(), self.model, self.memory
        clock = Clock()
        graph = build_graph(made)
        graph.pairs()
        clock.step("graph")
        conversations = graph.conversations()
        clock.step("counts")
        now = memory.habits.number(made.start_us, made.end_us)
        columns = memory.habits.read(conversations, now)
        graph = replace(graph, habits=columns)
        clock.step("habits")
        raw = {detector.name: detector.score(graph).numpy() for detector in model.detectors}
        clock.step("score")
        p0 = combine([model.calibrations[name].p(scores) for name, scores in raw.items()], model.method)
        adjusted = memory.drift.adjust(p0, conversations, columns, now)
        clock.step("calibrate")
        habits = memory.habits.after(conversations, columns, now, (adjusted.p > ALPHA).astype(np.float64))
        self.memory = Memory(habits, memory.drift.after(p0, adjusted, conversations, columns, now))
        clock.step("learn")
        self.number += 1
        return clock.seconds, torch.from_numpy(adjusted.p)


class Sketch:
    """MIDAS-R on consecutive windows, one tick each: codes in, scores out; hashing of addresses is not in it."""

    def __init__(self, made: Window) -> None:
        graph = build_graph(made)
        self.ends = [end.numpy().copy() for end in graph.edge_index]
        self.tick = np.repeat([1, 2], len(graph))

    def score(self) -> Scored:
        """Score a window twice, as two ticks, for there is nothing to say of the first."""
        clock = Clock()
        scores = midas_r(*(np.tile(end, 2) for end in self.ends), self.tick)
        clock.step("score")
        return {"whole": clock.seconds["score"] / 2}, torch.from_numpy(scores[len(self.ends[0]) :])


Turn = Callable[[], Scored]
Key = tuple[str, str, str]  # implementation, size, dtype


def wanted(flows: int) -> Iterator[Key]:
    """What takes turns on windows of so many flows."""
    yield "eddyline", "published", "float32"
    if flows <= MOST["reference"]:
        yield "reference", "published", "float32"
    if bfloat16_is_fast() or flows <= MOST["slow bfloat16"]:
        yield "eddyline", "published", "bfloat16"
    yield "eddyline", "default", "float32"
    yield "midas_r", "sketch", "float64"


def turns(workload: str, flows: int, made: Window, keys: Sequence[Key]) -> dict[Key, Turn]:
    """Make what scores a window, of everything that `keys` name."""
    found: dict[Key, Turn] = {}
    if any(size == "published" for _, size, _ in keys):
        network = Published(window(workload, flows, 1))
        found["eddyline", "published", "float32"] = lambda: network.eddyline(made)
        found["reference", "published", "float32"] = lambda: network.plain(made)
        found["eddyline", "published", "bfloat16"] = lambda: network.eddyline(made, torch.bfloat16)
    if any(size == "default" for _, size, _ in keys):
        found["eddyline", "default", "float32"] = Default(workload, flows).eddyline
    if any(size == "sketch" for _, size, _ in keys):
        found["midas_r", "sketch", "float64"] = Sketch(made).score
    return {key: found[key] for key in keys}


def left_out(flows: int) -> Iterator[str]:
    """Say what `wanted` leaves out of windows of so many flows."""
    if flows > MOST["reference"]:
        yield f"reference at {flows:,} flows: it needs 20 KiB a flow and more than 10 GiB"
    if flows > MOST["slow bfloat16"] and not bfloat16_is_fast():
        yield f"bfloat16 at {flows:,} flows: this CPU has no instructions for it"


def measure(workload: str, flows: int, repeats: int, threads: int, memory: bool) -> list[Row]:
    """Let all implementations take turns on one window."""
    made = window(workload, flows)
    graph = build_graph(made)
    counts = len(graph.hosts), graph.pairs()[0].shape[1], distinct_rows(made)
    take = turns(workload, flows, made, tuple(wanted(flows)))
    seconds: dict[Key, list[dict[str, float]]] = {key: [] for key in take}
    scores: dict[Key, Tensor | None] = {}
    for turn in range(repeats + 1):  # the first compiles and warms up
        for key, score in take.items():
            if turn and key[0] == "reference" and turn > max(1, repeats * 10_000 // flows):
                continue
            spent, scores[key] = score()
            if turn or key[0] == "reference":
                seconds[key].append(spent)
    truth = scores.get(("reference", "published", "float32"))
    rows = []
    for key in take:
        alike = (None, None) if truth is None or key[1] != "published" else compared(scores[key], truth)
        peak = peak_mib(workload, flows, key, threads) if memory else None
        for step in seconds[key][0]:
            median = float(np.median([spent[step] for spent in seconds[key]]))
            whole = (peak, *alike) if step == "whole" else (None, None, None)
            rows.append(Row(workload, flows, *counts, step, *key, threads, flows / median, *whole))
    return rows


def compared(scores: Tensor | None, truth: Tensor) -> tuple[float, float]:
    """Largest difference of two score columns, and their rank correlation."""
    assert scores is not None
    ranks = torch.stack([column.double().argsort().argsort().double() for column in (scores, truth)])
    return float((scores - truth).abs().max()), float(torch.corrcoef(ranks)[0, 1])


def peak_mib(workload: str, flows: int, key: Key, threads: int) -> float:
    """Peak resident memory, MiB, of a process that scores one window once."""
    command = [sys.executable, __file__, "--alone", *key, "--workloads", workload, "--flows", str(flows)]
    whole = [*command, "--threads", str(threads)]
    done = subprocess.run(whole, capture_output=True, text=True, check=True)  # noqa: S603  # ourselves
    return float(done.stdout)


def alone(workload: str, flows: int, key: Key) -> None:
    """Score one window once and write this process's peak memory, MiB; `ru_maxrss` would be the parent's as well."""
    turns(workload, flows, window(workload, flows), (key,))[key]()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    sys.stdout.write(str(int(status["VmHWM"].split()[0]) / 1024))


def show(console: Console, rows: Sequence[Row]) -> None:
    """Print one table."""
    table = Table("workload", "flows", "hosts", "pairs", "distinct", "size", "dtype", "by", "step", "flows/s", "ratio",
                  "peak MiB", "difference", "Spearman")  # fmt: skip
    plain = {(row.workload, row.flows, row.step): row.flows_per_s for row in rows if row.implementation == "reference"}
    for row in rows:
        base = plain.get((row.workload, row.flows, row.step))
        table.add_row(
            row.workload, f"{row.flows:,}", f"{row.hosts:,}", f"{row.pairs:,}", f"{row.distinct_rows:,}", row.size,
            row.dtype, row.implementation, row.step, f"{row.flows_per_s:,.0f}",
            "" if base is None or row.implementation == "reference" else f"{row.flows_per_s / base:.1f}",
            "" if row.peak_mib is None else f"{row.peak_mib:,.0f}",
            "" if row.max_score_difference is None else f"{row.max_score_difference:.1e}",
            "" if row.spearman is None else f"{row.spearman:.6f}",
        )  # fmt: skip
    console.print(table)


def main() -> None:
    """Measure what the flags ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, help="all but hub, if not given")
    parser.add_argument("--flows", nargs="+", type=int, default=SIZES)
    parser.add_argument("--quick", action="store_true", help="10,000 flows only, peak memory left out")
    parser.add_argument("--threads", type=int, default=1, help="of either implementation")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each implementation")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--alone", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", message="Sparse invariant checks")  # of torch_geometric's A @ A
    with torch.inference_mode():
        if given.alone:
            alone(given.workloads[0], given.flows[0], tuple(given.alone))
        else:
            run(given)


def run(given: argparse.Namespace) -> None:
    """Measure, print and write."""
    console, rows, missing = Console(width=185), list[Row](), list[str]()
    for workload in given.workloads or ("published", "natural", "distinct", "busy"):
        sizes = FIXED.get(workload, (10_000,) if given.quick else tuple(given.flows))
        if given.quick and workload in FIXED:
            missing.append(f"{workload}: it has {sizes[0]:,} flows")
            continue
        for flows in sizes:
            rows += measure(workload, flows, given.repeats, given.threads, not given.quick)
            missing += [f"{workload}: {what}" for what in left_out(flows)]
    show(console, rows)
    if given.quick:
        missing += ["windows of more than 10,000 flows, and peak memory (no --quick)"]
    console.print("Left out:", *(missing or ["nothing"]), sep="\n  ")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
