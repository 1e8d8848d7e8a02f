"""The command, from a labelled file to the table: what is judged is what the service writes."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from eddyline.cli import status

MINUTES = 24


def write_protocol(file: Path, *, part: bool = True, label: bool = True) -> None:
    """24 minutes of four clients and two servers, a scan by one client in minute 20; parts by time."""
    rng = np.random.default_rng(1)
    start = 1_700_000_040.0  # a whole minute
    flows = [
        (start + 60 * m + 7 * n, f"10.0.0.{n + 1}", f"10.0.1.{n % 2}", 443, 0) for m in range(MINUTES) for n in range(4)
    ]
    flows += [(start + 60 * 20 + n / 10, "10.0.0.3", f"10.0.2.{n}", 1000 + n, 1) for n in range(60)]
    flows.sort()
    ts, src, dst, port, attack = zip(*flows, strict=True)
    size = rng.integers(300, 900, len(flows))
    columns = {
        "ts": pa.array(ts), "dur": pa.array(rng.random(len(flows))), "src": pa.array(src), "dst": pa.array(dst),
        "dport": pa.array(port, pa.int32()), "proto": pa.array(["tcp"] * len(flows)),
        "spkts": pa.array(size // 100), "sbytes": pa.array(size), "dpkts": pa.array(size // 200),
        "dbytes": pa.array(size * 2),
    }  # fmt: skip
    if label:
        columns["label"] = pa.array(attack, pa.int8())
        columns["attack"] = pa.array(["scan" if one else "-" for one in attack])
    if part:
        minute = (np.array(ts) - start) // 60
        columns["part"] = pa.array(np.select([minute < 8, minute < 14, minute < 23], [0, 1, 2], 3).astype(np.int8))
    pq.write_table(pa.table(columns), file)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default detectors, trained on the benign minutes before those judged."""
    folder = tmp_path_factory.mktemp("trained")
    write_protocol(folder / "stream.parquet")
    table = pq.read_table(folder / "stream.parquet")
    pq.write_table(table.filter(pc.less(table["part"], 2)), folder / "benign.parquet")
    source = str(folder / "benign.parquet")
    assert status(["train", "--source", source, "--model", str(folder / "office"), "--epochs", "2"]) == 0
    return folder / "office"


def run(model: Path, *arguments: str | Path) -> int:
    return status(["evaluate", "--model", str(model), *map(str, arguments)])


@pytest.mark.slow
def test_a_protocol_is_judged_by_its_parts_beside_the_baselines(model: Path, tmp_path: Path) -> None:
    write_protocol(tmp_path / "stream.parquet")
    assert run(model, "--source", tmp_path / "stream.parquet", "--out", tmp_path / "out") == 0
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {".png", ".md", ".json"}
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    judged = found["judged"]
    assert judged["attack"] == 60
    assert judged["flows"] == 60 + 4 * 9  # minutes 14 to 22; minute 23 is only streamed
    assert found["scorers"][0]["name"] == model.name
    assert {one["name"] for one in found["scorers"] if not one["model"]} >= {"kNN", "MIDAS-R", "pair burst"}
    fan_out = next(one for one in found["scorers"] if one["name"] == "fan-out")
    assert fan_out["oracle"]["recall"] == 1.0  # 61 partners in a minute, where others have one


def test_without_parts_flows_are_judged_from_a_time_on(model: Path, tmp_path: Path) -> None:
    write_protocol(tmp_path / "stream.parquet", part=False)
    flags = ("--source", tmp_path / "stream.parquet", "--out", tmp_path / "out", "--baselines", "none")
    assert run(model, *flags, "--from", "2023-11-14T22:28:00Z") == 0  # minute 14
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["judged"]["flows"] == 60 + 4 * 10
    assert all(one["model"] for one in found["scorers"])


def test_two_models_are_two_rows(model: Path, tmp_path: Path) -> None:
    write_protocol(tmp_path / "stream.parquet")
    other = tmp_path / model.name  # of the same name in another folder
    other.mkdir()
    for file in sorted(model.rglob("*")):
        target = other / file.relative_to(model)
        target.mkdir(parents=True, exist_ok=True) if file.is_dir() else target.write_bytes(file.read_bytes())
    flags = ("--source", tmp_path / "stream.parquet", "--out", tmp_path / "out", "--baselines", "none")
    assert run(model, *flags, "--model", other) == 0
    scorers = json.loads((tmp_path / "out" / "evaluation.json").read_text())["scorers"]
    first, second = [one for one in scorers if "alone" not in one["name"]]
    assert first["name"] != second["name"]
    assert first["promises"] == second["promises"]


@pytest.mark.parametrize(
    ("made", "flags", "said"),
    [
        ({"label": False}, ("--baselines", "none"), "no labels"),
        ({"part": False}, (), "later --from"),
        ({}, ("--from", "yesterday"), "no ISO 8601 time"),
    ],
    ids=["labels", "nothing to learn from", "time"],
)
def test_what_cannot_be_judged_is_a_wrong_configuration(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    made: dict[str, bool],
    flags: tuple[str, ...],
    said: str,
) -> None:
    write_protocol(tmp_path / "stream.parquet", **made)
    assert run(model, "--source", tmp_path / "stream.parquet", "--out", tmp_path / "out", *flags) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_folder_that_cannot_be_made_is_said_before_anything_is_scored(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_protocol(tmp_path / "stream.parquet")
    (tmp_path / "file").write_text("")
    assert run(model, "--source", tmp_path / "stream.parquet", "--out", tmp_path / "file" / "out") == 2
    assert "give another --out" in capsys.readouterr().err
