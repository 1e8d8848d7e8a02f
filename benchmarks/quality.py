"""How good the default model is on labelled protocols, beside the bars it must clear: `make quality`.

Every protocol folder holds `benign.parquet`, to train on, and `stream.parquet`, whose rows with `part` 2 are judged.
Train and evaluate are the command lines that users have. Protocols that differ only in `_seedN` are one row, and their
N is the training seed; others are trained with several seeds, unless two in a row give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PROTOCOLS: Final = ROOT.parent / "shared" / "data" / "protocols"
HEADLINE: Final = 1e-3
Scorer = dict[str, Any]  # one object of `scorers` in evaluation.json


@dataclass(frozen=True)
class Bar:
    """What must be reached; `measure` reads it from a scorer. `best` is the best simple scorer known, in hindsight."""

    protocol: str
    name: str
    measure: Callable[[Scorer], float]
    best: str
    floor: float | None
    goal: float
    at_most: bool = False
    interval: str | None = None  # its name in `intervals` of evaluation.json

    def met(self, value: float, bound: float | None) -> bool:
        """Whether `value` reaches `bound`; True without one."""
        return bound is None or (value <= bound if self.at_most else value >= bound)


def promise(scorer: Scorer) -> dict[str, Any]:
    """The promise at the headline level."""
    return next(one for one in scorer["promises"] if one["level"] == HEADLINE)


def number(name: str) -> Callable[[Scorer], float]:
    """Read a number of the headline promise."""
    return lambda scorer: float(promise(scorer)[name])


def class_recall(name: str) -> Callable[[Scorer], float]:
    """Read the recall of one attack class."""
    return lambda scorer: float(next(kind["recall"] for kind in scorer["classes"] if kind["name"] == name))


def kept(scorer: Scorer) -> float:
    """Achieved over promised on clean benign flows or their pair-minutes, whichever is lower."""
    return float(min(promise(scorer)["ratio"], promise(scorer)["pair_minute_ratio"]))


def worst_day(scorer: Scorer) -> float:
    """Achieved over promised on the worst day, flows or pair-minutes, whichever is lower that day."""
    return max(float(min(day["rate"], day["pair_minute_rate"])) for day in scorer["days"]) / HEADLINE


OVERLAY, WESTERMO, DARPA = "overlay_dev_remapped", "westermo_first_bottom_intrusions_remapped", "darpa_dev_remapped"
BARS: Final = (
    Bar(OVERLAY, "recall", number("recall"), "0.61 pair burst", 0.70, 0.90, interval="recall"),
    Bar(
        OVERLAY,
        "recall, class mean",
        number("class_mean"),
        "0.65 unanswered, destination",
        0.72,
        0.88,
        interval="class_mean",
    ),
    Bar(OVERLAY, "recall, oracle", lambda one: float(one["oracle"]["recall"]), "0.77 host z, destination", 0.80, 0.92),
    Bar(WESTERMO, "recall", number("recall"), "0.69 kNN", 0.72, 0.85, interval="recall"),
    Bar(WESTERMO, "recall, man in the middle", class_recall("BAD-MITM"), "0.00", None, 0.30),
    Bar(
        DARPA,
        "recall, pair-minutes",
        number("pair_minute_recall"),
        "0.78 MIDAS-R",
        0.82,
        0.90,
        interval="pair_minute_recall",
    ),
    Bar(DARPA, "recall, class mean", number("class_mean"), "0.49 source novelty", 0.55, 0.75, interval="class_mean"),
    Bar("luflow_dev", "achieved / promised, worst day", worst_day, "-", 3, 2, at_most=True),
    Bar("darpa_dev", "false groups per day and 1,000 hosts", number("false_groups_per_day"), "-", 50, 10, at_most=True),
)


@dataclass(frozen=True)
class Protocol:
    """One folder; `group` is its row."""

    folder: Path

    @property
    def group(self) -> str:
        """The name without its seed."""
        return re.sub(r"_seed\d+$", "", self.folder.name)

    def seeds(self, wanted: int) -> list[int]:
        """Training seeds: the protocol's own where it has one."""
        own = re.search(r"_seed(\d+)$", self.folder.name)
        return [int(own[1])] if own else list(range(wanted))

    def measure(self, wanted: int, say: Callable[[str], None]) -> list[list[Scorer]]:
        """Train and evaluate with each seed; the baselines only with the first, for they are the same."""
        found: list[list[Scorer]] = []
        for seed in self.seeds(wanted):
            began = time.monotonic()
            found.append(one_run(self.folder, seed, baselines=not found))
            model = found[-1][0]
            say(f"{self.folder.name}, seed {seed}: recall {promise(model)['recall']}, {kept(model):.1f}x, "
                f"{time.monotonic() - began:.0f} s")  # fmt: skip
            if len(found) > 1 and models(found[-1]) == models(found[-2]):
                break
        return found


def models(scorers: Sequence[Scorer]) -> list[Scorer]:
    """The rows that are no baselines."""
    return [one for one in scorers if one["model"]]


def one_run(protocol: Path, seed: int, *, baselines: bool) -> list[Scorer]:
    """Train on the benign rows, evaluate the stream; returns `scorers` of evaluation.json."""
    with tempfile.TemporaryDirectory(prefix="eddyline-") as scratch:
        model, out = f"{scratch}/model", f"{scratch}/out"
        eddyline("train", "--source", f"file://{protocol}/benign.parquet", "--model", model, "--seed", str(seed))
        eddyline("evaluate", "--source", f"file://{protocol}/stream.parquet", "--model", model, "--out", out,
                 "--baselines", "all" if baselines else "none")  # fmt: skip
        scorers: list[Scorer] = json.loads(Path(out, "evaluation.json").read_text())["scorers"]
    return scorers


def eddyline(*arguments: str) -> None:
    """Run one command line on one thread; leaves with its words when it fails."""
    command = [sys.executable, "-m", "eddyline.cli", *arguments]
    threads = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=threads, capture_output=True, text=True)  # noqa: S603  # our own arguments
    if done.returncode:
        sys.exit(f"eddyline {' '.join(arguments)}\n{done.stderr[-2000:]}")


def page(found: dict[str, list[list[Scorer]]], seconds: float) -> str:
    """The table of the bars, then everything that was measured."""
    commit = git("rev-parse", "--short", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")
    return (
        f"# Quality\n\nMade by `make quality` on {datetime.now(UTC):%d %B %Y} from commit {commit} in "
        f"{seconds / 60:.0f} minutes. Default model, trained on each protocol's benign rows. Words: "
        "`eddyline evaluate` writes them under its table. Mean over runs, lowest and highest in brackets.\n\n"
        f"{bars(found)}\n## All that was measured\n\n{everything(found)}"
    )


def bars(found: dict[str, list[list[Scorer]]]) -> str:
    """Floor and goal beside what was measured; misses are marked."""
    titles = ["protocol", "measure", "best simple scorer", "floor", "goal", "measured", "95 % over hours", "reached"]
    rows = []
    every = [Bar(group, "achieved / promised", kept, "-", 3, 2, at_most=True) for group in found]
    for bar in (*BARS, *every):
        if bar.protocol in found:
            values = [bar.measure(run[0]) for run in found[bar.protocol]]
            value = fmean(values)
            state = "goal" if bar.met(value, bar.goal) else "floor" if bar.met(value, bar.floor) else "**missed**"
            state = "below goal" if state == "floor" and bar.floor is None else state
            sign = "<= " if bar.at_most else ""
            bounds = ["-" if bound is None else f"{sign}{bound:g}" for bound in (bar.floor, bar.goal)]
            rows.append(
                [bar.protocol, bar.name, bar.best, *bounds, spread(values), interval(bar, found[bar.protocol]), state]
            )
    return table([titles, ["---"] * len(titles), *rows])


def interval(bar: Bar, runs: Sequence[Sequence[Scorer]]) -> str:
    """The bootstrap's interval, its bounds averaged over runs; only some measures have one."""
    bounds = [run[0]["intervals"][bar.interval] for run in runs] if bar.interval else []
    known = [(low, high) for low, high in bounds if low is not None]
    return f"[{write(fmean(low for low, _ in known))}, {write(fmean(high for _, high in known))}]" if known else "-"


def everything(found: dict[str, list[list[Scorer]]]) -> str:
    """Every protocol: the model, its detectors alone, and the best baseline that keeps its promise."""
    titles = ["protocol", "scorer", "runs that keep the promise", "achieved / promised, flows",
              "achieved / promised, pair-minutes", "recall", "recall, class mean", "recall, pair-minutes", "oracle",
              "oracle, class mean", "oracle, pair-minutes", "false groups", "collateral", "worst class"]  # fmt: skip
    rows = []
    for group, runs in found.items():
        for place in range(len(models(runs[0]))):
            rows.append(line(group, [run[place] for run in runs]))
        names = {one["name"] for run in runs for one in run if not one["model"]}
        by_name = [[one for run in runs for one in run if one["name"] == name] for name in names]
        valid = [ones for ones in by_name if all(promise(one)["kept"] for one in ones)]
        if valid:
            rows.append(line(group, max(valid, key=lambda ones: fmean(promise(one)["recall"] or 0 for one in ones))))
    return table([titles, ["---"] * len(titles), *rows])


def line(group: str, runs: Sequence[Scorer]) -> list[str]:
    """One scorer on one protocol."""
    names = ("ratio", "pair_minute_ratio", "recall", "class_mean", "pair_minute_recall")
    promised = [spread([promise(one)[name] for one in runs]) for name in names]
    ranked = [spread([one["oracle"][name] for one in runs]) for name in ("recall", "class_mean", "pair_minute_recall")]
    rest = [spread([promise(one)[name] for one in runs]) for name in ("false_groups_per_day", "collateral_rate")]
    worst = [f"{one['classes'][0]['name']} {one['classes'][0]['recall']:.2f}" for one in runs if one["classes"]][:1]
    state = f"{sum(promise(one)['kept'] for one in runs)} of {len(runs)}"
    return [group, runs[0]["name"], state, *promised, *ranked, *rest, *(worst or ["-"])]


def spread(values: Sequence[float | None]) -> str:
    """Mean, and lowest and highest where they differ."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, middle, high = (write(value) for value in (min(known), fmean(known), max(known)))
    return middle if low == high else f"{middle} [{low}, {high}]"


def write(value: float) -> str:
    """Two digits after the point below 10, none above 100."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as Markdown."""
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def git(*arguments: str) -> str:
    """Ask git about this checkout."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()  # noqa: S603


def say(text: str) -> None:
    """One plain line at once."""
    sys.stderr.write(text + "\n")


def main() -> None:
    """Measure every protocol, the remapped ones first, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocols", type=Path, default=PROTOCOLS, help="folder of protocol folders")
    parser.add_argument("--only", nargs="*", help="protocols whose names begin so")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--jobs", type=int, default=2, help="protocols at a time")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"), help="page to write")
    asked = parser.parse_args()
    wanted = tuple(asked.only or [""])
    folders = [folder for folder in sorted(asked.protocols.iterdir()) if folder.name.startswith(wanted)]
    protocols = [Protocol(folder) for folder in folders if (folder / "stream.parquet").is_file()]
    protocols.sort(key=lambda one: ("remapped" not in one.group, -(one.folder / "stream.parquet").stat().st_size))
    began = time.monotonic()
    with ThreadPoolExecutor(asked.jobs) as pool:
        runs = list(pool.map(lambda one: one.measure(asked.seeds, say), protocols))
    found: dict[str, list[list[Scorer]]] = {}
    for protocol, measured in zip(protocols, runs, strict=True):
        found.setdefault(protocol.group, []).extend(measured)
    asked.out.write_text(page(found, time.monotonic() - began), encoding="utf-8")


if __name__ == "__main__":
    main()
