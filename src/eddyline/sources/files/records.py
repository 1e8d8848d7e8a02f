"""One file to pieces of raw columns: Parquet, CSV, JSON lines or Zeek's own text, told apart by their first bytes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.errors import SourceError
from eddyline.sources.files.json import json_piece, json_record
from eddyline.sources.files.text import (
    BLOCK_BYTES,
    BOM,
    RAW_BYTES,
    Piece,
    Wanted,
    csv_pieces,
    read_blocks,
    rejected_whole,
)
from eddyline.sources.files.zeek import MARK, ZeekHeader, zeek_pieces

PARQUET_ROWS: Final = 1 << 18  # at a time
_HEAD_BYTES: Final = 1 << 16
_DELIMITERS: Final = ",\t;|"


@dataclass(frozen=True, slots=True)
class Head:
    """What the first bytes of a file say.

    Args:
        path: the file.
        kind: "parquet", "csv", "json", "zeek" (values under lines of #), or "empty".
        names: its columns, lower case and stripped; of a text file without header line, the first record.
        delimiter: between the fields of a CSV file.
        fault: why nothing of it can be read, else "".
    """

    path: Path
    kind: str
    names: tuple[str, ...] = ()
    delimiter: str = ","
    fault: str = ""


def inspect_file(path: Path) -> Head:
    """Look at the beginning of a file; raises SourceError if it cannot be opened."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
        if magic == b"PAR1" or path.suffix == ".parquet":
            return _parquet_head(path)
        return _text_head(path)
    except OSError as error:
        raise SourceError(f"file source: cannot read `{path}`: {error.strerror}") from error


def read_pieces(head: Head, wanted: Wanted) -> Iterator[Piece]:
    """All records of a file, in order.

    What cannot be read as rows (a Parquet file without its footer) is one rejected record with the first bytes of the
    file; a row group that cannot be read is one, too, and counts as all its rows.

    Raises:
        SourceError: the file can no longer be read at all (gone, not permitted, a failing disk).
    """
    try:
        if head.fault:
            with head.path.open("rb") as stream:
                yield rejected_whole(head.fault, stream.read(RAW_BYTES))
        elif head.kind == "parquet":
            yield from _parquet_pieces(head, wanted)
        elif head.kind == "json":
            for block, fault in read_blocks(head.path, BLOCK_BYTES):
                yield rejected_whole(fault, block) if fault else json_piece(block, wanted)
        elif head.kind == "zeek":
            yield from zeek_pieces(head.path, wanted, head.names)
        elif head.kind == "csv":
            yield from csv_pieces(head.path, wanted, head.names, head.delimiter)
    except OSError as error:
        raise SourceError(f"file source: cannot read `{head.path}`: {error.strerror or error}") from error


def _parquet_head(path: Path) -> Head:
    try:
        with path.open("rb") as stream:
            names = pq.read_schema(stream).names
    except (pa.ArrowInvalid, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        return Head(path, "parquet", fault=f"not a whole Parquet file: {str(error).splitlines()[0]}")
    return Head(path, "parquet", tuple(name.strip().lower() for name in names))


def _parquet_pieces(head: Head, wanted: Wanted) -> Iterator[Piece]:
    with head.path.open("rb") as stream:
        schema = pq.read_schema(stream)
        actual = schema.names
        text = [
            field.name
            for field, known in zip(schema, head.names, strict=True)
            if known in wanted.text and not pa.types.is_nested(field.type)
        ]
        file = pq.ParquetFile(stream, read_dictionary=text)
        columns = (
            None if wanted.names is None else [n for n, k in zip(actual, head.names, strict=True) if k in wanted.names]
        )
        for group in range(file.num_row_groups):
            about, done = file.metadata.row_group(group), 0
            try:
                for batch in file.iter_batches(PARQUET_ROWS, row_groups=[group], columns=columns):
                    done += batch.num_rows
                    yield _typed(pa.Table.from_batches([batch]))
            except (pa.ArrowInvalid, OSError) as error:
                if getattr(error, "errno", None) is not None:
                    raise
                stream.seek(about.column(0).data_page_offset)
                rows = about.num_rows - done
                reason = f"{rows} rows of row group {group} cannot be read: {str(error).splitlines()[0]}"
                yield rejected_whole(reason, stream.read(RAW_BYTES), rows)


def _typed(table: pa.Table) -> Piece:
    """A row has no bytes of its own: as JSON it is at least readable."""

    def line(row: int) -> bytes:
        values = {name: _python(column[row]) for name, column in zip(table.column_names, table.columns, strict=True)}
        return json.dumps(values, default=str).encode()[:RAW_BYTES]

    names = [name.strip().lower() for name in table.column_names]
    return Piece(table.rename_columns(names), np.arange(table.num_rows), table.num_rows, line)


def _python(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except (ValueError, OverflowError):  # a time that no calendar has, say: its number
        return str(getattr(value, "value", value.type))


def _text_head(path: Path) -> Head:
    block, fault = next(read_blocks(path, _HEAD_BYTES), (b"", ""))
    lines = [line for line in block.removeprefix(BOM).splitlines() if line.strip()]
    if fault or not lines:
        return Head(path, "csv" if fault else "empty", fault=fault)
    if lines[0].lstrip().startswith((b"{", b"[")):
        records = [record for record in map(json_record, lines) if record is not None]
        return Head(path, "json", tuple({key.strip().lower(): None for record in records for key in record}))
    if lines[0].lstrip().startswith(MARK):
        header = ZeekHeader().after([line for line in (lines[0].lstrip(), *lines[1:]) if line.startswith(b"#")])
        return Head(path, "zeek", header.names, header.delimiter)
    first = lines[0].decode(errors="replace")
    delimiter = max(_DELIMITERS, key=first.count)
    names = next(csv.reader([first], delimiter=delimiter))
    return Head(path, "csv", tuple(name.strip().lower() for name in names), delimiter)
