"""Baselines learn from the first benign rows, calibrate on the next, and rank an obvious attack first."""

import numpy as np
import pytest

from eddyline.errors import ConfigError
from eddyline.evaluation.baselines import Baseline, baselines, conformal, counting, flow_features, outliers
from eddyline.evaluation.judge import judge
from eddyline.evaluation.scored import Scored, scored_flows
from tests.evaluation.streams import Flow, scored_table

OUTLIERS = {"isolation forest", "HBOS", "PCA", "kNN", "CBLOF"}


def silent(what: str, done: int, of: int, words: str) -> None:
    pass


def office(*, volumes: bool = True) -> Scored:
    """40 minutes of three clients and a server; in minute 35 one client sends 50 huge flows to ports it never used."""
    rng = np.random.default_rng(3)
    flows: list[Flow] = [
        (60.0 * minute + 10 * n, f"c{n}", "server", None, 0.5) for minute in range(40) for n in range(3)
    ]
    flows += [(60.0 * 35 + 0.5 * n, "c1", "server", "theft", 0.5) for n in range(50)]
    flows.sort(key=lambda flow: flow[0])
    attack = np.array([flow[3] is not None for flow in flows])
    rows = len(flows)
    size = np.where(attack, 5_000_000, rng.integers(400, 4000, rows)).astype(np.uint64)
    more = {"bytes": size, "packets": size // 200 + rng.integers(1, 9, rows).astype(np.uint64)} if volumes else {}
    port = np.where(attack, 50_000 + np.arange(rows), rng.choice([80, 443], rows)).astype(np.uint16)
    second = np.array([flow[0] for flow in flows])
    part = np.select([second < 60 * 15, second < 60 * 25], [0, 1], 2)
    table = scored_table(flows, **more, proto=np.full(rows, 6, np.uint8), dst_port=port)
    return scored_flows(table, part, None)


def test_conformal_p_counts_ties_against_the_flow_and_never_reaches_zero() -> None:
    assert conformal(np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0, 3.0])).tolist() == [1.0, 0.75, 0.25]


@pytest.mark.slow
def test_an_obvious_attack_is_found_by_everything_that_can_see_it() -> None:
    scored = office()
    found = {one.name: one for one in baselines(scored, 0, silent)}
    assert set(found) >= OUTLIERS | {"pair burst", "MIDAS-R", "MIDAS-F", "fan-out, ports"}
    seen = {"kNN", "CBLOF", "isolation forest", "pair burst", "MIDAS-R", "fan-out, ports", "host z, source"}
    aucs = {name: judge(scored.truth, found[name].p, found[name].score).auc for name in seen}
    assert min(aucs.values()) > 0.9, aucs


def test_the_same_seed_gives_the_same_scores() -> None:
    scored = office()
    first, again = (baselines(scored, 4, silent) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, Baseline)
        np.testing.assert_array_equal(one.score, other.score)


def test_outlier_detectors_never_learn_from_what_is_judged() -> None:
    """Benign flows keep their scores when the attack is taken out of the stream."""
    scored, benign = office(), np.flatnonzero(~office().attack)
    alone = scored_flows(scored.table.take(benign), scored.part, None)
    for (name, score), other in zip(outliers(scored, 0).items(), outliers(alone, 0).values(), strict=True):
        np.testing.assert_allclose(score()[benign], other(), rtol=1e-9, err_msg=name)


def test_features_are_standardised_with_the_training_rows() -> None:
    scored = office()
    features = flow_features(scored.table, scored.part == 0)[scored.part == 0]
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(features.std(axis=0), 1)
    assert features.shape[1] == 3  # bytes, packets and bytes per packet; protocol and port range never vary


def test_files_of_topology_alone_have_counts_and_no_outlier_detectors() -> None:
    scored = office(volumes=False)
    assert not outliers(scored, 0)
    assert "pair burst" in counting(scored)
    assert "unanswered, source" not in counting(scored)  # nobody knows of replies


def test_without_earlier_benign_flows_there_is_nothing_to_learn_from() -> None:
    scored = scored_flows(office().table, None, None)
    with pytest.raises(ConfigError, match="later --from"):
        baselines(scored, 0, silent)
