"""The command line on files: what goes in comes out scored, once, whatever the file; one tiny model for all tests."""

import base64
import gzip
import json
import os
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from eddyline.cli import status
from eddyline.flows import BATCH_SCHEMA, TIME

SIMULATED = "simulate://office?hosts=60&campaigns=none&seed=7"
WESTERMO = "flows/westermo_ics_first_half.parquet"
NF = "records/nf_bot_iot_v2_20k.csv.gz"
BOTH = ("--detector", "habits", "gae")
SCORES = ("raw_gae", "raw_habits", "p_gae", "p_habits", "p", "score", "lambda", "h")
TAIL = {
    "window_start": TIME, "window_end": TIME, "window_part": pa.int32(), "late": pa.bool_(),
    **dict.fromkeys(SCORES, pa.float32()), "alert_id": pa.utf8(), "model": pa.dictionary(pa.int32(), pa.utf8()),
}  # fmt: skip  # Scored output v1 after the source's own columns


def eddyline(*arguments: object) -> int:
    """One command in this interpreter; its exit status."""
    return status([str(argument) for argument in arguments])


def tiny_model(temporary: pytest.TempPathFactory) -> Path:
    """A model folder that the real command trained, once for all processes of a test session."""
    here = temporary.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "tiny-model"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            source = f"{SIMULATED}&seconds=1800&traffic=1"
            assert eddyline("train", "--source", source, "--model", folder, *BOTH, "--hidden", 8, "--epochs", 2) == 0
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def run(source: object, model: Path, out: Path, *more: object) -> pa.Table:
    """Score `source` into the folder `out`, which must end well; the scored flows."""
    assert eddyline("run", "--source", source, "--model", model, "--sink", f"file://{out}", *more) == 0
    return scored(out)


def scored(out: Path) -> pa.Table:
    """The flows in `out`, file after file by name, which is their order in time."""
    files = sorted((out / "flows").glob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files]) if files else pa.table({})


def dead_letters(out: Path) -> list[dict[str, object]]:
    records = [json.loads(line) for line in (out / "dead-letter.jsonl").read_text().splitlines()]
    return [{**record, "raw": base64.b64decode(record["raw"])} for record in records]


def by_row(table: pa.Table) -> pa.Table:
    return table.sort_by("source_row")


def plain(table: pa.Table) -> pa.Table:
    """Text instead of dictionaries, whose codes depend on how the file was cut."""
    text = [pa.utf8() if pa.types.is_dictionary(column.type) else column.type for column in table.schema]
    return table.cast(pa.schema(zip(table.column_names, text, strict=True))).combine_chunks()


def same_scores(one: pa.Table, other: pa.Table) -> bool:
    """To the last bit, row for row."""
    return one.num_rows > 0 and all(
        one[name].to_numpy().tobytes() == other[name].to_numpy().tobytes() for name in ("ts_end", *SCORES)
    )


def said_bad(text: str) -> int:
    """Bad records in the summary of a run."""
    found = re.search(r"^bad records +([\d,]+)", text, re.MULTILINE)
    assert found, text
    return int(found[1].replace(",", ""))


def rows_of(file: Path) -> int:
    if file.suffix == ".parquet":
        return int(pq.read_metadata(file).num_rows)
    return gzip.decompress(file.read_bytes()).count(b"\n") - 1


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (f"{WESTERMO}?dialect=normalized", ()),
        ("flows/ctu50_hosts_40_42.parquet?dialect=normalized", ("--windows.length-s", 3600)),
        (f"{NF}?dialect=nprobe", ("--windows.count", 3000)),
        pytest.param(
            "flows/darpa1998_june_01_19.parquet?dialect=normalized", ("--windows.length-s", 3600),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["westermo", "ctu50", "nf_bot_iot", "darpa1998"],
)  # fmt: skip
def test_every_flow_of_a_real_file_comes_out_scored_once(
    shared: Path, model: Path, tmp_path: Path, name: str, more: Sequence[object]
) -> None:
    file = shared / "data" / name.partition("?")[0]
    found = run(f"file://{shared}/data/{name}", model, tmp_path, *more)
    assert found.num_rows == rows_of(file) > 0
    assert np.array_equal(np.sort(found["source_row"].to_numpy()), np.arange(rows_of(file)))
    p, score = found["p"].to_numpy(), found["score"].to_numpy()
    assert ((p > 0) & (p <= 1)).all()
    assert np.array_equal(score, np.float32(1) - p)
    assert all(np.isfinite(found[name].to_numpy()).all() for name in SCORES)
    probes = [column for column in found.column_names if column.startswith("probe.")]
    assert found.column_names == [*BATCH_SCHEMA.names, *probes, *TAIL]
    assert {column: found.schema.field(column).type for column in TAIL} == TAIL
    if file.suffix == ".parquet":
        assert by_row(found)["src_addr"].to_pylist() == pq.read_table(file)["src"].to_pylist()


def test_the_same_file_gives_the_same_bytes_whatever_the_buffers(shared: Path, model: Path, tmp_path: Path) -> None:
    source = f"file://{shared}/data/{WESTERMO}?dialect=normalized"
    first = run(source, model, tmp_path / "first")
    assert same_scores(first, run(source, model, tmp_path / "again"))
    assert same_scores(first, run(source, model, tmp_path / "flushes", "--flush-flows", 3000, "--queue", 1))
    assert same_scores(first, run(f"{source}&batch=777", model, tmp_path / "batches", "--queue", 9))


def test_a_stream_and_the_file_written_from_it_get_the_same_scores(model: Path, tmp_path: Path) -> None:
    assert eddyline("simulate", "--sink", f"file://{tmp_path}/some.parquet", "--hosts", 60, "--seconds", 600) == 0
    written = run(f"file://{tmp_path}/some.parquet", model, tmp_path / "written")
    streamed = run("simulate://office?hosts=60&seconds=600", model, tmp_path / "streamed")
    assert streamed["bytes"].equals(written["bytes"])
    assert same_scores(streamed, written)


def test_windows_that_the_model_was_not_trained_with_are_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def said(*more: object) -> list[str]:
        caplog.clear()
        run(f"{SIMULATED}&seconds=300", model, tmp_path / str(len(more)), *more)
        return [record.getMessage() for record in caplog.records if record.getMessage().startswith("windows: ")]

    assert said("--windows.lateness-s", 3) == []
    length, count = said("--windows.length-s", 120, "--windows.count", 10)
    assert "`--windows.length-s` is 120.0, the model was trained with 60.0" in length
    assert "`--windows.count` is 10, the model was trained with 10000" in count


def test_a_model_with_little_behind_its_p_says_so(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(f"{SIMULATED}&seconds=120", model, tmp_path)
    (said,) = [record.getMessage() for record in caplog.records]
    assert re.match(r"calibration: only \d{3} pair-minutes stand behind p \(1000 are enough\)", said)


def test_no_score_depends_on_a_label(shared: Path, model: Path, tmp_path: Path) -> None:
    table = pq.read_table(shared / "data" / WESTERMO)
    order = np.random.default_rng(3).permutation(table.num_rows)
    for name in ("label", "attack"):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), table[name].take(pa.array(order)))
    pq.write_table(table, tmp_path / "permuted.parquet")
    before = run(f"file://{shared}/data/{WESTERMO}?dialect=normalized", model, tmp_path / "before")
    after = run(f"file://{tmp_path}/permuted.parquet?dialect=normalized", model, tmp_path / "after")
    assert before["label"].to_pylist() != after["label"].to_pylist()
    assert same_scores(before, after)


def test_ten_parallel_flows_between_two_hosts_get_ten_scores(model: Path, tmp_path: Path) -> None:
    assert eddyline("simulate", "--sink", f"file://{tmp_path}/some.parquet", "--hosts", 60, "--seconds", 300,
                    "--campaigns", "none") == 0  # fmt: skip
    some = pq.read_table(tmp_path / "some.parquet")
    ten = some.take([len(some) // 2] * 10)
    for name in ("bytes", "packets", "rev_bytes", "rev_packets"):
        place = ten.schema.get_field_index(name)
        values = pa.array(
            [(4 if "bytes" in name else 3) ** step * 40 for step in range(10)], ten.schema.field(name).type
        )
        ten = ten.set_column(place, ten.schema.field(name), values)
    pq.write_table(pa.concat_tables([some, ten]), tmp_path / "with_ten.parquet")
    found = by_row(run(f"file://{tmp_path}/with_ten.parquet", model, tmp_path / "out")).slice(len(some))
    assert found["bytes"].to_pylist() == ten["bytes"].to_pylist()
    assert len(set(zip(found["src_addr"].to_pylist(), found["dst_addr"].to_pylist(), strict=True))) == 1
    assert len(set(found["raw_gae"].to_pylist())) == 10
    assert len(set(found["p"].to_pylist())) == 10  # `score` is 1 - p in float32, where small p look alike


def broken(line: bytes) -> list[bytes]:
    """Ten ways to break a record of the nprobe dialect."""
    fields = line.split(b",")

    def put(place: int, text: bytes) -> bytes:
        return b",".join([*fields[:place], text, *fields[place + 1 :]])

    return [
        b",".join(fields[:10]), line + b",more", put(0, b"999.1.2.3"), put(2, b""), put(1, b"70000"),
        put(3, b"no port"), put(6, b"-1"), put(7, b"many"), put(44, b"\xff\xfe"), b'"' + line,
    ]  # fmt: skip


def test_ten_broken_lines_cost_ten_flows(
    shared: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = gzip.decompress((shared / "data" / NF).read_bytes()).splitlines()[:1001]
    places = range(50, 1000, 100)
    bad = dict(zip(places, broken(lines[500]), strict=True))
    for place, line in bad.items():
        lines[1 + place] = line
    (tmp_path / "some.csv").write_bytes(b"\n".join(lines) + b"\n")
    found = run(f"file://{tmp_path}/some.csv?dialect=nprobe", model, tmp_path / "out")
    assert found["source_row"].to_pylist() == [row for row in range(1000) if row not in bad]
    kept = {letter["source_row"]: letter["raw"] for letter in dead_letters(tmp_path / "out")}
    assert kept == bad
    assert all(letter["reason"] and letter["origin"] == "some.csv" for letter in dead_letters(tmp_path / "out"))
    assert said_bad(capsys.readouterr().err) == 10


def test_a_gzip_file_that_is_cut_is_scored_up_to_the_cut(
    shared: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (shared / "data" / NF).read_bytes()
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    *lines, torn = zlib.decompressobj(31).decompress(whole[: len(whole) // 2]).split(b"\n")
    found = run(f"file://{tmp_path}/cut.csv.gz?dialect=nprobe", model, tmp_path / "out")
    assert found["source_row"].to_pylist() == list(range(len(lines) - 1))
    (letter,) = dead_letters(tmp_path / "out")
    assert (letter["raw"], letter["source_row"]) == (torn, len(lines) - 1)
    assert "cut off" in str(letter["reason"])
    assert said_bad(capsys.readouterr().err) == 1


def test_a_parquet_file_that_is_cut_leaves_the_one_beside_it_whole(
    shared: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (shared / "data" / WESTERMO).read_bytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a_cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "b_whole.parquet").write_bytes(whole)
    found = run(f"file://{tmp_path}/in?dialect=normalized", model, tmp_path / "out")
    said = capsys.readouterr().err
    alone = run(f"file://{shared}/data/{WESTERMO}?dialect=normalized", model, tmp_path / "alone")
    assert found["source_row"].to_pylist() == [row + 1 for row in alone["source_row"].to_pylist()]
    assert found["p"].equals(alone["p"])
    (letter,) = dead_letters(tmp_path / "out")
    assert (letter["origin"], letter["source_row"], letter["raw"]) == ("a_cut.parquet", 0, whole[: 1 << 16])
    assert "not a whole Parquet file" in str(letter["reason"])
    assert said_bad(said) == 1


def test_the_default_model_finds_alerts_with_reasons_in_a_simulated_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the model is that of the checkout, wherever the command is given
    assert eddyline("run", "--source", "simulate://office?hosts=100&seconds=3600", "--sink", "file://out") == 0
    alerts = [json.loads(line) for line in (tmp_path / "out/alerts.jsonl").read_text().splitlines()]
    assert 0 < len(alerts) <= 10  # the default budget of an hour
    assert all(alert["reasons"] and all(alert["reasons"]) and alert["count"] > 0 for alert in alerts)
    counted = scored(tmp_path / "out")["alert_id"].value_counts().to_pylist()
    assert {each["values"]: each["counts"] for each in counted if each["values"]} == {
        alert["id"]: alert["count"] for alert in alerts
    }
