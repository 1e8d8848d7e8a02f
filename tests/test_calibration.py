"""p-values: what they promise, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline import calibration
from eddyline.calibration import Calibration
from eddyline.combine import combine
from eddyline.errors import ArtifactError, ConfigError
from eddyline.scoring import strangeness


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def binomial_bounds(n: int, p: float) -> tuple[float, float]:
    """Six standard deviations and one flow: wide enough that a true promise fails once in a billion runs."""
    width = 6 * np.sqrt(n * p * (1 - p)) + 1
    return n * p - width, n * p + width


def test_p_is_the_share_of_benign_scores_at_least_as_high() -> None:
    fitted = Calibration.of(floats(1, 2, 2, 3))
    assert fitted.flows == 4
    np.testing.assert_allclose(fitted.p(floats(0, 1, 1.5, 2, 2.5, 3, 4)), np.array([5, 5, 4, 4, 2, 2, 1]) / 5)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.01, 0.1, 0.5]), st.sampled_from([None, 1, 0.1]))
@settings(max_examples=40, deadline=None)
def test_on_exchangeable_benign_flows_the_share_below_p_is_p(seed: int, p: float, tie: float | None) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.standard_exponential(60_000).astype(np.float32)
    raw = raw if tie is None else np.round(raw / tie) * np.float32(tie)  # ties make p larger, never smaller
    fitted = Calibration.of(raw[:40_000])
    below = int((fitted.p(raw[40_000:]) <= p).sum())
    # The threshold itself is estimated from 40,000 flows: that adds variance as if fewer flows were tested.
    low, high = binomial_bounds(20_000, p)
    slack = 6 * 20_000 * np.sqrt(p * (1 - p) / 40_000)
    assert below <= high + slack
    assert tie is not None or below >= low - slack


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(["half_cauchy", "fisher"]))
@settings(max_examples=30, deadline=None)
def test_two_dependent_detectors_keep_the_promise_once_calibrated_together(
    seed: int, share: float, method: str
) -> None:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal(60_000)
    raws = [(share * common + (1 - share) * rng.standard_normal(60_000)).astype(np.float32) for _ in range(2)]
    fitted = [Calibration.of(raw[:20_000]) for raw in raws]
    joined = combine([one.p(raw[20_000:]) for one, raw in zip(fitted, raws, strict=True)], method)
    joint = Calibration.of(strangeness(joined[:20_000]))
    below = int((joint.p(strangeness(joined[20_000:])) <= 0.01).sum())
    low, high = binomial_bounds(20_000, 0.01)
    slack = 6 * 20_000 * np.sqrt(0.01 * 0.99 / 20_000)
    assert low - slack <= below <= high + slack


def test_a_thinned_calibration_never_promises_more_than_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = np.random.default_rng(0).standard_normal(5_000).astype(np.float32)
    whole = Calibration.of(raw)
    monkeypatch.setattr(calibration, "LIMIT", 400)
    monkeypatch.setattr(calibration, "_TAIL", 100)
    thin = Calibration.of(raw)
    assert len(thin.scores) <= 400
    assert thin.flows == 5_000
    tried = np.linspace(-4, 4, 2_001).astype(np.float32)
    assert (thin.p(tried) >= whole.p(tried)).all()
    np.testing.assert_array_equal(thin.p(np.sort(raw)[-99:]), whole.p(np.sort(raw)[-99:]))


def test_it_survives_the_disk_and_a_missing_file_is_named(tmp_path: Path) -> None:
    fitted = Calibration.of(floats(3, 1, 2))
    fitted.save(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(Calibration.load(tmp_path / "c.safetensors").p(floats(2)), fitted.p(floats(2)))
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors at all")
    for name in ("absent", "broken"):
        with pytest.raises(ArtifactError, match=f"{name}.safetensors"):
            Calibration.load(tmp_path / f"{name}.safetensors")


def test_nothing_to_calibrate_on_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="no benign flow is left"):
        Calibration.of(floats())
    with pytest.raises(ConfigError, match="1 of 2 scores are not finite"):
        Calibration.of(floats(1, np.nan))
