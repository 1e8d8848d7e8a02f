"""`eddyline simulate` into a file: whole under its name, or not there at all."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from eddyline.cli import status
from eddyline.simulation import ParquetFile
from eddyline.sources import open_source
from tests.sinks.test_files import files_up_to


def test_a_file_whose_making_failed_never_gets_its_name(tmp_path: Path) -> None:
    batch = next(iter(open_source("simulate://office?hosts=60&seconds=60")))
    failed, file = RuntimeError("the cable is out"), ParquetFile(tmp_path / "a.parquet")
    assert file.__enter__().send(batch.table) > 0
    file.__exit__(RuntimeError, failed, None)
    assert list(tmp_path.iterdir()) == []
    with ParquetFile(tmp_path / "a.parquet") as file:
        sent = file.send(batch.table)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]
    assert pq.read_metadata(tmp_path / "a.parquet").num_rows == sent


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.parquet").write_bytes(b"old")
    with files_up_to(100_000):
        assert status(["simulate", "--sink", f"file://{tmp_path}/a.parquet", "--seconds", "3600"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"eddyline: simulate: cannot write `{tmp_path}/a.parquet`: File too large")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
