"""Verdicts computed by hand on nine flows (see test_truth), and properties that must hold on any."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eddyline.evaluation.judge import Day, Kind, judge
from eddyline.evaluation.ranking import average_precision, curve, oracle_threshold, roc_auc
from eddyline.evaluation.truth import truth_of
from tests.evaluation.test_truth import nine

P = np.array([5e-4, 0.5, 0.5, 5e-4, 5e-4, 0.5, 0.5, 0.5, 1e-3])
SCORE = np.array([1.0, 1, 2, 9, 5, 1, 3, 3, 1])


def test_rates_of_clean_flows_and_clean_pair_minutes() -> None:
    promise = judge(nine(), P).headline
    assert promise.rate == pytest.approx(2 / 5)  # rows 0 and 8 of 0, 1, 2, 6, 8; p = 1e-3 counts
    assert promise.pair_minute_rate == pytest.approx(2 / 4)  # A>B and C>A of A>B, C>B, C>E, C>A
    assert promise.ratio == pytest.approx(400)
    assert promise.pair_minute_ratio == pytest.approx(500)
    assert not promise.kept


def test_recall_counts_flows_and_a_flood_once_a_minute() -> None:
    promise = judge(nine(), P).headline
    assert promise.recall == pytest.approx(1 / 3)
    assert promise.pair_minute_recall == pytest.approx(1 / 2)
    assert math.isnan(promise.class_mean)  # no class has 20 flows


def test_collateral_is_told_apart() -> None:
    promise = judge(nine(), P).headline
    assert promise.collateral_rate == 1.0
    assert (promise.false_groups, promise.collateral_groups) == (2, 0)  # A has a clean alert too, and C
    quiet = P.copy()
    quiet[0] = 0.5
    promise = judge(nine(), quiet).headline
    assert (promise.false_groups, promise.collateral_groups) == (2, 1)  # now A has nothing but its collateral one


def test_a_group_with_one_true_alert_is_no_false_group() -> None:
    minute, src = np.arange(3) * 60_000_000, np.zeros(3, np.int64)
    truth = truth_of(minute, src, np.arange(1, 4), np.array([-1, -1, 0]), ["scan"])
    assert judge(truth, np.array([1e-4, 1.0, 1e-4])).headline.false_groups == 0
    assert judge(truth, np.array([1e-4, 1.0, 1.0])).headline.false_groups == 1


def test_false_groups_are_per_day_and_thousand_hosts() -> None:
    assert judge(nine(), P).headline.false_groups_per_day == pytest.approx(2 * 24 / 2 * 1000)  # 1 h, 2 benign hosts


def test_every_level_is_judged_by_itself() -> None:
    at = {promise.level: promise for promise in judge(nine(), np.full(9, 5e-3)).promises}
    assert at[1e-2].rate == at[1e-2].recall == 1.0
    assert at[1e-3].rate == at[1e-3].recall == 0.0
    assert at[1e-3].kept


def test_the_promise_is_kept_where_either_rate_is_within_three_times() -> None:
    rows = 1000  # clean pairs of one flow, and one that has 9 in a minute
    src = np.concatenate([np.arange(rows), np.zeros(8, np.int64)])
    truth = truth_of(np.zeros(rows + 8, np.int64), src, np.full(rows + 8, rows), np.full(rows + 8, -1), [])
    burst = np.where(src == 0, 1e-4, 1.0)
    promise = judge(truth, burst).headline
    assert promise.ratio == pytest.approx(9 / 1.008)
    assert promise.pair_minute_ratio == pytest.approx(1.0)
    assert promise.kept
    four = judge(truth, np.where(src < 4, 1e-4, 1.0)).headline
    assert not four.kept  # 12 rows and 4 pair-minutes of a thousand


def test_the_oracle_puts_its_threshold_on_clean_rows_and_splits_no_tie() -> None:
    oracle = judge(nine(), P, SCORE).oracle
    assert oracle.recall == pytest.approx(1 / 3)  # above 3, the highest clean score, is row 4; row 7 ties with it
    assert oracle.pair_minute_recall == pytest.approx(1 / 2)


def test_classes_come_worst_first() -> None:
    verdict = judge(nine(), P, SCORE)
    assert verdict.kinds == (Kind("theft", 1, 0.0, 0.0), Kind("scan", 2, 0.5, 0.5))


def test_the_class_mean_is_over_classes_with_twenty_flows() -> None:
    kind = np.repeat([-1, 0, 1, 2], [10, 20, 40, 19])
    rows = len(kind)
    truth = truth_of(np.zeros(rows, np.int64), np.arange(rows), np.full(rows, rows), kind, ["a", "b", "c"])
    p = np.ones(rows)
    p[10:25] = 1e-4  # 15 of 20
    p[30:40] = 1e-4  # 10 of 40
    p[70:] = 1e-4  # all 19 of the rare one
    assert judge(truth, p).headline.class_mean == pytest.approx((0.75 + 0.25) / 2)


def test_a_drift_shows_day_by_day() -> None:
    day = np.array([0, 0, 1, 1], np.int64) * 86_400_000_000
    truth = truth_of(day, np.arange(4), np.full(4, 9), np.full(4, -1), [])
    assert judge(truth, np.array([1.0, 1.0, 1e-4, 1.0])).days == (
        Day("1970-01-01", 2, 0.0, 0.0),
        Day("1970-01-02", 2, 0.5, 0.5),
    )


def test_without_attacks_recalls_are_unknown_and_rates_are_not() -> None:
    truth = truth_of(np.zeros(2, np.int64), np.arange(2), np.arange(2), np.full(2, -1), [])
    verdict = judge(truth, np.array([1e-4, 1.0]))
    assert verdict.headline.rate == 0.5
    unknown = (verdict.headline.recall, verdict.oracle.recall, verdict.auc, verdict.average_precision)
    assert all(math.isnan(one) for one in unknown)


def test_intervals_hold_the_measured_share_and_are_the_same_for_the_same_seed() -> None:
    rng = np.random.default_rng(5)
    rows = 4000
    kind = np.where(rng.random(rows) < 0.3, 0, -1)
    minute = np.sort(rng.integers(0, 200, rows)) * 60_000_000
    truth = truth_of(minute, rng.integers(0, 30, rows), rng.integers(30, 60, rows), kind, ["scan"])
    p = np.where(kind == 0, rng.random(rows) ** 8, rng.random(rows))
    first, again, other = (judge(truth, p, seed=seed).intervals for seed in (1, 1, 2))
    promise = judge(truth, p).headline
    for name in ("rate", "pair_minute_rate", "recall", "pair_minute_recall", "class_mean"):
        low, high = first[name]
        assert low <= getattr(promise, name) <= high
    assert low < high
    assert first == again != other


def test_one_block_has_nothing_to_resample() -> None:
    truth = truth_of(np.zeros(4, np.int64), np.arange(4), np.arange(4) + 4, np.array([-1, -1, 0, 0]), ["scan"])
    assert judge(truth, np.array([1.0, 1.0, 1e-4, 1.0])).intervals["recall"] == (0.5, 0.5)


def test_the_oracle_allows_exactly_its_share() -> None:
    benign = np.arange(3000.0)
    threshold = oracle_threshold(benign, 1e-3)
    assert int((benign > threshold).sum()) == 3
    assert oracle_threshold(np.array([1.0, 5.0, 5.0]), 1e-3) == 5.0
    assert oracle_threshold(np.array([]), 1e-3) == math.inf


def test_the_curve_takes_ties_together() -> None:
    benign, hits = curve(np.array([2.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert benign.tolist() == [0, 0, 1, 2]
    assert hits.tolist() == [0, 1, 2, 2]


def test_average_precision_by_hand() -> None:
    score, attack = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert average_precision(score, attack) == pytest.approx((1 + 2 / 3) / 2)


scores = arrays.arrays(np.float64, st.integers(2, 30), elements=st.integers(0, 6).map(float))


@given(scores)
def test_auc_is_the_share_of_pairs_in_order(score: np.ndarray) -> None:
    attack = np.arange(len(score)) % 2 == 0
    pairs = np.sign(score[attack][:, None] - score[~attack][None, :])
    assert roc_auc(score, attack) == pytest.approx((pairs + 1).mean() / 2)


@given(scores)
def test_never_more_than_the_share_lies_above_the_oracle(score: np.ndarray) -> None:
    for level in (1e-3, 0.1, 0.5):
        assert (score > oracle_threshold(score, level)).mean() <= level
