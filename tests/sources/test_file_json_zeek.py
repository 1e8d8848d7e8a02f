"""Nested JSON lines and Zeek's own text: what is read does not depend on the neighbours, and no bytes raise."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.sources.files.json import json_piece
from eddyline.sources.files.source import open_file
from eddyline.sources.files.text import Piece, Wanted
from eddyline.sources.files.zeek import zeek_pieces

WANTED = Wanted(frozenset(["a", "flags", "flow.start", "flow.n", "at"]), frozenset())
WORDS = st.sampled_from(["ACK", "SYN", 'A"CK', "A\\CK", "é", "", "x y"])
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(st.none(), st.integers(-(2**70), 2**70), st.text(max_size=3), st.floats(allow_nan=False)),
        "flags": st.one_of(st.none(), st.lists(WORDS, max_size=3), st.integers(0, 255), st.just("27")),
        "flow": st.one_of(
            st.none(),
            st.fixed_dictionaries({}, optional={"start": st.text(max_size=3), "n": st.integers(-(2**65), 2**65)}),
        ),
        "at": st.sampled_from(["2026-10-25 02:30:00", "2026-10-25T02:30:00Z", "2026-10-25", "x"]),
    },
)


def texts(piece: Piece) -> list[dict[str, str]]:
    """What stands in each row as text, numbers by value; nulls left out."""
    return [{name: plain(value) for name, value in row.items() if value is not None} for row in piece.table.to_pylist()]


def plain(value: Any) -> str:
    try:
        return repr(float(value))
    except ValueError:
        return str(value)


@settings(deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_a_json_record_means_the_same_alone_and_in_company(records: list[dict[str, Any]]) -> None:
    lines = [(json.dumps(record) + "\n").encode() for record in records]
    together = texts(json_piece(b"".join(lines), WANTED))
    assert together == [row for line in lines for row in texts(json_piece(line, WANTED))]


def test_members_of_an_inner_object_are_columns_with_a_point_and_deeper_ones_are_text() -> None:
    line = b'{"a": 1, "flow": {"Start": "x", "n": 7, "deep": {"er": 1}}, "flags": ["ACK", "SYN"]}\n'
    (row,) = json_piece(line, WANTED).table.to_pylist()
    assert row == {"a": 1, "flow.start": "x", "flow.n": 7, "flags": '["ACK", "SYN"]'}
    (row,) = json_piece(line + b"{\n", Wanted(None, frozenset())).table.to_pylist()
    assert row["flow.deep"] == '{"er": 1}'


def test_a_block_without_any_known_column_is_bad_records_and_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"src": "a", "dst": "b"}\n' + f'{{"other": "{"x" * (8 << 20)}"}}\n')
    source = open_file(f"file://{path}?dialect=normalized&order=source")
    batches = list(source)
    assert [(len(batch), batch.rejected.num_rows) for batch in batches] == [(1, 0), (0, 1)]


HEADER = b"#separator \\x09\n#fields\tts\ta\n"
LINES = st.one_of(
    st.sampled_from([b"1\tx", b"#fields\ta\tts", b"#fields\tts", b"#fields\tts\tts\ta", b"#separator \\x2c", b"#fields",
                     b"#separator \\x80", b"1,2", b"", b"\t", b"\x00\t\xff"]),
    st.binary(max_size=12).filter(lambda line: b"\n" not in line),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=12))
def test_no_bytes_in_a_zeek_log_raise_and_every_line_is_read_or_rejected_once(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "conn.log")
        path.write_bytes(HEADER + b"\n".join(lines) + b"\n")
        pieces = list(zeek_pieces(path, Wanted(frozenset(["ts", "a"]), frozenset()), ("ts", "a")))
    records = [line for line in lines if line.strip(b"\r") and not line.startswith(b"#")]
    assert sum(piece.total for piece in pieces) == len(records)
    for piece in pieces:
        assert piece.table.num_rows == len(piece.rows)
        told = sorted([*piece.rows.tolist(), *(row for row, _, _ in piece.rejected)])
        assert told == list(range(piece.total)) or len(piece.rejected) == 1 == len(told)
