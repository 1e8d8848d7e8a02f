"""The house: imports go downwards only, one outside system per file, and the core starts without any of the extras."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "eddyline"
# A room may import rooms of lower rank; rooms of equal rank never see each other.
RANK = {
    "errors": 0, "hashing": 0, "flows": 1, "windows": 2, "habits": 3, "graphs": 4, "combine": 5, "calibration": 6,
    "drift": 6, "devices": 2, "lookups": 7,
    "explanations": 6, "alert_state": 6, "alerts": 7,
    "kafka": 1,
    "contracts": 8, "config": 9, "metrics": 9, "dialects": 10, "sources": 11, "detectors": 11, "sinks": 11,
    "artifacts": 12, "scoring": 12, "training": 13, "runtimes": 14, "simulation": 15, "evaluation": 15,
    "operating": 15, "replay": 16,
    "demo": 16, "commands": 17, "cli": 18,
}  # fmt: skip
ONE_PLACE = {
    "yaml": {"config.py"},
    "pydantic_settings": {"config.py"},
    "cudf": {"devices.py"},
    "triton": {"detectors/gae/triton_kernels.py"},
    "pyod": {"evaluation/baselines.py"},
    "matplotlib": {"evaluation/plots.py"},
    "dpkt": {"sources/captures.py"},
    "confluent_kafka": {"kafka/client.py"},
    "pyspark": set(),
    "morpheus": {"runtimes/morpheus/"},  # one stage, one file
    "mrc": {"runtimes/morpheus/"},
}
FORBIDDEN = {"pickle", "joblib", "dill", "marshal", "shelve"}


def files() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""
            if node.module == "eddyline":
                yield from (f"eddyline.{alias.name}" for alias in node.names)


def room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_room_has_a_rank() -> None:
    assert {room(file) for file in files()} - {"__init__"} <= RANK.keys()


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_imports_go_downwards(file: Path) -> None:
    here = room(file)
    for name in imported(file):
        parts = name.split(".")
        if parts[0] != "eddyline" or len(parts) == 1 or parts[1] not in RANK or parts[1] == here:
            continue
        assert RANK[parts[1]] < RANK[here], f"{here} must not import {parts[1]}"


@pytest.mark.parametrize("file", files(), ids=lambda file: file.relative_to(SOURCE).as_posix())
def test_an_outside_system_has_one_file_and_pickle_has_none(file: Path) -> None:
    for name in imported(file):
        top = name.split(".")[0]
        assert top not in FORBIDDEN
        if top in ONE_PLACE:
            here = file.relative_to(SOURCE).as_posix()
            assert here.startswith(tuple(ONE_PLACE[top])), f"{top} is imported outside its file or folder"


def test_starting_the_command_line_pulls_in_no_extra() -> None:
    code = "import sys, eddyline.cli; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {
        "confluent_kafka",
        "pyspark",
        "pyflink",
        "morpheus",
        "mrc",
        "cudf",
        "cupy",
        "triton",
        "uvicorn",
        "starlette",
        "pyod",
        "sklearn",
        "matplotlib",
        "dpkt",
    } & set(loaded)


def test_no_file_has_grown_past_its_limit() -> None:
    for file in files():
        limit = 400 if file.name == "templated.py" else 300
        assert len(file.read_text().splitlines()) <= limit, f"{file.name} is too long: split it by what it does"
