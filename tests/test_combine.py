"""Combining p-values, and Scored output v1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.combine import Method, ScoredFlows, combine
from eddyline.errors import ConfigError
from eddyline.flows import BATCH_SCHEMA
from tests.test_graphs import window


def test_one_detector_passes_unchanged() -> None:
    p = np.array([0.001, 1.0])
    assert combine([p]) is p


def test_half_cauchy_by_hand() -> None:
    # cot(pi/4) = 1 and cot(pi/2) = 0: mean 1/2, p = 2 arctan2(1, 1/2) / pi
    assert combine([np.array([0.5]), np.array([1.0])])[0] == pytest.approx(2 * np.arctan(2) / np.pi)


def test_fisher_by_hand() -> None:
    # two p of 0.1: half the statistic is ln 100, survival exp(-h)(1 + h)
    assert combine([np.array([0.1])] * 2, "fisher")[0] == pytest.approx(0.01 * (1 + np.log(100)))


def test_a_quiet_detector_cannot_veto_a_loud_one() -> None:
    quiet, loud = np.array([1.0]), np.array([1e-6])
    assert combine([loud, quiet])[0] < 1e-5
    assert combine([loud, quiet, quiet])[0] < 1e-5


@given(
    st.lists(st.lists(st.floats(1e-9, 1), min_size=3, max_size=3), min_size=1, max_size=4),
    st.sampled_from(["half_cauchy", "fisher"]),
)
def test_the_combined_p_is_a_p_and_falls_when_any_p_falls(values: list, method: str) -> None:
    ps = [np.array(v) for v in values]
    joined = combine(ps, method)
    assert ((joined >= 0) & (joined <= 1)).all()
    assert (combine([ps[0] / 2, *ps[1:]], method) <= joined).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_fisher_is_uniform_for_independent_detectors(seed: int) -> None:
    p = np.random.default_rng(seed).uniform(size=(3, 20_000))
    share = (combine(list(p), "fisher") <= 0.01).mean()
    assert abs(share - 0.01) < 6 * np.sqrt(0.01 * 0.99 / 20_000)


def test_no_detector_at_all_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match="at least one model folder"):
        combine([])


def test_scored_output_has_the_columns_of_the_design_in_order() -> None:
    scored = ScoredFlows(
        window(("a", "b", 1), ("a", "b", 2), label=["benign", None]),
        raw={"gae": np.array([1, 2], np.float32)},
        by_detector={"gae": np.array([0.5, 0.25])},
        p=np.array([0.5, 0.25]),
        model="abc",
        factor=2.0,
        custom=np.array([0.0, 0.25]),
    )
    table = scored.table()
    tail = [
        "window_start", "window_end", "window_part", "late", "raw_gae", "p_gae", "p", "score", "lambda", "h",
        "alert_id", "model",
    ]  # fmt: skip
    assert table.column_names == [*BATCH_SCHEMA.names, *tail]
    assert table["score"].to_pylist() == [0.5, 0.75]
    assert (table["lambda"].to_pylist(), table["h"].to_pylist()) == ([2.0, 2.0], [0.0, 0.25])
    assert table["label"].to_pylist() == ["benign", None]
    assert table["model"].to_pylist() == ["abc", "abc"]
    assert [str(table.schema.field(name).type) for name in tail] == [
        "timestamp[us, tz=UTC]", "timestamp[us, tz=UTC]", "int32", "bool", *["float"] * 6,
        "string", "dictionary<values=string, indices=int32, ordered=0>",
    ]  # fmt: skip


def test_a_score_for_the_wrong_number_of_flows_is_refused() -> None:
    with pytest.raises(ConfigError, match="`p` has shape"):
        ScoredFlows(window(("a", "b", 1)), {}, {}, np.array([0.5, 0.5]), "abc")


@pytest.mark.parametrize("method", ["half_cauchy", "fisher"])
def test_two_certain_detectors_leave_a_p_that_float32_can_hold(method: Method) -> None:
    p = combine([np.array([1e-30]), np.array([1e-30])], method)
    assert p.astype(np.float32) > 0
