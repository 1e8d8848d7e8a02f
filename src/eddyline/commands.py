"""What each command does, and what a person sees of it: progress on a terminal, plain lines in a pipe."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from eddyline import training
from eddyline.artifacts import fingerprint, read_manifest
from eddyline.config import (
    CalibrateSettings,
    CollectSettings,
    DoctorSettings,
    EvaluateSettings,
    ReplaySettings,
    RunSettings,
    SimulateSettings,
    TrainSettings,
)
from eddyline.errors import EddylineError, redact
from eddyline.metrics import Counts
from eddyline.operating.status import status_of
from eddyline.runtimes import load_runtime, use_threads
from eddyline.training import Report

_PLAIN_EVERY_S: Final = 10.0


def run(settings: RunSettings) -> None:
    """Score a stream or a file until the source ends or a signal comes; then say what happened."""
    console = Console(stderr=True)
    if console.is_terminal:
        where = redact(f"reading {settings.source}, writing to {', '.join(settings.sink)}")
        console.print(where, highlight=False, soft_wrap=True)
    with stop_on_signals() as stop, watching(console) as report:
        with status_of(settings.metrics, report, stop) as heard:
            counts = load_runtime(settings.runtime, settings.source)(settings, stop, heard)
    summarise(counts, console)


def collect(settings: CollectSettings) -> None:
    """Send flows to a topic until the source ends or a signal comes; then say how many and what was lost on the way."""
    from eddyline.runtimes.collector import collect as collected  # Kafka's client is an extra

    console = Console(stderr=True)
    with stop_on_signals() as stop, watching(console) as report:
        with status_of(settings.metrics, report, stop) as heard:
            counts = collected(settings, stop, heard)
    for name, text in (("flows sent", f"{counts.flows:,}"), *counts.on_the_way()):
        console.print(f"{name:<24}{text}", highlight=False, soft_wrap=True)


def train(settings: TrainSettings) -> None:
    """Train, calibrate and save one model folder."""
    use_threads(settings.threads)
    with progress() as report:
        manifest = training.train(settings, report)
    Console(stderr=True).print(f"trained {', '.join(manifest.detectors)}; saved in {settings.model}", highlight=False)
    show(settings.model)


def calibrate(settings: CalibrateSettings) -> None:
    """Learn a new network's quantiles for a trained model."""
    use_threads(settings.threads)
    with progress() as report:
        manifest = training.calibrate(settings, report)
    for name, flows in manifest.detectors.items():
        minutes = manifest.pair_minutes[name]
        Console(stderr=True).print(f"{name}: calibrated on {flows:,} benign flows in {minutes:,} pair-minutes")


def evaluate(settings: EvaluateSettings) -> None:
    """Judge models on labelled flows and say the headline; the rest is in the folder."""
    from eddyline.evaluation.evaluate import evaluate as judged  # its libraries are an extra
    from eddyline.evaluation.report import headline

    with progress() as report:
        rows = judged(settings, report)
    console = Console(stderr=True)
    for line in headline(rows):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"table and pictures: {settings.out}", highlight=False)


def simulate(settings: SimulateSettings) -> None:
    """Write the labelled network to a file or export it as NetFlow."""
    from eddyline.simulation import export  # the simulator is not needed to run the service

    with stop_on_signals() as stop, progress() as report:
        sent, taken = export(settings, stop, report)
    rest = f"; {taken - sent:,} cannot be said in this version of NetFlow" if sent < taken else ""
    Console(stderr=True).print(f"{sent:,} flows written to {settings.sink}{rest}", highlight=False, soft_wrap=True)


def replay(settings: ReplaySettings) -> None:
    """Send a capture's NetFlow or a file's flows, and say what went out and what did not."""
    from eddyline.replay import replay as play  # nothing of it is needed to run the service

    with stop_on_signals() as stop, progress() as report:
        done = play(settings, stop, report)
    said = [f"{done.sent:,} {done.what} sent to {settings.sink}"]
    said += [f"{count:,} left out: {reason}" for reason, count in done.left_out.most_common(10)]
    if not done.apart:
        said.append(f"{done.exporters} exporters left from one address, where templates of one may replace those of "
                    "another: replay to 127.0.0.1")  # fmt: skip
    if done.behind_s > 1:
        said.append(f"the latest left {done.behind_s:.1f} s after it was due: give a lower --speed")
    for line in said:
        Console(stderr=True).print(line, highlight=False, soft_wrap=True)


def doctor(settings: DoctorSettings) -> None:
    """Say what is right, what could be better and what is wrong; raises EddylineError if anything is wrong."""
    from eddyline.operating.doctor import examine  # the service does not need it

    wrong, console = 0, Console()
    with stop_on_signals() as stop, progress() as report:
        for finding in examine(settings, stop, report):
            wrong += finding.level == "wrong"
            console.print(finding.line(), highlight=False, soft_wrap=True, markup=False)
    if wrong:
        raise EddylineError(f"doctor: {wrong} of these are wrong; what to do stands beside them")


def show(folder: Path) -> None:
    """Explain a model folder."""
    manifest = read_manifest(folder)
    table = Table(title=f"model {folder} ({fingerprint(folder)})", show_header=False, box=None, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for name, flows in manifest.detectors.items():
        minutes = manifest.pair_minutes[name]
        table.add_row("detector", f"{name}: calibrated on {flows:,} benign flows in {minutes:,} pair-minutes")
    for part in ("windows", "training", "metrics", "libraries"):
        for key, value in getattr(manifest, part).items():
            table.add_row(f"{part}.{key}", f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(table, highlight=False)


def demo(seconds: float, port: int) -> None:
    """Run the service on live NetFlow with attacks in it, and say what it found."""
    from eddyline.demo import SPEED, run_demo, tell  # the simulator is not needed to run the service

    console = Console(stderr=True)
    console.print(f"NetFlow v9 on 127.0.0.1:{port}; an office of 300 hosts exports {SPEED} simulated seconds "
                  "per second, with attacks.", highlight=False)  # fmt: skip
    out = Path("demo-out")
    with stop_on_signals() as stop, watching(console) as report:
        counts, verdict = run_demo(seconds, port, out, stop, report)
    summarise(counts, console)
    tell(verdict, console)
    console.print(f"Every scored flow: {out / 'flows'}, alerts: {out / 'alerts.jsonl'}", highlight=False)


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """Set the event on SIGINT or SIGTERM, once; a second signal kills as usual."""
    stop = Event()

    def handler(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[number])

    before: dict[int, Any] = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def watching(console: Console) -> Iterator[Callable[[Counts], None]]:
    """Show a run's counts: one line kept fresh on a terminal, a plain line every ten seconds elsewhere."""
    if console.is_terminal:
        with console.status("starting", spinner="dots") as status:
            yield lambda counts: status.update(counts.line())
        return
    said = 0.0

    def report(counts: Counts) -> None:
        nonlocal said
        if counts.seconds - said >= _PLAIN_EVERY_S:
            said = counts.seconds
            sys.stderr.write(counts.line() + "\n")

    yield report


def summarise(counts: Counts, console: Console) -> None:
    """Print the counts of a finished run."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in counts.summary():
        table.add_row(name, value)
    console.print(table, highlight=False)


@contextmanager
def progress() -> Iterator[Report]:
    """Show long work: a bar on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_lines()
        return
    said = TextColumn("{task.fields[words]}")
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        said,
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, of: int, words: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of or None, words=words)
            bars.update(tasks[what], completed=done, total=of or None, words=words)

        yield report


def _plain_lines() -> Report:
    def report(what: str, done: int, of: int, words: str) -> None:
        if of:  # work without a known end says nothing until it is over
            sys.stderr.write(f"{what} {done}/{of}: {words}\n")

    return report
