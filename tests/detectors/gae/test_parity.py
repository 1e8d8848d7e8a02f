"""The published model's own numbers on the fixture windows, from the inputs alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from eddyline.detectors.gae.parity import from_published, score_window
from eddyline.errors import ConfigError

FIXTURE = Path(__file__).parents[3] / ".." / "shared" / "parity"  # beside the checkout
pytestmark = pytest.mark.skipif(not FIXTURE.is_dir(), reason="the parity fixture (shared/parity) is not here")
MANIFEST = json.loads((FIXTURE / "manifest.json").read_text()) if FIXTURE.is_dir() else {"small": {}, "full": {}}
WINDOWS = [(tag, name) for tag in ("small", "full") for name in MANIFEST[tag]]
SAFE = [(tag, name) for tag, name in WINDOWS if MANIFEST[tag][name]["parity_safe"]]
UNSAFE = [(tag, name) for tag, name in WINDOWS if not MANIFEST[tag][name]["parity_safe"]]


def files(tag: str, name: str) -> tuple[Path, Path, Path]:
    return FIXTURE / f"model_{tag}.safetensors", FIXTURE / f"prep_{tag}.npz", FIXTURE / f"{tag}_{name}.npz"


def test_the_fixture_has_both_kinds_of_windows() -> None:
    assert len(SAFE) >= 20
    assert len(UNSAFE) >= 4


@pytest.mark.parametrize(("tag", "name"), SAFE)
def test_a_safe_window_in_float32(tag: str, name: str) -> None:
    x, z, scores = score_window(*files(tag, name))
    with np.load(files(tag, name)[2], allow_pickle=False) as window:
        assert x.dtype == z.dtype == scores.dtype == np.float32
        assert np.abs(x - window["x"]).max() <= 5e-6
        assert np.abs(z - window["z"]).max() <= 1e-4
        assert np.abs(scores - window["score"]).max() <= 1e-5


@pytest.mark.parametrize(("tag", "name"), WINDOWS)
def test_every_window_in_float64(tag: str, name: str) -> None:
    """Top-k ties are decided the same way there, so even these windows agree; x is left out where a hop cancels."""
    x, z, scores = score_window(*files(tag, name), dtype=torch.float64)
    hosts = np.setdiff1d(np.arange(len(x)), MANIFEST[tag][name]["ill_conditioned_nodes"])
    with np.load(files(tag, name)[2], allow_pickle=False) as window:
        assert np.abs(x - window["x_f64"])[hosts].max() <= 1e-6
        assert np.abs(z - window["z_f64"]).max() <= 1e-5
        assert np.abs(scores - (1 - window["prob_f64"])).max() <= 2e-6


@pytest.mark.parametrize(("tag", "name"), UNSAFE)
def test_what_makes_a_window_unsafe_is_a_tie_or_a_hop_that_cancels(tag: str, name: str) -> None:
    facts = MANIFEST[tag][name]
    x, _, _ = score_window(*files(tag, name))
    with np.load(files(tag, name)[2], allow_pickle=False) as window:
        wrong = np.abs(x - window["x_f64"]).max(1) > 5e-6
        length = np.linalg.norm(x - window["x_f64"], axis=1)
    assert np.flatnonzero(wrong).tolist() == facts["ill_conditioned_nodes"]
    assert facts["topk_tie"] or facts["ill_conditioned_nodes"]
    assert np.allclose(
        length[wrong], 0.25, atol=1e-6
    )  # a third hop of pure noise, at full weight, is what we leave out


@pytest.mark.parametrize("tag", ["small", "full"])
def test_weights_of_another_model_are_refused_by_name(tag: str) -> None:
    state = load_file(FIXTURE / f"model_{tag}.safetensors")
    assert from_published(state).training is False
    with pytest.raises(ConfigError, match=r"decoder\.fc\.bias"):
        from_published({name: value for name, value in state.items() if name != "decoder.fc.bias"})
    with pytest.raises(ConfigError, match=r"encoder\.extra"):
        from_published({**state, "encoder.extra": torch.zeros(1)})
