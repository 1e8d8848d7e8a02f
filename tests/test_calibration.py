"""p-values: what they promise, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline import calibration
from eddyline.calibration import ENOUGH, WITHIN, Calibration, Ranks
from eddyline.combine import combine
from eddyline.errors import ArtifactError, ConfigError
from eddyline.scoring import strangeness


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def binomial_bounds(n: int, p: float) -> tuple[float, float]:
    """Six standard deviations and one flow: wide enough that a true promise fails once in a billion runs."""
    width = 6 * np.sqrt(n * p * (1 - p)) + 1
    return n * p - width, n * p + width


def test_the_share_counts_what_is_at_least_as_large_and_falls_evenly_between_observations() -> None:
    """Of 3, 1, 2, 2 at least as large as 1.5 are three, as large as 1 four: half way it is three and a half."""
    ranks = Ranks.of(floats(3, 1, 2, 2))
    assert ranks.n == 4
    want = [5 / 5, 5 / 5, 4.5 / 5, 4 / 5, 3 / 5, 2 / 5, 1 / 5]
    np.testing.assert_allclose(ranks.share(floats(0, 1, 1.5, 2, 2.5, 3, 4)), want)


@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(-1, 10)))
@settings(max_examples=100, deadline=None)
def test_no_share_is_smaller_than_the_conformal_one_and_at_observations_it_is_that(
    observed: list[int], values: list[int]
) -> None:
    tried = np.sort(np.array([*values, *observed]))
    conformal = [(1 + sum(one >= value for one in observed)) / (len(observed) + 1) for value in tried]
    share = Ranks.of(floats(*observed)).share(floats(*tried))
    assert (share >= np.array(conformal) - 1e-12).all()
    assert (np.diff(share) <= 0).all()
    known = np.isin(tried, observed)
    np.testing.assert_allclose(share[known], np.array(conformal)[known])


def test_p_is_the_share_of_benign_scores_at_least_as_high() -> None:
    fitted = Calibration.of(floats(1, 2, 2, 3))
    assert fitted.flows.n == 4
    np.testing.assert_allclose(fitted.p(floats(0, 1, 1.5, 2, 2.5, 3)), np.array([5, 5, 4.5, 4, 3, 2]) / 5)


def test_scores_that_are_all_the_same_say_nothing() -> None:
    assert Calibration.of(floats(*[7] * 50)).p(floats(6, 7)).tolist() == [1, 1]


def test_beyond_the_strangest_p_falls_by_e_per_mean_excess_of_the_top_twenty() -> None:
    """Scores 0 to 99: the top twenty are 80 to 99, their mean excess over 80 is 9.5."""
    fitted = Calibration.of(np.arange(100, dtype=np.float32))
    assert fitted.scale == 9.5
    last = 1 / 101  # nobody is stranger
    np.testing.assert_allclose(fitted.p(floats(98.5, 99, 99.0001)), [2.5 / 101, 2 / 101, last], rtol=1e-4)
    np.testing.assert_allclose(fitted.p(floats(99 + 9.5, 99 + 19)), [last / np.e, last / np.e**2], rtol=1e-6)


def test_the_tail_is_fitted_on_two_percent_of_many_scores() -> None:
    raw = np.arange(10_000, dtype=np.float32)
    assert Calibration.of(raw).scale == 99.5  # of 200 scores


def test_a_score_in_nats_falls_by_a_factor_e_per_nat_at_most() -> None:
    raw = np.linspace(0, 1, 200, dtype=np.float32)
    fitted = Calibration.of(raw, least=1.0)
    assert fitted.scale == 1.0
    np.testing.assert_allclose(fitted.p(floats(4)), np.exp(-3) / 201)


@given(
    st.lists(st.floats(0, 2.0**20, width=32), min_size=1, max_size=60),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1),
)
@settings(max_examples=150, deadline=None)
def test_p_never_rises_with_the_score_and_never_leaves_zero_to_one(observed: list[float], tried: list[float]) -> None:
    p = Calibration.of(floats(*observed)).p(np.sort(floats(*tried)))
    assert (np.diff(p) <= 0).all()
    assert (p <= 1).all()
    assert (p > 0).all()


def test_scores_far_beyond_calibration_still_combine_to_a_p_value() -> None:
    """exp(-excess / scale) is 0 in float64 from 745 scales on; two such detectors must not give NaN."""
    fitted = Calibration.of(np.linspace(0, 1, 100, dtype=np.float32))
    p = fitted.p(floats(0.5, 2, 1e3, 1e6))
    for method in ("fisher", "half_cauchy"):
        joined = combine([p, p], method)
        assert np.isfinite(joined).all()
        assert (np.diff(joined) <= 0).all()
        assert np.isfinite(strangeness(joined)).all()


def minutes(rng: np.random.Generator, pairs: int, flows: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of `pairs` pair-minutes with as many flows each, which are strange together."""
    raw = np.repeat(rng.standard_exponential(pairs), flows) + 0.01 * rng.random(pairs * flows)
    return raw.astype(np.float32), np.repeat(np.arange(pairs), flows)


def test_below_enough_pair_minutes_flows_alone_count() -> None:
    raw, pairs = minutes(np.random.default_rng(0), ENOUGH - 1, 5)
    tried = np.linspace(0, 20, 500, dtype=np.float32)
    fitted = Calibration.of(raw, pairs)
    assert fitted.pairs.n == ENOUGH - 1
    np.testing.assert_array_equal(fitted.p(tried), Calibration.of(raw, np.zeros(len(raw), np.int64)).p(tried))


def test_with_enough_pair_minutes_p_is_no_less_than_their_share_over_the_promise() -> None:
    """1,000 pair-minutes, ten of them strange with one flow each, the others with 100: flows alone would say 1e-4."""
    raw = np.r_[np.zeros(99_000), np.full(10, 5.0)].astype(np.float32)
    pairs = np.r_[np.repeat(np.arange(990), 100), np.arange(990, 1_000)]
    fitted = Calibration.of(raw, pairs)
    np.testing.assert_allclose(fitted.flows.share(floats(5)), 11 / 99_011)
    np.testing.assert_allclose(fitted.p(floats(5)), 11 / 1_001 / WITHIN)
    alone = Calibration.of(raw, pairs % 900)  # too few to say it
    np.testing.assert_allclose(alone.p(floats(5)), 11 / 99_011)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_p_is_what_flows_say_and_no_less_than_pair_minutes_allow(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = np.repeat(np.arange(ENOUGH + 200), 4)
    raw = rng.standard_exponential(len(pairs)).astype(np.float32)  # one flow in four makes its minute strange
    fitted = Calibration.of(raw, pairs)
    tried = rng.choice(raw, 300)
    highest = np.array([raw[pairs == pair].max() for pair in range(ENOUGH + 200)])
    share = Ranks.of(highest).share(tried)
    np.testing.assert_allclose(fitted.p(tried), np.maximum(Ranks.of(raw).share(tried), share / WITHIN))
    assert (share / WITHIN > Ranks.of(raw).share(tried)).any()  # there are flows of which pair-minutes say more


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=20, deadline=None)
def test_no_more_than_twice_the_promised_share_of_benign_pair_minutes_is_below_p(seed: int, p: float) -> None:
    rng = np.random.default_rng(seed)
    raw, pairs = minutes(rng, 12_000, 2)
    fitted = Calibration.of(raw[:8_000], pairs[:8_000])
    below = len(np.unique(pairs[8_000:][fitted.p(raw[8_000:]) <= p]))
    share = min(WITHIN * p, 1)
    assert below <= binomial_bounds(8_000, share)[1] + 6 * 8_000 * np.sqrt(share * (1 - share) / 4_000)


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
    whole = Ranks.of(raw)
    monkeypatch.setattr(calibration, "LIMIT", 400)
    monkeypatch.setattr(calibration, "_TAIL", 100)
    thin = Ranks.of(raw)
    assert len(thin.values) <= 400
    assert thin.n == 5_000
    tried = np.linspace(-4, 4, 2_001).astype(np.float32)
    assert (thin.share(tried) >= whole.share(tried)).all()
    np.testing.assert_array_equal(thin.share(np.sort(raw)[-99:]), whole.share(np.sort(raw)[-99:]))


def test_it_survives_the_disk_and_a_missing_file_is_named(tmp_path: Path) -> None:
    raw, pairs = minutes(np.random.default_rng(1), ENOUGH, 3)
    fitted = Calibration.of(raw, pairs)
    fitted.save(tmp_path / "c.safetensors")
    tried = np.linspace(0, 40, 300, dtype=np.float32)
    read = Calibration.load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(read.p(tried), fitted.p(tried))
    assert read.scale == fitted.scale
    (tmp_path / "broken.safetensors").write_bytes(b"not safetensors at all")
    for name in ("absent", "broken"):
        with pytest.raises(ArtifactError, match=f"{name}.safetensors"):
            Calibration.load(tmp_path / f"{name}.safetensors")


def test_nothing_to_calibrate_on_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="no benign flow is left"):
        Calibration.of(floats())
    with pytest.raises(ConfigError, match="1 of 2 scores are not finite"):
        Calibration.of(floats(1, np.nan))


@given(st.lists(st.floats(-(2.0**90), 2.0**90, width=32), min_size=1, max_size=80), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_the_search_by_buckets_agrees_with_a_plain_one(observed: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks = Ranks.of(floats(*observed))
    tried = np.r_[ranks.values, rng.choice(ranks.values, 40) * rng.uniform(0.9, 1.1, 40), -np.inf, np.inf]
    tried = tried.astype(np.float32)
    count = np.interp(tried.astype(float), ranks.values, ranks.at_least, left=ranks.n, right=0.0)
    np.testing.assert_allclose(ranks.share(tried), (1 + count) / (ranks.n + 1), rtol=1e-5)


def test_a_surprise_counts_for_no_more_than_benign_flows_support() -> None:
    """Of three observations 1, 2, 3 one is at least 3: a share of 2 / 4; of two and a half, half way to it in nats."""
    ranks = Ranks.of(floats(1, 2, 3))
    want = [0, (np.log(4 / 3) + np.log(4 / 2)) / 2, np.log(2), np.log(4)]
    np.testing.assert_allclose(ranks.supported(floats(0.5, 2.5, 3, 99)), want, rtol=1e-6)


def test_a_score_that_is_no_number_counts_as_beyond_all_of_them() -> None:
    assert Ranks.of(floats(1, 2)).share(floats(np.nan)).tolist() == [1 / 3]
