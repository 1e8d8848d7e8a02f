"""Training: it learns, it resumes, and what it fits sees benign rows only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from eddyline.config import TrainSettings, load
from eddyline.detectors.gae.detector import GaeDetector
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.recipes import auc, fit, measure, negatives, settle
from eddyline.flows import flow_table
from eddyline.graphs import FlowGraph, build_graph
from eddyline.windows import Window


def habitual_window(seed: int, flows: int = 80) -> FlowGraph:
    """Clients that always use the same server, with sizes that belong to the server."""
    rng = np.random.default_rng(seed)
    client = rng.integers(0, 12, flows)
    columns = {
        "src_addr": [f"10.0.1.{c}" for c in client],
        "dst_addr": [f"10.0.2.{c % 3}" for c in client],
        "bytes": (200 * 10.0 ** (client % 3) * rng.lognormal(0, 0.2, flows)).astype(np.uint64),
        "rev_bytes": (900 * rng.lognormal(0, 0.2, flows)).astype(np.uint64),
        "duration_us": (1e6 * rng.lognormal(0, 0.5, flows)).astype(np.int64),
    }
    return build_graph(
        Window("default", seed * 60_000_000, (seed + 1) * 60_000_000, 0, False, flow_table(columns, flows))
    )


def settings(**flags: object) -> TrainSettings:
    return load(TrainSettings, {"source": "file://x", "model": "m", "hidden": 16, "epochs": 6, "batch": 4, **flags})


def silent(what: str, done: int, of: int, words: str) -> None:
    pass


WINDOWS = [habitual_window(seed) for seed in range(16)]


def weights(detector: GaeDetector) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in detector.model.state_dict().values())


def test_training_learns_to_tell_flows_from_pairs_that_did_not_meet(tmp_path: Path) -> None:
    _, measured = fit(WINDOWS[:12], WINDOWS[12:], settings(epochs=8), tmp_path, silent)
    assert measured["held_out_auc"] > 0.8
    assert measured["held_out_loss"] < 0.6  # ln 2 is guessing


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, _ = fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=2), tmp_path / "a", silent)
    again, _ = fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=2), tmp_path / "b", silent)
    other, _ = fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=2, seed=1), tmp_path / "c", silent)
    assert weights(first) == weights(again) != weights(other)


class PowerCutError(Exception):
    """Stands for whatever ends a process in the middle of a training."""


def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    def cut(what: str, done: int, of: int, words: str) -> None:
        if done == 2:
            raise PowerCutError

    whole, _ = fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=4), tmp_path / "whole", silent)
    with pytest.raises(PowerCutError):
        fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=4), tmp_path / "cut", cut)
    epochs: list[int] = []
    resumed, _ = fit(
        WINDOWS[:6], WINDOWS[6:8], settings(epochs=4), tmp_path / "cut", lambda w, done, of, t: epochs.append(done)
    )
    assert epochs == [3, 4]
    assert weights(resumed) == weights(whole)


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=2), tmp_path, silent)
    epochs: list[int] = []
    fit(WINDOWS[:6], WINDOWS[6:8], settings(epochs=2, seed=5), tmp_path, lambda w, done, of, t: epochs.append(done))
    assert epochs == [1, 2]


def test_negatives_never_met_and_stay_in_the_window() -> None:
    graph = WINDOWS[0]
    edges = Edges.of(graph.edge_index, torch.zeros(len(graph), 3), len(graph.hosts), graph.pairs())
    made = negatives(edges, torch.Generator().manual_seed(0))
    known = set(map(tuple, graph.edge_index.T.tolist()))
    assert 0 < len(made) <= len(graph)
    assert not known & set(map(tuple, made.pairs.T.tolist()))
    assert int(made.pairs.max()) < len(graph.hosts)


def test_settled_statistics_are_the_average_over_the_windows(tmp_path: Path) -> None:
    detector, _ = fit(WINDOWS[:4], WINDOWS[4:6], settings(epochs=1), tmp_path, silent)
    inputs = [detector.inputs(graph) for graph in WINDOWS[:3]]
    settle(detector.model, inputs)
    with torch.no_grad():
        means = [torch.nn.functional.elu(detector.model.attention(x, edges)).mean(0) for x, edges in inputs]
    torch.testing.assert_close(detector.model.norm.running_mean, torch.stack(means).mean(0))
    assert not detector.model.training


def test_measuring_twice_gives_the_same_numbers(tmp_path: Path) -> None:
    detector, _ = fit(WINDOWS[:4], WINDOWS[4:6], settings(epochs=1), tmp_path, silent)
    held = [detector.inputs(graph) for graph in WINDOWS[4:6]]
    assert measure(detector.model, held) == measure(detector.model, held)


def test_auc_by_hand() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == (1 + 0.5 + 1 + 1) / 4
    assert np.isnan(auc(np.array([]), np.array([1.0])))
