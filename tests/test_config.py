"""Settings: where they come from, and what a wrong one says."""

from pathlib import Path

import pytest

from eddyline.cli import parser, status
from eddyline.config import RunSettings, TrainSettings, load
from eddyline.errors import ConfigError


def test_flags_beat_the_environment_and_that_beats_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("source: file://a\nthreads: 1\nqueue: 1\nwindows:\n  length_s: 1\n  count: 1\n")
    monkeypatch.setenv("EDDYLINE_THREADS", "2")
    monkeypatch.setenv("EDDYLINE_WINDOWS__COUNT", "2")
    settings = load(RunSettings, {"threads": 3}, file)
    assert (settings.source, settings.threads, settings.queue) == ("file://a", 3, 1)
    assert (settings.windows.length_s, settings.windows.count) == (1, 2)


def test_units_become_microseconds_once() -> None:
    settings = load(RunSettings, {"source": "file://a", "windows": {"length_s": 1.5, "lateness_s": 0.25}})
    assert (settings.windows.settings().length_us, settings.windows.settings().lateness_us) == (1_500_000, 250_000)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({}, "`source` is missing; give --source"),
        ({"source": "file://a", "colour": 1}, "unknown key `colour`; known are alerts"),
        ({"source": "file://a", "windows": {"length": 1}}, "unknown key `windows.length`"),
        ({"source": "file://a", "windows": {"length_s": -1}}, "`windows.length_s` = -1"),
        ({"source": "file://a", "alerts": {"p": 2}}, "`alerts.p` = 2"),
        ({"source": "file://a", "runtime": "spaceship"}, "`runtime` = 'spaceship'"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(flags: dict, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, flags)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_no_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*absent\.yaml"):
        load(RunSettings, {}, tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("source: [unclosed")
    with pytest.raises(ConfigError, match=r"bad\.yaml. is not YAML"):
        load(RunSettings, {}, tmp_path / "bad.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--source", "nowhere://x"],
        ["run", "--source", "file://does/not/exist.parquet"],
        ["run", "--source", "simulate://office", "--model", "no/such/model"],
        ["run", "--source", "simulate://office", "--sink", "carrier-pigeon:"],
        ["run", "--source", "simulate://office", "--windows.length-s", "soon"],
        ["run", "--source", "simulate://office?hosts=few"],
        ["run", "--source", "netflow://127.0.0.1:notaport"],
        ["run", "--colour", "blue"],
        ["train", "--source", "simulate://office"],
        ["show", "no/such/model"],
        ["fly"],
        [],
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("eddyline: ")
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_help_shows_every_key_with_its_default_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name in RunSettings.model_fields:
        if name not in ("windows", "alerts"):
            assert f"--{name.replace('_', '-')}" in said
    assert "--windows.length-s X length of a time window, seconds [60.0]" in said
    assert "--alerts.per-day N new alerts per day of event time [20]" in said
    with pytest.raises(SystemExit):
        parser().parse_args(["train", "--help"])
    said = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in said for name in TrainSettings.model_fields if name != "windows")


def test_a_flag_may_be_repeated_or_take_several_values() -> None:
    parsed = vars(parser().parse_args(["run", "--model", "a", "b", "--model", "c", "--sink", "stdout:"]))
    assert parsed["model"] == ["a", "b", "c"]
    assert parsed["sink"] == ["stdout:"]


def test_an_unknown_environment_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDDYLINE_EPOCHS", "3")  # a key of `train` does not disturb `run`
    monkeypatch.setenv("EDDYLINE_WINDOWS__COUNT", "2")
    assert load(RunSettings, {"source": "file://a"}).windows.count == 2
    monkeypatch.setenv("EDDYLINE_QEUE", "7")
    with pytest.raises(ConfigError, match=r"unknown environment variable `EDDYLINE_QEUE`.*EDDYLINE_QUEUE"):
        load(RunSettings, {"source": "file://a"})


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("run --source netflow://[::1 --sink file://OUT", "netflow source"),
        (f"run --source {'x' * 5000} --sink file://OUT", "no such file"),
        ("demo --seconds nan", "--seconds"),
        ("demo --seconds -5", "--seconds"),
    ],
)
def test_odd_words_on_the_command_line_are_a_wrong_configuration(
    command: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(command.replace("OUT", str(tmp_path / "out")).split()) == 2
    assert said in capsys.readouterr().err


def test_any_iso_time_starts_a_simulation_and_what_the_wire_cannot_say_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = "--hosts 60 --seconds 60 --campaigns none".split()
    file = f"file://{tmp_path}/a.parquet"
    assert status(["simulate", "--sink", file, "--start", "2026-01-05T10:00:00+02:00", *some]) == 0
    assert status(["simulate", "--sink", "netflow://127.0.0.1:9?version=5", "--start", "2200-01-01", *some]) == 0
    assert "0 flows written" in capsys.readouterr().err.splitlines()[-1]
    assert status(["simulate", "--sink", "netflow://127.0.0.1:9?version=5", *some]) == 0
    assert "cannot be said in this version of NetFlow" in capsys.readouterr().err.splitlines()[-1]
