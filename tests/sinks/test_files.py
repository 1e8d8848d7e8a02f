"""file://: what was written once is there once, whole, under one schema, whatever was killed, replayed or full."""

import base64
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.errors import ConfigError, SinkError
from eddyline.flows import BATCH_SCHEMA, REJECTED_SCHEMA, TEXT, TIME, flow_table
from eddyline.sinks import alert_json, files, open_sink
from eddyline.windows import Window
from tests.sinks.test_stdout import IPV6, alert

MINUTE = 60_000_000
START = 1_678_443_300_000_000  # 2023-03-10T10:15:00Z
SCORED_V1 = pa.schema([
    *BATCH_SCHEMA,
    ("window_start", TIME), ("window_end", TIME), ("window_part", pa.int32()), ("late", pa.bool_()),
    ("raw_gae", pa.float32()), ("raw_habits", pa.float32()), ("p_gae", pa.float32()), ("p_habits", pa.float32()),
    ("p", pa.float32()), ("score", pa.float32()), ("lambda", pa.float32()), ("h", pa.float32()),
    ("alert_id", pa.utf8()), ("model", TEXT),
])  # fmt: skip


def scored(
    minute: int | None = 0, *hosts: str, site: str = "default", part: int = 0, late: bool = False, **columns: list
) -> ScoredFlows:
    """One window; its flows go from each of `hosts` to `server`."""
    hosts = hosts or ("a", "b")
    n = len(hosts)
    start = None if minute is None else START + minute * MINUTE
    end = None if start is None else start + MINUTE
    table = flow_table({"src_addr": list(hosts), "dst_addr": ["server"] * n, "site": [site] * n, **columns}, n)
    p = np.linspace(0.25, 1.0, n)
    raw = np.arange(n, dtype=np.float32)
    return ScoredFlows(
        Window(site, start, end, part, late, table), {"gae": raw, "habits": raw}, {"gae": p, "habits": p}, p, "model1"
    )


def write(folder: Path, *windows: ScoredFlows, flush_each: bool = False) -> None:
    with closing(open_sink(f"file://{folder}")) as sink:
        for window in windows:
            sink.write(window, [])
            if flush_each:
                sink.flush()


def hosts(folder: Path) -> list[str]:
    return pq.read_table(folder / "flows")["src_addr"].to_pylist()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "flows").iterdir())


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def rejected(*rows: tuple[str, int | None, bytes]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"reason": "bad port", "origin": origin, "source_row": row, "raw": raw} for origin, row, raw in rows],
        REJECTED_SCHEMA,
    )


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Let the kernel refuse every write past `size` bytes of a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Flows


def test_what_is_read_back_is_scored_output_v1_in_the_windows_order(tmp_path: Path) -> None:
    windows = [scored(0, "b", "a", IPV6), scored(1, "a", "c", label=["benign", "malicious"])]
    write(tmp_path, *windows)
    table = pq.read_table(tmp_path / "flows")
    assert table.schema.equals(SCORED_V1)
    assert table.schema.field("bytes").metadata[b"unit"] == b"B"
    assert table.to_pylist() == [row for window in windows for row in window.table().to_pylist()]
    assert names(tmp_path) == ["20230310T101500Z-default-000000.parquet"]


def test_files_whose_windows_know_other_hosts_read_as_one_data_set(tmp_path: Path) -> None:
    write(tmp_path, scored(0, "a"), scored(1, IPV6, "b"), scored(None, "c", site="zürich"), flush_each=True)
    found = ds.dataset(tmp_path / "flows")
    assert len(found.files) == 3
    assert found.schema.equals(SCORED_V1)
    assert found.to_table()["src_addr"].to_pylist() == ["a", IPV6, "b", "c"]
    for path in found.files:
        assert pq.read_schema(path).equals(SCORED_V1)


def test_text_is_dictionary_encoded_and_everything_is_zstd(tmp_path: Path) -> None:
    write(tmp_path, scored(0, *["a", "b"] * 500))
    group = pq.read_metadata(next((tmp_path / "flows").iterdir())).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert all(columns[name].has_dictionary_page for name in ("src_addr", "dst_addr", "site", "model"))
    assert not columns["p"].has_dictionary_page


def test_nothing_to_write_writes_nothing(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}/out")) as sink:
        sink.flush()
        sink.flush()
    assert names(tmp_path / "out") == []


def test_flows_are_on_disk_when_flush_returns(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(0, "a"), [])
        assert names(tmp_path) == []
        sink.flush()
        assert hosts(tmp_path) == ["a"]


def test_the_same_window_twice_equals_once_within_a_flush_and_across(tmp_path: Path) -> None:
    window = scored(0, "a", "b")
    write(tmp_path, window, window)
    assert hosts(tmp_path) == ["a", "b"]
    write(tmp_path, scored(0, "a", "c"), flush_each=True)
    write(tmp_path, scored(0, "a", "c"), flush_each=True)
    assert hosts(tmp_path) == ["a", "c"]


def test_a_replay_from_the_same_first_window_replaces_the_file(tmp_path: Path) -> None:
    write(tmp_path, scored(0, "a"), scored(1, "b"))
    before = names(tmp_path)
    write(tmp_path, scored(0, "A"), scored(1, "B"), scored(2, "C"))
    assert names(tmp_path) == before
    assert hosts(tmp_path) == ["A", "B", "C"]


def test_a_replay_that_flushes_elsewhere_neither_loses_nor_doubles_a_window(tmp_path: Path) -> None:
    write(tmp_path, scored(0, "a"), scored(1, "b"), scored(2, "c"))
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(0, "A"), [])
        sink.flush()
        assert sorted(hosts(tmp_path)) == ["A", "b", "c"]  # what was not written again stays
        sink.write(scored(1, "B"), [])
        sink.flush()
        assert sorted(hosts(tmp_path)) == ["A", "B", "c"]
        sink.write(scored(2, "C"), [])
    assert hosts(tmp_path) == ["A", "B", "C"]
    assert len(names(tmp_path)) == 3


def test_a_file_whose_windows_were_all_written_elsewhere_goes_away(tmp_path: Path) -> None:
    write(tmp_path, *(scored(n, f"h{n}") for n in range(4)), flush_each=True)
    write(tmp_path, *(scored(n, f"H{n}") for n in range(4)))
    assert hosts(tmp_path) == ["H0", "H1", "H2", "H3"]
    assert len(names(tmp_path)) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["x", "y"]), st.booleans()), max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_written_in_whatever_pieces_the_last_write_of_each_window_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[tuple[int, str, bool]]]
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    wanted: dict[tuple[int, str], str] = {}
    for run, steps in enumerate(runs):
        with closing(open_sink(f"file://{folder}")) as sink:
            for n, (hour, site, flush) in enumerate(steps):
                wanted[hour, site] = f"{run}.{n}"
                sink.write(scored(hour * 300, f"{run}.{n}", site=site), [])  # five hours apart: two days
                if flush:
                    sink.flush()
    assert (sorted(hosts(folder)) if wanted else names(folder)) == sorted(wanted.values())


def test_a_flush_that_spans_days_writes_a_file_a_day_and_replaces_days_long_past(tmp_path: Path) -> None:
    days = [n * 1440 for n in range(6)]
    write(tmp_path, *(scored(day + minute, "a") for day in days for minute in (0, 1)), flush_each=True)
    assert len(names(tmp_path)) == 12
    write(tmp_path, *(scored(day + minute, "A") for day in days for minute in (0, 1)))
    assert names(tmp_path) == [f"202303{day}T101500Z-default-000000.parquet" for day in range(10, 16)]
    assert hosts(tmp_path) == ["A"] * 12


def test_late_windows_and_parts_and_windows_without_time_have_their_own_names(tmp_path: Path) -> None:
    half = scored(0)
    half = replace(half, window=replace(half.window, start_us=START + 500_000))
    windows = [scored(0), half, scored(0, late=True), scored(0, part=1), scored(None, part=7), scored(-20 * 365 * 1440)]
    write(tmp_path, *windows, flush_each=True)
    assert names(tmp_path) == [
        "20030315T101500Z-default-000000.parquet",
        "20230310T101500Z-default-000000-late.parquet",
        "20230310T101500Z-default-000000.parquet",
        "20230310T101500Z-default-000001.parquet",
        "20230310T101500Z_500000-default-000000.parquet",
        "untimed-default-000007.parquet",
    ]
    assert len(hosts(tmp_path)) == 12


@pytest.mark.parametrize(
    "sites", [["a/b", "a_b", "a?b"], ["..", "../..", "."], ["ü", "ä"], ["x" * 300, "x" * 301], ["", " ", "\n", "\x00"]]
)
def test_sites_of_any_name_stay_inside_the_folder_and_apart(tmp_path: Path, sites: list[str]) -> None:
    folder = tmp_path / "in" / "out"
    write(folder, *(scored(0, "a", site=site) for site in sites), flush_each=True)
    assert sorted(pq.read_table(folder / "flows")["site"].to_pylist()) == sorted(sites)
    assert len(names(folder)) == len(sites)
    assert all(name.isascii() and len(name) < 100 and "/" not in name for name in names(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


def test_a_million_buffered_flows_do_not_wait_for_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MAX_ROWS", 5)
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(0, "a", "b"), [])
        sink.write(scored(0, "a", "b"), [])
        assert names(tmp_path) == []
        sink.write(scored(1, "a", "b", "c"), [])
        assert len(hosts(tmp_path)) == 5


def test_another_set_of_columns_is_refused_with_their_names(tmp_path: Path) -> None:
    write(tmp_path, scored(0))
    other = scored(1)
    other = replace(other, raw={"gae": other.raw["gae"]})
    with closing(open_sink(f"file://{tmp_path}")) as sink, pytest.raises(ConfigError, match=r"raw_habits \(float\)"):
        sink.write(other, [])
    assert len(hosts(tmp_path)) == 2


WRITER = """
import sys
from pathlib import Path
from eddyline.sinks import open_sink
from tests.sinks.test_files import alert, rejected, scored
sink = open_sink(f"file://{sys.argv[1]}")
for n in range(1_000_000):
    sink.write(scored(n % 7, *[f"{n}.{i}" for i in range(2_000)]), [alert(id=str(n % 9), update=n)])
    sink.reject(rejected(("x", n, b"raw")))
    sink.flush()
    if n == 0:
        sys.stdout.write("ready\\n"); sys.stdout.flush()
"""


def assert_whole(folder: Path, rows: int) -> None:
    for path in folder.glob("*.parquet"):
        with path.open("rb") as file:  # one opening: by its path it is opened twice, and may be replaced in between
            assert len(pq.ParquetFile(file).read()) == rows


def test_a_killed_run_leaves_only_whole_files_and_the_next_one_goes_on(tmp_path: Path) -> None:
    letters = tmp_path / "dead-letter.jsonl"
    for wait in (0.3, 0.5):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            try:
                assert running.stdout.readline() == b"ready\n"
                until, last = time.monotonic() + wait, time.monotonic() + 30
                while time.monotonic() < until or not (letters.exists() and letters.stat().st_size):
                    assert_whole(tmp_path / "flows", 2_000)  # nor does anyone see half a file meanwhile
                    assert time.monotonic() < last, "the writer writes nothing"
            finally:
                running.send_signal(signal.SIGKILL)
        assert_whole(tmp_path / "flows", 2_000)
    write(tmp_path, *(scored(n, "a") for n in range(7)))
    assert hosts(tmp_path) == ["a"] * 7
    assert all(name.endswith(".parquet") and name[0] == "2" for name in names(tmp_path))
    assert len({line["id"] for line in lines(tmp_path / "alerts.jsonl")}) == len(lines(tmp_path / "alerts.jsonl"))
    rows = [line["source_row"] for line in lines(tmp_path / "dead-letter.jsonl")]
    assert rows == list(range(len(rows)))
    assert rows


def test_what_a_killed_run_left_half_written_is_removed_and_never_read(tmp_path: Path) -> None:
    write(tmp_path, scored(0, "a"))
    (tmp_path / "flows" / ".20230310T101600Z-default-000000.parquet.part").write_bytes(b"PAR1 half")
    assert hosts(tmp_path) == ["a"]
    open_sink(f"file://{tmp_path}").close()
    assert names(tmp_path) == ["20230310T101500Z-default-000000.parquet"]


# Alerts


def test_the_last_state_of_an_alert_wins_and_close_leaves_one_line_each(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        for n in range(3):
            sink.write(scored(n), [alert(update=n, count=10 + n), alert(id=f"other{n}", host=IPV6)])
            sink.flush()
        last = {line["id"]: line for line in lines(tmp_path / "alerts.jsonl")}
        assert last["a1b2c3d4e5f6"]["count"] == 12
    ids = [(line["id"], line["update"]) for line in lines(tmp_path / "alerts.jsonl")]
    assert ids == [("other0", 0), ("other1", 0), ("a1b2c3d4e5f6", 2), ("other2", 0)]


def test_the_same_update_twice_adds_no_line_also_after_a_restart(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(open_sink(f"file://{tmp_path}")) as sink:
            for _ in range(3):
                sink.write(scored(0), [alert()])
                sink.flush()
                assert len(lines(tmp_path / "alerts.jsonl")) == 1


def test_a_restart_keeps_and_updates_what_earlier_runs_told(tmp_path: Path) -> None:
    for updates in ([alert(), alert(id="old")], [alert(update=1, count=99)], []):
        with closing(open_sink(f"file://{tmp_path}")) as sink:
            sink.write(scored(0), updates)
    assert [(line["id"], line["count"]) for line in lines(tmp_path / "alerts.jsonl")] == [
        ("old", 12),
        ("a1b2c3d4e5f6", 99),
    ]


def test_a_long_journal_is_rewritten_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_json, "_MIN_LINES", 4)
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        for n, lines_then in enumerate([1, 2, 3, 4, 1, 2]):
            sink.write(scored(0), [alert(update=n)])
            sink.flush()
            assert len(lines(tmp_path / "alerts.jsonl")) == lines_then
    assert [line["update"] for line in lines(tmp_path / "alerts.jsonl")] == [5]


def test_null_times_are_null_and_a_site_with_line_breaks_is_one_line(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(None), [alert(first_seen_us=None, last_seen_us=None, site="a\n\u2028b")])
    (line,) = lines(tmp_path / "alerts.jsonl")
    assert (line["first_seen"], line["last_seen"], line["host"], line["site"]) == (None, None, IPV6, "a\n\u2028b")


def test_a_line_torn_by_a_crash_is_cut_off(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(0), [alert()])
        sink.reject(rejected(("x", 1, b"one")))
    for name in ("alerts.jsonl", "dead-letter.jsonl"):
        with (tmp_path / name).open("ab") as file:
            file.write(b'{"id":"torn')
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.write(scored(0), [alert(id="next")])
        sink.reject(rejected(("x", 2, b"two")))
    assert [line["id"] for line in lines(tmp_path / "alerts.jsonl")] == ["a1b2c3d4e5f6", "next"]
    assert [line["source_row"] for line in lines(tmp_path / "dead-letter.jsonl")] == [1, 2]


# Dead letters


def test_dead_letters_keep_their_bytes_exactly_and_text_where_there_is_some(tmp_path: Path) -> None:
    raws = [bytes(range(256)), b"10.0.0.1,\tz\xc3\xbcrich\r\n", b"\x00\x01", b"", b"\xff", b'"quoted"']
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.reject(rejected(*(("x.csv", n, raw) for n, raw in enumerate(raws))))
    found = lines(tmp_path / "dead-letter.jsonl")
    assert [base64.b64decode(line["raw"]) for line in found] == raws
    assert [line.get("text") for line in found] == [None, "10.0.0.1,\tzürich\r\n", None, "", None, '"quoted"']
    assert list(found[1]) == ["reason", "origin", "source_row", "text", "raw"]
    assert {(line["reason"], line["origin"]) for line in found} == {("bad port", "x.csv")}


def test_a_replayed_row_is_kept_once_and_datagrams_as_often_as_they_come(tmp_path: Path) -> None:
    for _ in range(2):
        with closing(open_sink(f"file://{tmp_path}")) as sink:
            for _ in range(2):
                sink.reject(rejected(("x", 5, b"a"), ("y", 5, b"b"), ("x", 3, b"c"), ("10.0.0.1", None, b"d")))
                sink.flush()
    rows = [(line["origin"], line["source_row"]) for line in lines(tmp_path / "dead-letter.jsonl")]
    assert rows[:4] == [("x", 5), ("y", 5), ("x", 3), ("10.0.0.1", None)]
    assert rows[4:] == [("10.0.0.1", None)] * 3


# When it cannot be


def test_a_full_device_says_what_is_not_written_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "dead-letter.jsonl").symlink_to("/dev/full")
    sink = open_sink(f"file://{tmp_path}")
    sink.write(scored(0, "a"), [alert()])
    sink.reject(rejected(("x", 1, b"one"), ("x", None, b"two")))
    with pytest.raises(SinkError) as raised:
        sink.flush()
    assert str(raised.value) == (
        f"sink: cannot write `{tmp_path}/dead-letter.jsonl`: No space left on device; not written: 0 flows of 0 "
        "windows, 0 alert updates, 2 rejected records; make room and run it again: what is already written is replaced"
    )
    assert hosts(tmp_path) == ["a"]
    (tmp_path / "dead-letter.jsonl").unlink()
    sink.close()
    assert len(lines(tmp_path / "dead-letter.jsonl")) == 2


def test_a_full_disk_leaves_the_files_as_they_were_and_the_next_flush_writes_all(tmp_path: Path) -> None:
    sink = open_sink(f"file://{tmp_path}")
    sink.write(scored(0, "a"), [alert()])
    sink.flush()
    before = (tmp_path / "alerts.jsonl").read_bytes()
    sink.write(scored(0, "A"), [alert(update=1)])
    sink.write(scored(1, *(f"host{n}" for n in range(5_000))), [alert(id=str(n)) for n in range(50)])
    with (
        files_up_to(10_000),
        pytest.raises(SinkError, match=r"000000.parquet`: File too large; not written: 5,001 flows of 2"),
    ):
        sink.flush()
    assert hosts(tmp_path) == ["a"]
    assert len(names(tmp_path)) == 1
    assert (tmp_path / "alerts.jsonl").read_bytes() == before
    sink.close()
    assert len(hosts(tmp_path)) == 5_001
    assert hosts(tmp_path)[0] == "A"
    assert len({line["id"] for line in lines(tmp_path / "alerts.jsonl")}) == 51


def test_a_torn_append_is_taken_back(tmp_path: Path) -> None:
    sink = open_sink(f"file://{tmp_path}")
    sink.reject(rejected(("x", 1, b"one")))
    sink.flush()
    sink.reject(rejected(*(("x", n, b"r" * 100) for n in range(2, 100))))
    with files_up_to(2_000), pytest.raises(SinkError, match="98 rejected records"):
        sink.flush()
    assert [line["source_row"] for line in lines(tmp_path / "dead-letter.jsonl")] == [1]
    sink.close()
    assert [line["source_row"] for line in lines(tmp_path / "dead-letter.jsonl")] == list(range(1, 100))


def test_a_folder_that_turns_into_a_file_is_a_sink_error(tmp_path: Path) -> None:
    sink = open_sink(f"file://{tmp_path}")
    (tmp_path / "flows").rmdir()
    (tmp_path / "flows").write_text("")
    sink.write(scored(0, "a", "b"), [])
    with pytest.raises(SinkError, match="Not a directory; not written: 2 flows of 1 windows"):
        sink.close()
    sink.close()


@pytest.mark.parametrize("name", ["taken", "taken/below"])
def test_a_file_where_a_folder_is_needed_is_a_wrong_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ConfigError, match=f"`{tmp_path}/{name}` cannot be a folder, a file is in its place or above"):
        open_sink(f"file://{tmp_path}/{name}")


def test_a_folder_that_cannot_be_written_is_a_wrong_configuration() -> None:
    with pytest.raises(ConfigError, match=r"cannot write to `/proc/eddyline`: .*; give another folder or the right"):
        open_sink("file:///proc/eddyline")


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    with closing(open_sink(f"file://{tmp_path}")), pytest.raises(ConfigError, match="another run writes to"):
        open_sink(f"file://{tmp_path}")
    open_sink(f"file://{tmp_path}").close()


@pytest.mark.parametrize(
    ("name", "what", "words"),
    [
        ("alerts.jsonl", b"[1]\n", "line 1 of an earlier run's JSON lines has no id"),
        ("flows/x.parquet", b"PAR1", "x.parquet` is not a whole Parquet file; move it"),
    ],
)
def test_what_others_left_in_the_folder_is_refused_not_overwritten(
    tmp_path: Path, name: str, what: bytes, words: str
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / name).write_bytes(what)
    with pytest.raises(ConfigError, match=words):
        open_sink(f"file://{tmp_path}")
    assert (tmp_path / name).read_bytes() == what
    (tmp_path / name).unlink()
    open_sink(f"file://{tmp_path}").close()  # the refusal let go of the folder


@pytest.mark.parametrize("url", ["file://", "file:", "file://out?rows=1", "file://?x=1"])
def test_a_url_without_a_folder_or_with_options_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="give file://FOLDER"):
        open_sink(url)


def test_a_collector_that_starts_again_within_a_window_keeps_its_first_half(tmp_path: Path) -> None:
    def life(*windows: ScoredFlows) -> None:
        with closing(open_sink(f"file://{tmp_path}", replays=False)) as sink:
            for window in windows:
                sink.write(window, [])
                sink.flush()

    life(scored(0, "a", "b"), scored(0, "c", part=1), scored(0, "d", late=True))
    life(scored(0, "e"), scored(0, "f", part=1), scored(0, "g", late=True), scored(1, "h"))
    life(scored(1, "i"))
    table = pq.read_table(tmp_path / "flows")
    part_of = dict(zip(table["src_addr"].to_pylist(), table["window_part"].to_pylist(), strict=True))
    assert table.num_rows == 9
    assert part_of == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 2, "f": 3, "g": 1, "h": 0, "i": 1}


def test_a_flood_of_bad_datagrams_stops_growing_the_file_and_is_counted(tmp_path: Path) -> None:
    flood = rejected(*[("10.0.0.1", None, bytes(600))] * 10)
    for left_out in (17, 20):
        letters = alert_json.DeadLetters(alert_json.JsonLines(tmp_path / "a.jsonl"), most=2_000)
        for _ in range(2):
            letters.put(flood)
            letters.flush()
        letters.seal()
        kept = lines(tmp_path / "a.jsonl")
        assert kept[-1]["reason"].startswith(f"{left_out} more records were not kept")
        assert [base64.b64decode(line["raw"]) for line in kept[:3]] == [bytes(600)] * 3
    assert len(kept) == 3 + 2


def test_bad_records_do_not_pile_up_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eddyline.sinks.files._MAX_REJECTED_BYTES", 10_000)
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        sink.reject(rejected(("10.0.0.1", None, bytes(6_000))))  # 8,000 letters of base64
        assert lines(tmp_path / "dead-letter.jsonl") == []
        sink.reject(rejected(("10.0.0.1", None, bytes(6_000))))
        assert len(lines(tmp_path / "dead-letter.jsonl")) == 2


def test_relative_and_home_folders_are_found_and_stay_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with closing(open_sink("file://out/deep")) as here, closing(open_sink("file://~/out")) as home:
        monkeypatch.chdir(tmp_path / "elsewhere")
        here.write(scored(0, "a"), [])
        home.write(scored(0, "b"), [])
    assert hosts(tmp_path / "out" / "deep") == ["a"]
    assert hosts(tmp_path / "home" / "out") == ["b"]
    assert os.listdir(tmp_path / "elsewhere") == []


def test_the_sink_takes_what_the_alert_book_gives(tmp_path: Path) -> None:
    window = replace(scored(0, "a", "b"), alert_id=pa.array(["a1b2c3d4e5f6", None], pa.utf8()))
    with closing(open_sink(f"file://{tmp_path}")) as sink:
        story: Alert = alert()
        sink.write(window, [story])
    assert pq.read_table(tmp_path / "flows")["alert_id"].to_pylist() == [
        lines(tmp_path / "alerts.jsonl")[0]["id"],
        None,
    ]
