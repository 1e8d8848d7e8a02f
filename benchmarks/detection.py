"""What a model finds in the simulated office, by campaign and by benign hour: `benchmarks/detection.py [--model DIR]`.

The network is the one that artifacts/gae was trained on, on the day after, with traffic it has not seen.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from threading import Event

import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console

from eddyline.config import RunSettings, default_model, load
from eddyline.demo import ALERTS, judge
from eddyline.runtimes import load_runtime
from eddyline.sources.simulate import open_simulate

HOUR_US = 3_600_000_000
CASES = ((1, 9), (2, 10), (3, 11), (4, 13), (5, 14), (6, 16))  # traffic seed, hour of the day


def scored(model: Path, url: str, out: Path) -> None:
    """Run the service on `url`, writing to `out`."""
    flags = {"source": url, "model": [model], "sink": [f"file://{out}"], "alerts": ALERTS.model_dump()}
    load_runtime("embedded")(load(RunSettings, flags), Event(), lambda counts: None)


def main() -> None:
    """Print one line per hour with attacks and one per benign hour, then how often each kind was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model())
    model = parser.parse_args().model
    console = Console(width=140)
    found: Counter[str] = Counter()
    for traffic, hour in CASES:
        out = Path(tempfile.mkdtemp())
        url = f"simulate://office?hosts=300&seed=7&traffic={traffic}&start=2026-01-06T{hour:02d}:00:00Z&seconds=3600"
        scored(model, url, out / "attacks")
        source = open_simulate(url)
        start_us = pc.min(pq.read_table(out / "attacks" / "flows", columns=["ts_end"])["ts_end"]).value
        verdict = judge(out / "attacks", source.schedule.between(start_us, start_us + HOUR_US))
        found.update(campaign.kind for campaign, ids in verdict.campaigns if ids)
        scored(model, f"{url}&campaigns=none", out / "benign")
        p = pq.read_table(out / "benign" / "flows", columns=["p"])["p"].to_numpy()
        console.print(
            f"traffic {traffic}, {hour:02d} h: {sum(bool(ids) for _, ids in verdict.campaigns)} of "
            f"{len(verdict.campaigns)} campaigns; alerts: {verdict.true} true, {verdict.collateral} collateral, "
            f"{verdict.false} false; benign hour, {len(p):,} flows: p <= 1e-2 {(p <= 1e-2).mean():.4f}, "
            f"p <= 1e-3 {(p <= 1e-3).mean():.5f}, p <= 1e-4 {(p <= 1e-4).mean():.6f}"
        )
        shutil.rmtree(out)
    console.print({kind: f"{count} of {len(CASES)}" for kind, count in found.most_common()})


if __name__ == "__main__":
    main()
