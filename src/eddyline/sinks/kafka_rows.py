"""Flows as values of Kafka records, Arrow IPC streams that stand alone or a JSON object each; and bad records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa

from eddyline.combine import ScoredFlows

MOST_BYTES: Final = 900_000  # of a value; brokers take 1,048,588 with everything around it by default
_ORIGIN: Final = re.compile(r"(?P<topic>[^/#]+)/(?P<partition>\d+)(?:#\d+)?")
_ROWS: Final = 8_192  # of a value to begin with, about half of that


def arrow_values(scored: ScoredFlows) -> Iterator[tuple[int, int, bytes]]:
    """(first row, rows, bytes) of the window in pieces, Scored output v1, each with the dictionaries that it needs."""
    return table_values(scored.table())


def table_values(table: pa.Table) -> Iterator[tuple[int, int, bytes]]:
    """(first row, rows, bytes) of a table, in order, none longer than MOST_BYTES unless a single row is."""
    for first in range(0, table.num_rows, _ROWS):
        yield from _pieces(table.slice(first, _ROWS), first)


def _pieces(table: pa.Table, first: int) -> Iterator[tuple[int, int, bytes]]:
    value = arrow_stream(table)
    if len(value) <= MOST_BYTES or table.num_rows == 1:
        yield first, table.num_rows, value
        return
    half = table.num_rows // 2
    yield from _pieces(table.slice(0, half), first)
    yield from _pieces(table.slice(half), first + half)


def arrow_stream(table: pa.Table) -> bytes:
    """Make one Arrow IPC stream of a table, its dictionaries cut down to what occurs."""
    own = {
        name: table[name].combine_chunks()
        for name, column in zip(table.column_names, table.columns, strict=True)
        if pa.types.is_dictionary(column.type)
    }
    for name, column in own.items():
        whole = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
        fresh = whole.unify_dictionaries().combine_chunks()
        narrow = _only_used(fresh.chunk(0) if isinstance(fresh, pa.ChunkedArray) else fresh)
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), narrow)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _only_used(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """The same values with a dictionary of those that occur: a window's may hold every host there is."""
    codes = column.indices.to_numpy(zero_copy_only=False) if not column.indices.null_count else None
    if codes is None:
        return column.cast(column.type.value_type).dictionary_encode()
    used, narrow = np.unique(codes, return_inverse=True)
    return pa.DictionaryArray.from_arrays(pa.array(narrow.astype(np.int32)), column.dictionary.take(pa.array(used)))


def json_values(scored: ScoredFlows) -> Iterator[tuple[int, int, bytes]]:
    """The slow path: (row, 1, bytes) for every flow; times as ISO text in UTC, bytes (`head`) as hexadecimal digits."""
    table = scored.table()
    names = [name for name in table.column_names if table[name].null_count < table.num_rows]
    columns = [_plain(table[name]) for name in names]
    for row, values in enumerate(zip(*columns, strict=True)):
        found = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        yield row, 1, json.dumps(found, allow_nan=False, separators=(",", ":")).encode()


def _plain(column: pa.ChunkedArray) -> list[object]:
    if pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us")).to_numpy()
        return [None if np.isnat(time) else f"{time}Z" for time in times]
    if pa.types.is_binary(column.type):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if pa.types.is_floating(column.type):
        return [None if value is None or not np.isfinite(value) else value for value in column.to_pylist()]
    values: list[object] = column.to_pylist()
    return values


def dead_letters(rejected: pa.Table) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    """(key, value, headers) of records that could not be read, as they came; too long a one is cut and says so."""
    for record in rejected.to_pylist():
        raw, place = record["raw"], _ORIGIN.fullmatch(record["origin"])
        known = place.groupdict() if place else {"origin": record["origin"]}
        if record["source_row"] is not None:
            known["offset" if place else "source_row"] = str(record["source_row"])
        if len(raw) > MOST_BYTES:
            known["cut_from_bytes"] = str(len(raw))
        headers = [("reason", record["reason"].encode(errors="replace")[:4096])]
        headers += [(name, text.encode(errors="replace")) for name, text in known.items()]
        yield record["origin"].encode(), raw[:MOST_BYTES], headers
