"""JSON lines to raw columns, a block of whole lines at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as arrow_json

from eddyline.sources.files.text import Lines, Piece, Wanted, is_odd

_EXACT: Final = 2.0**53


def json_piece(block: bytes, wanted: Wanted) -> Piece:
    """One object a line, members of an object within it as "outer.inner"; an array is its JSON text.

    Values of the fast path have the types that Arrow finds, else all are text.
    """
    lines = Lines(block)
    if not is_odd(block) and _is_one_object_a_line(block, len(lines.rows)):
        table = _parsed_json(block, wanted)
        if table is not None and table.num_rows == len(lines.rows):
            return Piece(table, lines.rows, lines.total, lines.line)
    lines.sift(lambda line: "" if json_record(line) is not None else "no JSON object")
    records = [json_record(line) or {} for line in lines.clean.splitlines()]
    names = wanted.among(dict.fromkeys(name for record in records for name in record))
    columns = {name: pa.array([record.get(name) for record in records], pa.utf8()) for name in names}
    table = pa.table(columns or {"": pa.nulls(len(records), pa.utf8())})  # a table without columns has no rows
    return Piece(table, lines.rows, lines.total, lines.line, lines.rejected)


def json_record(line: bytes) -> dict[str, str | None] | None:
    """The object in `line` with lower-case names and its values as text; None if there is none."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            return None
        texts = {name.strip().lower(): _json_text(value) for name, value in _members(record)}
        "".join(text or "" for text in texts.values()).encode()  # lone surrogates are no text
    except (ValueError, RecursionError):
        return None
    return texts


def _members(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", found) for inner, found in value.items())
        else:
            yield name, value


def _json_text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _parsed_json(block: bytes, wanted: Wanted) -> pa.Table | None:
    try:
        table = arrow_json.read_json(
            pa.py_buffer(block), arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        ).flatten()
    except pa.ArrowInvalid:
        return None
    names = [name.strip().lower() for name in table.column_names]
    chosen = {name: at for at, name in enumerate(names) if wanted.names is None or name in wanted.names}
    if len(set(names)) < len(names):
        return None
    columns = {name: _typed(table.column(at)) for name, at in chosen.items()}
    return None if any(column is None for column in columns.values()) else pa.table(columns)


def _typed(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """The column, arrays of plain words as JSON text; None for what only the slow path reads as it should."""
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        return _word_lists(column)
    if pa.types.is_floating(column.type) and pc.any(pc.greater_equal(pc.abs(column), _EXACT)).as_py():
        return None  # a whole number beyond int64 has made all of them floats, which keep 53 bits
    lost = pa.types.is_nested(column.type) or pa.types.is_timestamp(column.type)  # whether a time named its zone
    return None if lost else column


def _word_lists(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Arrays of words as `json.dumps` writes them; None where one of them would need escapes."""
    words = pc.list_flatten(column)
    if words.null_count or pc.all(pc.match_substring_regex(words, "^[A-Za-z0-9 _.-]*$")).as_py() is False:
        return None
    inside = pc.binary_join(column, '", "')
    full = pc.binary_join_element_wise('["', inside, '"]', "")
    return pc.if_else(pc.equal(pc.list_value_length(column), 0), "[]", full)


def _is_one_object_a_line(block: bytes, lines: int) -> bool:
    """Every line begins with { and ends with }: then as many objects as lines means one in each."""
    ends = block.count(b"}\n") + block.count(b"}\r\n") + block.endswith((b"}", b"}\r"))
    return block.startswith(b"{") and block.count(b"\n{") + 1 == lines == ends
