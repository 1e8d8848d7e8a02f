"""Flows per second from a window to its raw scores, one core: the model in artifacts/gae, and the published size.

`python benchmarks/scoring.py`. Weights do not change the speed, so the published size runs untrained.
"""

import time
from pathlib import Path

import numpy as np
import torch
from graphs import window
from rich.console import Console

from eddyline.contracts import Detector
from eddyline.detectors.gae.detector import GaeDetector
from eddyline.detectors.gae.model import Sizes
from eddyline.detectors.gae.negatives import published_features
from eddyline.graphs import build_graph

MODEL = Path(__file__).parents[1] / "artifacts" / "gae" / "gae"


def detectors() -> dict[str, Detector]:
    """The two sizes, ready to score."""
    published = GaeDetector.fresh(published_features([build_graph(window(1000, 50, 1))]), Sizes(), 0, "cpu")
    published.model.eval()
    return {"artifacts/gae": GaeDetector.load(MODEL, "cpu"), "published size": published}


def main() -> None:
    """Print one line per size and window; flows have distinct features, hosts follow Zipf(1.1)."""
    torch.set_num_threads(1)
    console = Console(width=120)
    for name, detector in detectors().items():
        for flows, hosts in ((1_000, 300), (10_000, 1_000), (100_000, 1_000), (100_000, 10_000)):
            made = window(flows, hosts, 1)
            seconds = []
            for _ in range(5 if flows < 100_000 else 3):
                start = time.perf_counter()
                with torch.inference_mode():
                    graph = build_graph(made)
                    detector.score(graph)
                seconds.append(time.perf_counter() - start)
            pairs = graph.pairs()[0].shape[1]
            console.print(
                f"{name}: {flows:7,} flows {len(graph.hosts):6,} hosts {pairs:6,} pairs: "
                f"{flows / np.median(seconds):10,.0f} flows/s, {np.median(seconds) * 1e3:8.1f} ms a window"
            )


if __name__ == "__main__":
    main()
