"""What every detector promises, whatever it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from eddyline.contracts import Detector
from eddyline.detectors import DETECTORS
from eddyline.detectors.gae.detector import GaeDetector
from eddyline.detectors.gae.features import Feature
from eddyline.detectors.gae.model import Sizes
from eddyline.detectors.habits.detector import HabitsDetector
from eddyline.errors import ArtifactError
from eddyline.flows import flow_table
from eddyline.graphs import FlowGraph, columns_of
from eddyline.habits import Habits
from eddyline.scoring import remembered
from eddyline.windows import Window


def gae() -> GaeDetector:
    names = ("bytes", "rev_bytes", "duration_us")
    features = tuple(Feature.fit(name, "log", torch.tensor([10.0, 1e3, 1e5, torch.nan])) for name in names)
    detector = GaeDetector.fresh(features, Sizes(in_channels=8, hidden=16, global_dim=8), seed=1, device="cpu")
    detector.model.eval()
    return detector


def habits() -> HabitsDetector:
    return HabitsDetector.fit([graph(some_window(5_000, seed=seed)) for seed in (20, 21)])


FRESH = {"gae": gae, "habits": habits}
MINUTE_US = 60_000_000


def some_window(flows: int = 60, seed: int = 0, hosts: int = 9, minute: int = 10) -> Window:
    rng = np.random.default_rng(seed)
    names = [f"10.0.0.{i}" for i in range(hosts - 2)] + ["2001:db8::1", "fe80::2"]
    columns = {
        "src_addr": [names[i] for i in rng.integers(0, hosts, flows)],
        "dst_addr": [names[i] for i in rng.integers(0, hosts, flows)],
        "dst_port": rng.choice([53, 80, 443], flows).astype(np.uint16),
        "bytes": rng.lognormal(6, 2, flows).astype(np.uint64),
        "rev_bytes": rng.lognormal(6, 2, flows).astype(np.uint64),
        "duration_us": rng.integers(0, 10**7, flows),
        "label": rng.choice(["benign", "malicious"], flows).tolist(),
    }
    return Window("default", minute * MINUTE_US, (minute + 1) * MINUTE_US, 0, False, flow_table(columns, flows))


def lived() -> Habits:
    """The memory of a site after nine minutes."""
    memory = Habits.empty()
    for minute in range(1, 10):
        window = some_window(seed=minute, minute=minute)
        made, now = remembered(window, memory, "cpu")
        memory = memory.after(made.conversations(), columns_of(made), now, np.ones(len(window)))
    return memory


MEMORY = lived()  # reading changes nothing


def graph(window: Window) -> FlowGraph:
    return remembered(window, MEMORY, "cpu")[0]


def score(detector: Detector, window: Window) -> np.ndarray:
    with torch.inference_mode():
        return detector.score(graph(window)).numpy()


@pytest.fixture(params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest) -> Detector:
    return FRESH[request.param]()


def test_one_finite_float32_score_per_flow(detector: Detector) -> None:
    for flows in (0, 1, 2, 60):
        scores = score(detector, some_window(flows))
        assert scores.shape == (flows,)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()


def test_permuting_the_flows_permutes_the_scores(detector: Detector) -> None:
    window = some_window()
    order = np.random.default_rng(1).permutation(len(window))
    shuffled = replace(window, flows=window.flows.take(pa.array(order)))
    np.testing.assert_allclose(score(detector, shuffled), score(detector, window)[order], atol=1e-4)


def test_ten_parallel_flows_with_different_features_have_ten_scores(detector: Detector) -> None:
    columns = {
        "src_addr": ["a"] * 10,
        "dst_addr": ["b"] * 10,
        "bytes": [10**i for i in range(10)],
        "rev_bytes": [7] * 10,
    }
    window = replace(some_window(), flows=flow_table(columns, 10))
    assert len(set(score(detector, window).tolist())) == 10


def test_labels_change_no_score(detector: Detector) -> None:
    window = some_window()
    place = window.flows.column_names.index("label")
    other = window.flows.set_column(
        place, window.flows.schema.field("label"), window.flows["label"].take(pa.array(np.arange(60)[::-1]))
    )
    np.testing.assert_array_equal(score(detector, window), score(detector, replace(window, flows=other)))


def test_scoring_changes_neither_the_graph_nor_the_detector(detector: Detector) -> None:
    made = graph(some_window())
    before = made.edge_features.clone(), made.edge_index.clone()
    with torch.inference_mode():
        first = detector.score(made)
        score(detector, some_window(seed=5))
        again = detector.score(made)
    assert torch.equal(first, again)
    torch.testing.assert_close(made.edge_features, before[0], equal_nan=True, rtol=0, atol=0)
    assert torch.equal(made.edge_index, before[1])


def test_saved_and_loaded_it_gives_the_same_bytes(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path)
    loaded = type(detector).load(tmp_path, "cpu")
    assert score(loaded, some_window()).tobytes() == score(detector, some_window()).tobytes()
    assert not [file for file in tmp_path.rglob("*") if file.suffix in {".pkl", ".pt", ".pth"}]


def test_a_missing_or_broken_file_is_named(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=detector.name):
        type(detector).load(tmp_path, "cpu")
    detector.save(tmp_path)
    for file in tmp_path.iterdir():
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ArtifactError):
            type(detector).load(tmp_path, "cpu")
        file.write_bytes(whole)


def test_self_loops_ipv6_and_missing_values_are_ordinary(detector: Detector) -> None:
    columns = {"src_addr": ["::1", "::1", "MAC"], "dst_addr": ["::1", "fe80::1", "::1"]}
    window = replace(some_window(), flows=flow_table(columns, 3))
    assert np.isfinite(score(detector, window)).all()


def test_explanations_name_features_in_falling_order_of_contribution(detector: Detector) -> None:
    made = graph(some_window())
    with torch.inference_mode():
        why = detector.explain(made, torch.tensor([3, 0]))
    assert list(dict.fromkeys(why.edge)) == [3, 0]
    assert {len(column) for column in (why.feature, why.unit, why.observed, why.expected, why.contribution)} == {
        len(why.edge)
    }
    for edge in (3, 0):
        of_edge = [c for e, c in zip(why.edge, why.contribution, strict=True) if e == edge]
        assert of_edge == sorted(of_edge, reverse=True)


def test_the_gae_explains_a_changed_feature_by_that_feature() -> None:
    """Only the bytes differ from what is usual, so only the bytes can explain."""
    detector = gae()
    usual = {feature.name: feature.usual for feature in detector.preparation.features}
    columns = {"src_addr": ["a", "b"], "dst_addr": ["b", "a"]} | {
        name: [int(value)] * 2 for name, value in usual.items()
    }
    columns["bytes"] = [10**12, int(usual["bytes"])]
    made = graph(replace(some_window(), flows=flow_table(columns, 2)))
    with torch.inference_mode():
        why = detector.explain(made, torch.tensor([0]))
    gone = dict(zip(why.feature, why.contribution, strict=True))
    assert abs(gone["bytes sent"]) > 1e-3
    assert gone["bytes received"] == pytest.approx(0, abs=1e-5)
    assert gone["duration"] == pytest.approx(0, abs=1e-5)
    observed = dict(zip(why.feature, why.observed, strict=True))
    assert observed["bytes sent"] == pytest.approx(1e12)
