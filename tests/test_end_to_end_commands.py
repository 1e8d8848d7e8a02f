"""The commands around `run`: train, calibrate, show, help; and the pipeline script."""

import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.test_end_to_end import BOTH, SIMULATED, eddyline, run, same_scores, scored, tiny_model
from tests.test_end_to_end_service import ONE_THREAD, ROOT, service


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def test_calibration_makes_p_a_share_again_on_another_network(model: Path, tmp_path: Path) -> None:
    office = "simulate://office?hosts=60&campaigns=none&seed=8"
    assert eddyline("calibrate", "--source", f"{office}&seconds=7200&traffic=11", "--model", model, "--out",
                    tmp_path / "own") == 0  # fmt: skip
    fresh = f"{office}&seconds=3600&traffic=12"
    foreign = run(fresh, model, tmp_path / "foreign")["p"].to_numpy()
    own = run(fresh, tmp_path / "own", tmp_path / "here")["p"].to_numpy()
    for share in (0.1, 0.2, 0.5):
        assert abs((own <= share).mean() - share) < abs((foreign <= share).mean() - share)
        assert share / 2 < (own <= share).mean() < 2 * share


def test_show_explains_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eddyline("show", model) == 0
    said = capsys.readouterr().out
    assert re.search(r"gae: calibrated on [\d,]+ benign flows", said)
    for key in ("windows.length_s", "training.hidden", "metrics.gae_held_out_auc", "libraries.torch"):
        assert key in said


def test_a_model_can_be_read_by_whoever_may_read_its_manifest(model: Path) -> None:
    modes = {file.relative_to(model).as_posix(): file.stat().st_mode for file in model.rglob("*") if file.is_file()}
    assert {"memory.safetensors", "calibration.safetensors", "gae/weights.safetensors"} <= set(modes)
    assert set(modes.values()) == {modes["manifest.json"]}


def test_training_without_a_benign_flow_is_a_wrong_configuration(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eddyline("simulate", "--sink", f"file://{tmp_path}/some.parquet", "--hosts", 60, "--seconds", 900) == 0
    flows = pq.read_table(tmp_path / "some.parquet")
    bad = flows.filter(pc.equal(flows["label"].cast(pa.utf8()), "malicious"))
    assert len(bad) > 0
    pq.write_table(bad, tmp_path / "bad.parquet")
    capsys.readouterr()
    assert eddyline("train", "--source", f"file://{tmp_path}/bad.parquet", "--model", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"eddyline: train: no benign flow in `.*` \(\d+ flows read\).*\n", said)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--source", f"{SIMULATED}&seconds=900&traffic=1", *BOTH, "--hidden", 8, "--epochs", 6,
            "--patience", 6)  # fmt: skip
    with service("train", "--model", tmp_path / "killed", *more) as started:
        assert started.stderr is not None
        for line in started.stderr:
            if line.startswith("training gae 2/"):
                started.kill()
                break
    assert not (tmp_path / "killed").exists()
    assert eddyline("train", "--model", tmp_path / "killed", *more) == 0
    epochs = [int(epoch) for epoch in re.findall(r"^training gae (\d+)/6", capsys.readouterr().err, re.MULTILINE)]
    assert epochs == list(range(epochs[0], 7))
    assert epochs[0] > 2
    assert eddyline("train", "--model", tmp_path / "whole", *more) == 0
    for name in ("weights", "calibration"):
        weights = [(tmp_path / each / "gae" / f"{name}.safetensors").read_bytes() for each in ("killed", "whole")]
        assert weights[0] == weights[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize("command", ["", "run", "train", "calibrate", "simulate", "show", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        eddyline(*command.split(), "--help")
    assert left.value.code == 0
    assert "usage: eddyline" in capsys.readouterr().out


def test_the_pipeline_script_runs_the_settings_of_a_file(model: Path, tmp_path: Path) -> None:
    source = f"{SIMULATED}&seconds=600&traffic=3"
    (tmp_path / "settings.yaml").write_text(
        f"source: {source}\nmodel: [{model}]\nsink: ['file://{tmp_path}/out']\nwindows: {{length_s: 120}}\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline.py", tmp_path / "settings.yaml"],
        capture_output=True, text=True, env=ONE_THREAD, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = scored(tmp_path / "out")
    assert same_scores(found, run(source, model, tmp_path / "cli", "--windows.length-s", 120))
    starts, ends = (found[edge].cast(pa.int64()).to_numpy() for edge in ("window_start", "window_end"))
    assert set((ends - starts).tolist()) == {120_000_000}


@pytest.mark.parametrize(
    "wrong", ["sauce: x", "source: simulate://office\nmodel: [nowhere]", "source: 'netflow://[::1'"]
)
def test_the_pipeline_script_says_a_wrong_setting_in_one_line(model: Path, tmp_path: Path, wrong: str) -> None:
    (tmp_path / "settings.yaml").write_text(f"{wrong}\nsink: ['file://{tmp_path}/out']\n")
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline.py", tmp_path / "settings.yaml"],
        capture_output=True, text=True, env=ONE_THREAD, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("pipeline: ")
