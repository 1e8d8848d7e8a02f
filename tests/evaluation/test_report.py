"""What a person and a program are told."""

import json
from pathlib import Path

import numpy as np

from eddyline.evaluation.judge import Scorer, scorer
from eddyline.evaluation.plots import write_plots
from eddyline.evaluation.report import as_json, as_markdown, best_baseline, headline, in_order
from eddyline.evaluation.truth import Truth, truth_of
from tests.evaluation.test_judge import P
from tests.evaluation.test_truth import nine

QUIET = np.ones(9)
GOOD = np.where(np.isin(np.arange(9), (4, 5)), 1e-4, 1.0)


def rows(truth: Truth) -> list[Scorer]:
    return [
        scorer("noisy", truth, P, model=False),
        scorer("mine", truth, P, model=True),
        scorer("quiet", truth, QUIET, model=False),
        scorer("good", truth, GOOD, model=False),
    ]


def test_models_come_first_then_baselines_that_keep_the_promise_by_recall() -> None:
    assert [one.name for one in in_order(rows(nine()))] == ["mine", "good", "quiet", "noisy"]


def test_the_best_baseline_keeps_the_promise() -> None:
    truth = nine()
    best = best_baseline(rows(truth))
    assert best is not None
    assert best.name == "good"
    assert best_baseline([scorer("noisy", truth, P, model=False)]) is None


def test_the_table_has_a_row_for_each_scorer_and_classes_worst_first() -> None:
    page = as_markdown("lab/stream.parquet", nine(), rows(nine()))
    assert "9 flows in 1.0 h: 5 clean benign, 1 collateral, 3 attack; benign flows come from 2 hosts." in page
    lines = page.splitlines()
    model = next(line for line in lines if line.startswith("| **mine**"))
    assert model.startswith("| **mine** | no | 400x")
    assert page.index("| theft | 1 | 0.00 |") < page.index("| scan | 2 | 0.50 |")
    columns = {line.count("|") for line in lines if line.startswith("| ") and "AUC" in line}
    assert columns == {model.count("|")}


def test_a_name_with_a_bar_breaks_no_table() -> None:
    page = as_markdown("lab", nine(), [scorer("a|b", nine(), P, model=True)])
    assert "| **a/b** |" in page


def test_the_json_says_the_same_and_has_null_where_nothing_is_known() -> None:
    found = json.loads(as_json("lab", nine(), rows(nine())))
    assert found["version"] == 1
    assert found["judged"] == {
        "flows": 9, "clean": 5, "collateral": 1, "attack": 3, "sources": 2, "days": 1 / 24
    }  # fmt: skip
    mine = found["scorers"][0]
    promise = next(one for one in mine["promises"] if one["level"] == 1e-3)
    assert (promise["rate"], promise["kept"], promise["class_mean"]) == (0.4, False, None)
    assert [kind["name"] for kind in mine["classes"]] == ["theft", "scan"]


def test_the_headline_is_one_line_a_model_and_the_best_baseline() -> None:
    lines = headline(rows(nine()))
    assert lines[0].startswith("mine: recall 0.33 at p <= 0.001")
    assert "400x the promise by flows" in lines[0]
    assert "(missed)" in lines[0]
    assert lines[1].startswith("best baseline that keeps it: good: recall 0.67")


def png_size(file: Path) -> tuple[int, int]:
    head = file.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_pictures_fill_a_slide(tmp_path: Path) -> None:
    files = write_plots(tmp_path, "lab/stream.parquet", nine(), rows(nine()))
    assert {file.name for file in files} == {
        "promise.png", "scores.png", "roc.png", "precision_recall.png", "classes.png"
    }  # fmt: skip
    assert {png_size(file) for file in files} == {(1600, 900)}


def test_without_attacks_there_is_nothing_to_draw_of_them(tmp_path: Path) -> None:
    truth = truth_of(np.arange(3) * 60_000_000, np.arange(3), np.full(3, 9), np.full(3, -1), [])
    only = [scorer("mine", truth, np.array([1e-4, 0.0, 1.0]), model=True)]
    assert {file.name for file in write_plots(tmp_path, "lab", truth, only)} == {"promise.png", "scores.png"}
    assert "worst first" not in as_markdown("lab", truth, only)
