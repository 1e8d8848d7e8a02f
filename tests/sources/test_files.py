"""Files as sources: formats, order, rows, and what happens to broken records and broken files."""

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eddyline.errors import ConfigError
from eddyline.flows import REJECTED_SCHEMA, FlowBatch, flow_table
from eddyline.sources import open_source
from eddyline.sources.files import text as text_files
from eddyline.sources.files.source import open_file
from eddyline.windows import Commit

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
HEADER = b"ts,dur,src,sport,dst,dport,proto,sbytes\n"
NPROBE = {"IPV4_SRC_ADDR": "10.0.0.1", "IPV4_DST_ADDR": "10.0.0.2", "PROTOCOL": 6, "IN_BYTES": 280, "IN_PKTS": 2}


def line(row: int, end: bytes = b"\n") -> bytes:
    return b"%d,0.5,10.0.0.1,%d,10.0.0.2,80,tcp,60" % (1000 + row, row) + end


def write(path: Path, *parts: bytes) -> str:
    path.write_bytes(b"".join(parts))
    return f"file://{path}"


def read(url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All flows and all rejected records, as rows."""
    flows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    for batch in open_file(url):
        flows += batch.table.to_pylist()
        rejected += batch.rejected.to_pylist()
        assert batch.position == len(flows)
    return flows, rejected


def column(rows: Sequence[dict[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]


# -- order and batches


def test_flows_come_in_the_order_of_their_end_and_keep_their_rows(tmp_path: Path) -> None:
    table = pa.table(
        {"ts": [5.0, 1.0, None, 3.0, 1.0], "dur": [0.0, 9.0, 1.0, 1.0, 3.0], "src": list("abcde"), "dst": list("vwxyz")}
    )
    pq.write_table(table, tmp_path / "x.parquet")
    flows, _ = read(f"file://{tmp_path}/x.parquet")
    assert column(flows, "src_addr") == ["d", "e", "a", "b", "c"]  # ends 4, 4, 5, 10, none; equal ends keep file order
    assert column(flows, "source_row") == [3, 4, 0, 1, 2]
    flows, _ = read(f"file://{tmp_path}/x.parquet?order=source")
    assert column(flows, "source_row") == [0, 1, 2, 3, 4]


def test_batches_are_slices_of_at_most_the_asked_size(tmp_path: Path) -> None:
    url = write(tmp_path / "x.csv", HEADER, *(line(row) for row in range(7)))
    for order in ("time", "source"):
        batches = list(open_file(f"{url}?batch=3&order={order}"))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert [batch.position for batch in batches] == [3, 6, 7]
        assert pa.concat_tables([batch.table for batch in batches])["source_row"].to_pylist() == list(range(7))


def test_the_hosts_of_all_files_share_one_dictionary(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", HEADER, line(0))
    write(tmp_path / "b.csv", HEADER, line(1).replace(b"10.0.0.1", b"10.0.0.3"))
    (batch,) = open_file(f"file://{tmp_path}")
    src, dst = (batch.table[name].chunk(0).dictionary for name in ("src_addr", "dst_addr"))
    assert src.equals(dst)
    assert sorted(src.to_pylist()) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert batch.table["source_row"].to_pylist() == [0, 1]


def test_a_source_can_be_read_again_committed_and_closed(tmp_path: Path) -> None:
    source = open_file(write(tmp_path / "x.csv", HEADER, line(0), line(1)) + "?batch=1")
    assert [batch.position for batch in source] == [1, 2]
    commit = Commit(2)
    source.commit(commit)
    assert source.committed is commit
    batches = iter(source)
    assert next(batches).position == 1
    source.close()
    source.close()
    assert list(batches) == []


def test_a_column_can_name_the_site(tmp_path: Path) -> None:
    url = write(tmp_path / "x.csv", b"src,dst,Capture\na,b,left\nc,d,\ne,f,right\n")
    assert column(read(url)[0], "site") == ["default"] * 3
    assert column(read(f"{url}?site=capture")[0], "site") == ["left", "default", "right"]


# -- broken records


def test_ten_broken_lines_cost_ten_records_and_nothing_else(tmp_path: Path) -> None:
    broken = {
        2: (b"1002,0.5,10.0.0.1", "not 8 fields"),
        3: (b"1003,0.5,10.0.0.1,3,10.0.0.2,80,tcp,60,extra", "not 8 fields"),
        5: (b"1005,0.5,,5,10.0.0.2,80,tcp,60", "column `src` is no address"),
        6: (b"1006,0.5,10.0.0.1,6,10.0.0.2,80,tcp,many", "column `sbytes` is no whole number"),
        7: (b"1007,0.5,10.0.0.1,7,10.0.0.2,80000,tcp,60", "column `dport` is not from 0 to 65535"),
        9: (b'1009,0.5,"10.0.0.1,9,10.0.0.2,80,tcp,60', "misplaced quote"),
        10: (b"1010,0.5,10.0.0.1,10,10.0.0.2,80,t\xffp,60", "not UTF-8"),
        11: (b"yesterday,0.5,10.0.0.1,11,10.0.0.2,80,tcp,60", "column `ts` is no time"),
        12: (b"1012,-1,10.0.0.1,12,10.0.0.2,80,tcp,60", "column `dur` is out of range"),
        14: (b"1014,0.5,10.0.0.1,14\r,10.0.0.2,80,tcp,60", "stray carriage return"),
    }
    lines = [broken[row][0] + b"\n" if row in broken else line(row) for row in range(16)]
    for order in ("time", "source"):
        flows, rejected = read(write(tmp_path / "x.csv", HEADER, *lines) + f"?order={order}")
        assert column(flows, "source_row") == [row for row in range(16) if row not in broken]
        assert column(flows, "src_port") == column(flows, "source_row")
        assert {row["source_row"]: (row["raw"], row["reason"]) for row in rejected} == broken
        assert column(rejected, "source_row") == sorted(broken)
        assert set(column(rejected, "origin")) == {"x.csv"}


def test_blank_lines_are_no_records_and_line_ends_do_not_matter(tmp_path: Path) -> None:
    text = [
        b"\xef\xbb\xbf\r\n",
        HEADER,
        line(0, b"\r\n"),
        b"\r\n\n",
        b'"1001",0.5,"10.0.0.1",1,10.0.0.2,80,tcp,60\n',
        b"2\n",
    ]
    flows, rejected = read(write(tmp_path / "x.csv", *text, line(3, b"")))
    assert column(flows, "source_row") == [0, 1, 3]
    assert column(flows, "src_port") == [0, 1, 3]
    assert [(row["source_row"], row["raw"]) for row in rejected] == [(2, b"2")]


def test_a_quoted_file_is_the_same_as_a_plain_one(tmp_path: Path) -> None:
    plain = [HEADER, *(line(row) for row in range(5))]
    quoted = [b",".join(b'"' + part + b'"' for part in text.strip().split(b",")) + b"\r\n" for text in plain]
    assert read(write(tmp_path / "p.csv", *plain)) == read(write(tmp_path / "q.csv", *quoted))


def test_a_last_line_without_end_is_a_record(tmp_path: Path) -> None:
    flows, rejected = read(write(tmp_path / "x.csv", HEADER, line(0), line(1, b"")))
    assert (column(flows, "source_row"), rejected) == ([0, 1], [])
    flows, rejected = read(write(tmp_path / "x.csv", HEADER, line(0), line(1, b"")[:20]))
    assert (column(flows, "source_row"), column(rejected, "source_row")) == ([0], [1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(
        st.sampled_from(["good", "quoted", "short", "quote", "port", "bytes", "cr", "blank", "utf8"]), max_size=25
    ),
    block=st.integers(1, 400),
    crlf=st.booleans(),
)
def test_rows_are_exact_whatever_is_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: list[str], block: int, crlf: bool
) -> None:
    end, good, bad, text = (b"\r\n" if crlf else b"\n"), [], {}, HEADER
    row = 0
    for kind in kinds:
        sound = line(row, b"")
        record = {
            "good": sound,
            "quoted": sound.replace(b"10.0.0.2", b'"10.0.0.2"'),
            "short": b"a,b",
            "quote": sound.replace(b"10.0.0.2", b'"10.0.0.2'),
            "port": sound.replace(b",80,", b",eighty,"),
            "bytes": sound.replace(b",60", b",6 0"),
            "cr": b"\r" + sound,
            "blank": b"",
            "utf8": sound.replace(b"tcp", b"\xc3"),
        }[kind]
        text += record + end
        if kind in ("good", "quoted"):
            good.append(row)
        elif kind != "blank":
            bad[row] = record
        row += kind != "blank"
    monkeypatch.setattr(text_files, "BLOCK_BYTES", max(block, 60))  # no line is longer than a block
    monkeypatch.setattr(text_files, "_CHUNK_BYTES", block)
    flows, rejected = read(write(tmp_path / "x.csv", text) + "?order=source")
    assert column(flows, "source_row") == good
    assert column(flows, "src_port") == good
    assert {one["source_row"]: one["raw"] for one in rejected} == bad


# -- JSON lines


def test_json_lines_that_do_not_parse_are_rejected_with_their_bytes(tmp_path: Path) -> None:
    good = json.dumps(NPROBE).encode()
    bad = [b'{"IPV4_SRC_ADDR": ', b"[1, 2]", b"null", good + good, b'{"IPV4_SRC_ADDR": "10.0.0.1"}', b'{"a": "\xff"}']
    url = write(tmp_path / "x.json", b"\n".join([good, *bad, b"", good]))
    flows, rejected = read(url)
    assert column(flows, "source_row") == [0, 7]
    assert column(rejected, "raw") == bad
    assert column(rejected, "source_row") == [1, 2, 3, 4, 5, 6]
    assert column(rejected, "reason") == ["no JSON object"] * 4 + ["column `ipv4_dst_addr` is no address", "not UTF-8"]
    assert (flows[0]["proto"], flows[0]["bytes"], flows[0]["packets"]) == (6, 280, 2)


def test_json_without_one_readable_line_is_bad_records_once_its_dialect_is_said(tmp_path: Path) -> None:
    url = write(tmp_path / "x.json", b'{"IPV4_SRC\n')
    flows, rejected = read(f"{url}?dialect=nprobe")
    assert (flows, column(rejected, "raw")) == ([], [b'{"IPV4_SRC'])
    with pytest.raises(ConfigError, match="do not say"):
        open_file(url)


def test_json_values_mean_the_same_as_text_and_as_numbers(tmp_path: Path) -> None:
    lines = [
        json.dumps(NPROBE | {"L7_PROTO": 7.0, "MIN_TTL": 64}),
        json.dumps(NPROBE | {"L7_PROTO": 5.126, "MIN_TTL": 32}),
    ]
    typed, _ = read(write(tmp_path / "x.json", "\n".join(lines).encode()))
    mixed, rejected = read(write(tmp_path / "y.json", "\n".join([*lines, "{"]).encode()))
    assert column(typed, "app") == ["7", "5.126"]
    assert (mixed, len(rejected)) == (typed, 1)
    odd = json.dumps({key: str(value) for key, value in NPROBE.items()})
    flows, _ = read(write(tmp_path / "z.json", json.dumps(NPROBE).encode(), b"\n", odd.encode()))
    assert flows[0] | {"source_row": 1} == flows[1]


def test_one_object_over_two_lines_is_two_bad_records(tmp_path: Path) -> None:
    text = json.dumps(NPROBE)
    flows, rejected = read(write(tmp_path / "x.json", (text + "\n" + text.replace(", ", ",\n", 1) + "\n").encode()))
    assert (column(flows, "source_row"), column(rejected, "source_row")) == ([0], [1, 2])


def test_numeric_nprobe_keys_are_named_in_the_error(tmp_path: Path) -> None:
    url = write(tmp_path / "x.json", b'{"8": "10.0.0.1", "12": "10.0.0.2"}\n')
    with pytest.raises(ConfigError, match=r"x\.json.*lacks column ipv4_src_addr or ipv6_src_addr.*8, 12"):
        open_file(f"{url}?dialect=nprobe")


# -- broken files


def test_a_cut_gzip_gives_every_whole_line_before_the_cut(tmp_path: Path) -> None:
    text = HEADER + b"".join(
        b"%d,0.%d,10.0.%d.1,%d,10.0.0.2,80,tcp,%d\n" % (i, i * 7919 % 997, i % 251, i, i * 31) for i in range(5000)
    )
    packed = gzip.compress(text)
    whole, _ = read(write(tmp_path / "whole.csv.gz", packed))
    flows, rejected = read(write(tmp_path / "cut.csv.gz", packed[: len(packed) // 2]))
    assert len(whole) == 5000
    assert 1000 < len(flows) < 4000
    assert flows == whole[: len(flows)]
    (last,) = rejected
    assert (last["reason"], last["source_row"]) == ("the gzip stream is cut off", len(flows))
    assert text.split(b"\n")[1 + len(flows)].startswith(last["raw"])


def test_a_damaged_gzip_gives_what_comes_before_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(HEADER + line(0) + line(1)))
    packed[-8] ^= 1  # the checksum
    flows, rejected = read(write(tmp_path / "x.csv.gz", bytes(packed)))
    assert column(flows, "source_row") == [0, 1]
    assert rejected[0]["reason"].startswith("the gzip stream is damaged")


def test_a_gzip_of_several_members_is_one_text(tmp_path: Path) -> None:
    url = write(tmp_path / "x.csv.gz", gzip.compress(HEADER + line(0)[:9]), gzip.compress(line(0)[9:] + line(1)))
    assert column(read(url)[0], "source_row") == [0, 1]


def test_a_gzip_cut_within_its_header_line_is_one_bad_record(tmp_path: Path) -> None:
    flows, rejected = read(write(tmp_path / "x.csv.gz", gzip.compress(HEADER)[:14]))
    assert flows == []
    assert [(row["reason"], row["source_row"]) for row in rejected] == [("the gzip stream is cut off", 0)]


def test_a_cut_parquet_file_is_one_bad_record_and_the_others_go_on(tmp_path: Path) -> None:
    table = pa.table({"ts": [1.0, 2.0], "src": ["a", "b"], "dst": ["c", "d"]})
    pq.write_table(table, tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    flows, rejected = read(f"file://{tmp_path}/*.parquet")
    assert column(flows, "source_row") == [1, 2]
    assert [(row["origin"], row["source_row"], row["raw"]) for row in rejected] == [
        ("a.parquet", 0, whole[: len(whole) // 2])
    ]
    assert rejected[0]["reason"].startswith("not a whole Parquet file")
    (batch,) = open_file(f"file://{tmp_path}/a.parquet")
    assert (len(batch), batch.rejected.num_rows) == (0, 1)


def test_a_damaged_row_group_counts_as_all_its_rows(tmp_path: Path) -> None:
    table = pa.table({"ts": [1.0, 2.0, 3.0, 4.0], "src": list("abcd"), "dst": list("efgh")})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2, use_dictionary=False, compression="NONE")
    start = pq.read_metadata(tmp_path / "x.parquet").row_group(0).column(0).data_page_offset
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    content[start : start + 8] = b"\xff" * 8
    flows, rejected = read(write(tmp_path / "x.parquet", bytes(content)))
    assert column(flows, "source_row") == [2, 3]
    assert [row["source_row"] for row in rejected] == [0]
    assert rejected[0]["reason"].startswith("2 rows of row group 0 cannot be read")


def test_parquet_types_of_every_kind_mean_the_same(tmp_path: Path) -> None:
    time = datetime(2024, 1, 1, tzinfo=UTC)
    stamps = [pa.array([time], pa.timestamp(unit, zone)) for unit in ("s", "ns") for zone in (None, "Asia/Tokyo")]
    texts = [pa.array(["10.0.0.1"], kind) for kind in (pa.utf8(), pa.large_utf8(), pa.dictionary(pa.int8(), pa.utf8()))]
    protos = [pa.array([6], pa.int64()), pa.array([6.0]), pa.array(["tcp"]), pa.array([6], pa.uint8())]
    for number, stamp in enumerate(stamps):
        columns = {"ts": stamp, "src": texts[number % 3], "dst": texts[(number + 1) % 3], "proto": protos[number]}
        pq.write_table(
            pa.table(columns | {"sport": pa.array([53.0 if number else None])}), tmp_path / f"{number}.parquet"
        )
    flows, rejected = read(f"file://{tmp_path}")
    assert rejected == []
    assert column(flows, "ts_end") == [time] * 4
    assert [(row["src_addr"], row["dst_addr"], row["proto"]) for row in flows] == [("10.0.0.1", "10.0.0.1", 6)] * 4
    assert column(flows, "src_port") == [None, 53, 53, 53]


def test_a_parquet_row_without_a_host_is_rejected_as_json(tmp_path: Path) -> None:
    pq.write_table(pa.table({"ts": [1.0, 2.0], "src": ["a", None], "dst": ["b", "c"]}), tmp_path / "x.parquet")
    flows, rejected = read(f"file://{tmp_path}/x.parquet")
    assert column(flows, "source_row") == [0]
    assert json.loads(rejected[0]["raw"]) == {"ts": 2.0, "src": None, "dst": "c"}


def test_a_parquet_row_with_a_time_that_no_calendar_has_is_rejected_as_json_too(tmp_path: Path) -> None:
    times = pa.array([1_000_000, 2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"ts": times, "src": ["a", "b"], "dst": ["b", "c"]}), tmp_path / "x.parquet")
    flows, rejected = read(f"file://{tmp_path}/x.parquet")
    assert column(flows, "source_row") == [0]
    assert json.loads(rejected[0]["raw"]) == {"ts": "4611686018427387904", "src": "b", "dst": "c"}


# -- which files, which columns


def test_our_own_output_is_read_without_a_dialect_and_without_its_neighbours(tmp_path: Path) -> None:
    time = pa.array([2_000_000, 1_000_000], pa.timestamp("us", "UTC"))
    own = flow_table(
        {"ts_end": time, "src_addr": ["a", "b"], "dst_addr": ["b", "a"], "site": ["x", "y"], "source_row": [7, 8]}, 2
    )
    (tmp_path / "flows").mkdir()
    pq.write_table(own.append_column("p_gae", pa.array([0.5, 0.1], pa.float32())), tmp_path / "flows" / "w.parquet")
    write(tmp_path / "alerts.jsonl", b'{"id": "x"}\n')
    flows, rejected = read(f"file://{tmp_path}")
    assert (column(flows, "site"), column(flows, "source_row"), rejected) == (["y", "x"], [1, 0], [])


def test_a_plain_path_and_a_relative_url_are_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "x y.csv", HEADER, line(0))
    monkeypatch.chdir(tmp_path)
    for url in (
        "file://x y.csv",
        "file://x%20y.csv",
        "file://./x y.csv?dialect=normalized",
        "x y.csv",
        f"{tmp_path}/x y.csv",
    ):
        assert [len(batch) for batch in open_source(url)] == [1]


def test_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x.csv")) == ([], [])
    assert read(write(tmp_path / "x.csv", HEADER)) == ([], [])
    flows, rejected = read(write(tmp_path / "x.parquet"))
    assert (flows, column(rejected, "raw")) == ([], [b""])


def test_tabs_and_headerless_unsw_files_are_recognised(tmp_path: Path) -> None:
    url = write(
        tmp_path / "x.binetflow", b"StartTime\tProto\tSrcAddr\tDstAddr\n2011/08/10 09:46:53\ttcp\t10.0.0.1\t10.0.0.2\n"
    )
    assert column(read(url)[0], "ts_end") == [datetime(2011, 8, 10, 9, 46, 53, tzinfo=UTC)]
    record = ["59.166.0.0", "1390", "149.171.126.6", "53", "udp", "CON", "0.001055", "132", "164", *["0"] * 4, "dns"]
    record += ["0"] * 2 + ["2", "2"] + ["0"] * 10 + ["1421927414", "1421927415"] + ["0"] * 17 + ["", "0"]
    flows, rejected = read(write(tmp_path / "u.csv", ",".join(record).encode()) + "?dialect=unsw")
    assert rejected == []
    assert (flows[0]["app"], flows[0]["packets"], flows[0]["label"]) == ("dns", 2, "benign")
    assert flows[0]["ts_end"] == datetime(2015, 1, 22, 11, 50, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?dialect=zeke", "unknown dialect `zeke`; known are argus"),
        ("?speed=2", "unknown option `speed`.*dialect, order, batch, site"),
        ("?order=size", "order=size.*time or source"),
        ("?batch=0", "batch=0"),
        ("?batch=many", "batch=many"),
        ("?dialect", "options in"),
        ("?dialect=argus", r"`x\.csv` lacks column starttime, srcaddr, dstaddr"),
        ("?site=capture", r"`x\.csv` lacks column capture"),
        ("", ""),
    ],
)
def test_a_wrong_url_says_what_is_wrong(tmp_path: Path, query: str, told: str) -> None:
    url = write(tmp_path / "x.csv", HEADER, line(0))
    if told:
        with pytest.raises(ConfigError, match=told):
            open_file(url + query)
    else:
        assert len(read(url)[0]) == 1


def test_a_wrong_file_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file at .*nowhere\.csv"):
        open_file(f"file://{tmp_path}/nowhere.csv")
    with pytest.raises(ConfigError, match="names no file"):
        open_file("file://")
    with pytest.raises(ConfigError, match=r"no \.parquet file and none of"):
        open_file(f"file://{tmp_path}")
    with pytest.raises(ConfigError, match=r"columns of `y\.csv` \(a, b\) do not say.*argus, eddyline"):
        open_file(write(tmp_path / "y.csv", b"a,b\n1,2\n"))
    with pytest.raises(ConfigError, match=r"has twice column src"):
        open_file(write(tmp_path / "z.csv", b"src,dst,SRC\n1,2,3\n"))


# -- the real files


def batches(path: Path, query: str = "") -> list[FlowBatch]:
    return list(open_file(f"file://{path}{query}"))


REAL = sorted([*SHARED.glob("flows/*.parquet"), *SHARED.glob("protocols/*/*.parquet")])


@needs_shared
@pytest.mark.parametrize("path", REAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_real_file_keeps_all_its_rows(path: Path) -> None:
    read_batches = batches(path)
    flows = pa.concat_tables([batch.table for batch in read_batches])
    assert flows.num_rows == pq.read_metadata(path).num_rows
    assert all(batch.rejected.schema == REJECTED_SCHEMA and not batch.rejected.num_rows for batch in read_batches)
    ends = flows["ts_end"].cast(pa.int64()).to_numpy()
    assert (ends[1:] >= ends[:-1]).all()
    assert pc.count_distinct(flows["source_row"]).as_py() == flows.num_rows
    source = pq.read_table(path)
    wanted = source["attack"] if source["attack"].type == pa.bool_() else pc.equal(source["label"], 1)
    assert pc.sum(pc.equal(flows["label"].cast(pa.utf8()), "malicious")).as_py() == pc.sum(wanted).as_py()


@needs_shared
def test_the_text_records_are_read_as_by_hand() -> None:
    rows = pa.concat_tables([batch.table for batch in batches(SHARED / "records" / "nf_bot_iot_v2_20k.csv.gz")])
    assert rows.num_rows == 20_000
    first = rows.slice(0, 1).to_pylist()[0]
    assert (first["src_addr"], first["src_port"], first["dst_addr"], first["dst_port"], first["proto"]) == (
        "192.168.100.149", 43600, "192.168.100.6", 80, 6,
    )  # fmt: skip
    assert (first["bytes"], first["packets"], first["rev_bytes"], first["rev_packets"]) == (280, 2, 40, 1)
    assert (first["tcp_flags"], first["rev_tcp_flags"], first["app"], first["attack"]) == (2, 20, "7", "DoS")
    assert (first["probe.tcp_win_max_in"], first["duration_us"], first["ts_end"]) == (512, 4_293_498_000, None)
    assert pc.sum(pc.equal(rows["label"].cast(pa.utf8()), "benign")).as_py() == 95

    rows = pa.concat_tables([batch.table for batch in batches(SHARED / "records" / "unsw_nb15_head3500.csv")])
    assert rows.num_rows == 3_500
    first = rows.filter(pc.equal(rows["source_row"], 0)).to_pylist()[0]
    assert (first["src_addr"], first["src_port"], first["dst_addr"], first["dst_port"], first["proto"]) == (
        "59.166.0.0", 1390, "149.171.126.6", 53, 17,
    )  # fmt: skip
    assert (first["ts_end"], first["app"]) == (datetime(2015, 1, 22, 11, 50, 14, 1055, UTC), "dns")

    found = batches(SHARED / "records" / "ctu_test5-mixed.binetflow", "?order=source")
    flows, rejected = (pa.concat_tables([getattr(batch, name) for batch in found]) for name in ("table", "rejected"))
    assert (flows.num_rows, rejected["reason"].to_pylist()) == (299, ["argus management record, no flow"])
    assert flows["source_row"].to_pylist() == list(range(1, 300))
    assert pc.sum(pc.equal(flows["label"].cast(pa.utf8()), "malicious")).as_py() == 277


@needs_shared
def test_a_parquet_set_written_as_quoted_csv_gives_the_same_flows(tmp_path: Path) -> None:
    path = SHARED / "flows" / "m57_2009-11-18_benign.parquet"
    arrow_csv.write_csv(pq.read_table(path), tmp_path / "x.csv")
    (one,), (two,) = batches(path), batches(tmp_path / "x.csv")
    assert one.table.to_pylist() == two.table.to_pylist()


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("ts", pa.array([1], pa.time64("us"))),
        ("sport", pa.array([b"ab"], pa.binary(2))),
        ("sbytes", pa.array([b"a"]).dictionary_encode()),
        ("src", pa.array([["10.0.0.1"]])),
        ("label", pa.array([{"a": 1}])),
    ],
    ids=["time", "fixed_size_binary", "dictionary_of_binary", "list", "struct"],
)
def test_a_column_of_a_type_that_no_flow_has_is_a_wrong_configuration(
    tmp_path: Path, name: str, column: pa.Array
) -> None:
    columns = {"src": pa.array(["10.0.0.1"]), "dst": pa.array(["10.0.0.2"]), name: column}
    pq.write_table(pa.table(columns), tmp_path / "odd.parquet")
    with pytest.raises(ConfigError, match=f"column `{name}` is .*; give it as text, number or timestamp"):
        list(open_file(f"file://{tmp_path}/odd.parquet?dialect=normalized"))
