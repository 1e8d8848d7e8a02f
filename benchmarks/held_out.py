"""A model on networks it has never seen, and how many benign windows it takes to move there: `held_out.py`.

Trained on one simulated network, calibrated on benign minutes of others (`eddyline calibrate`), judged on two later
hours of those with all kinds of attack: hosts, addresses, traffic and attackers are new. AUC is of each kind's flows
against the clean benign ones; "achieved" is the share of these at p <= 1e-3 by 1e-3, by flows and by pair-minutes. A
second table is of attacks implanted into two benign hours, see `implants.py`.
"""

import argparse
import tempfile
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow.parquet as pq
from implants import implanted
from rich.console import Console
from rich.table import Table

from eddyline.config import CalibrateSettings, RunSettings, TrainSettings, load
from eddyline.evaluation.judge import judge
from eddyline.evaluation.ranking import roc_auc
from eddyline.evaluation.scored import Scored, scored_flows
from eddyline.runtimes import load_runtime
from eddyline.training import calibrate, train

HOSTS, TRAINED_ON = 200, 7


def network(seed: int, traffic: int, hours: str, seconds: int, campaigns: str) -> str:
    """Name simulated traffic."""
    return (
        f"simulate://office?hosts={HOSTS}&seed={seed}&traffic={traffic}&seconds={seconds}&campaigns={campaigns}"
        f"&start=2026-01-{hours}:00:00Z"
    )


def scored_on(source: str, model: Path, habits: str, out: Path) -> Scored:
    """Run the service over a source."""
    load_runtime("embedded")(
        load(RunSettings, {"source": source, "model": [model], "sink": [f"file://{out}"], "habits": habits}),
        Event(),
        lambda counts: None,
    )
    return scored_flows(pq.read_table(out / "flows"), None, None)


def row(seed: int, minutes: int, scored: Scored) -> tuple[list[str], list[str]]:
    """Names and values of one line of the table."""
    truth, p = scored.truth, scored.p["p"][scored.judged]
    verdict = judge(truth, p)
    found = {"network": str(seed), "minutes": str(minutes)}
    for number, name in enumerate(truth.kinds):
        rows = truth.clean | (truth.kind == number)
        if (truth.kind == number).any():
            found[name] = f"{roc_auc(-np.log(p[rows]), truth.attack[rows]):.3f}"
    promise = verdict.headline
    found |= {"achieved": f"{promise.ratio:.1f} ({promise.pair_minute_ratio:.1f})", "recall": f"{promise.recall:.2f}"}
    return list(found), list(found.values())


def main() -> None:
    """Train once, move to every network with every number of minutes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", type=int, default=[11, 12])
    parser.add_argument("--minutes", nargs="+", type=int, default=[30, 60, 120, 240])
    parser.add_argument("--habits", choices=("causal", "frozen"), default="causal")
    parser.add_argument("--detector", nargs="+", default=["habits"])
    given = parser.parse_args()
    tables: dict[str, Table] = {}
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "trained"
        source = network(TRAINED_ON, 100, "05T08", 4 * 3600, "none")
        train(load(TrainSettings, {"source": source, "model": trained, "detector": given.detector}), lambda *_: None)
        for seed in given.networks:
            for minutes in given.minutes:
                model = Path(folder) / f"model-{seed}-{minutes}"
                benign = network(seed, 50 + seed, "06T09", 60 * minutes, "none")
                calibrate(load(CalibrateSettings, {"source": benign, "model": trained, "out": model}), lambda *_: None)
                file = Path(folder) / f"implants-{seed}-{minutes}.parquet"
                implanted(network(seed, seed, "07T13", 7200, "none"), file, seed)
                for name, judged in (
                    ("campaigns", network(seed, seed, "07T13", 7200, "all")),
                    ("implants", f"file://{file}"),
                ):
                    names, values = row(
                        seed, minutes, scored_on(judged, model, given.habits, Path(folder) / f"{name}-{seed}-{minutes}")
                    )
                    tables.setdefault(name, Table(*names, title=name)).add_row(*values)
    for table in tables.values():
        Console(width=170).print(table)


if __name__ == "__main__":
    main()
