"""Text files to raw columns, a block of whole lines at a time, plain or gzip; and CSV (JSON lines: `json`).

One record is one line; blank lines are not records. Quotes follow RFC 4180 but for line breaks inside them, so an
unclosed quote costs one line. The fast path takes a block as a whole; a block with anything odd in it is looked at
line by line, with the same result: what is accepted does not depend on the neighbours.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from eddyline.errors import SourceError
from eddyline.flows import TEXT

RAW_BYTES: Final = 1 << 16  # at most so much of a rejected record is kept
BLOCK_BYTES: Final = 8 << 20  # of text at a time; a longer line counts as several
BOM: Final = b"\xef\xbb\xbf"
_CHUNK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which columns to read, by lower-case name.

    Args:
        names: None for all.
        text: those with few distinct values, read dictionary-encoded where the format can.
        header: names for a CSV file without header line, else ().
    """

    names: frozenset[str] | None
    text: frozenset[str]
    header: tuple[str, ...] = ()

    def among(self, names: Collection[str]) -> list[str]:
        """Those of `names` that are wanted."""
        return [name for name in names if self.names is None or name in self.names]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some consecutive records of a file.

    Args:
        table: raw columns of the E records that have the right shape.
        rows: (E,) which record of the piece each is, from 0.
        total: records in the piece, good and bad.
        lines: the records as they came, by number.
        rejected: (record, reason, bytes) of the others.
    """

    table: pa.Table
    rows: NDArray[np.int64]
    total: int
    lines: Callable[[int], bytes]
    rejected: list[tuple[int, str, bytes]] = field(default_factory=list)


def rejected_whole(reason: str, raw: bytes, total: int = 1) -> Piece:
    """One rejected record for `total` that cannot be told apart."""
    return Piece(pa.table({}), np.zeros(0, np.int64), total, lambda _: b"", [(0, reason, raw[:RAW_BYTES])])


def csv_pieces(path: Path, wanted: Wanted, names: tuple[str, ...], delimiter: str) -> Iterator[Piece]:
    """The records of a CSV file; its first line is the header `names`, unless `wanted.header` stands in for one."""
    sound = sound_line(delimiter.encode())
    first = True
    for block, fault in read_blocks(path, BLOCK_BYTES):
        if first:
            block, first = block.removeprefix(BOM).lstrip(b"\r\n"), False
            if not wanted.header:
                block = block.partition(b"\n")[2]
        if fault:
            yield rejected_whole(fault, block)
        elif block:
            yield csv_piece(block, wanted, wanted.header or names, delimiter, sound)


def csv_piece(block: bytes, wanted: Wanted, names: tuple[str, ...], delimiter: str, sound: re.Pattern[bytes]) -> Piece:
    """The records of whole lines without a header."""
    sifted = Lines(block)
    if is_odd(block) or (b'"' in block and not sifted.all_match(sound)):
        sifted.sift(lambda line: "" if sound.fullmatch(line) else "misplaced quote")
    misfits: list[int] = []
    total = len(sifted.rows)
    table = _parsed_csv(sifted.clean, wanted, names, delimiter, misfits)
    if table.num_rows + len(misfits) != total:
        raise SourceError(f"file source: {total} lines of CSV gave {table.num_rows + len(misfits)} rows")
    for row in sifted.rows[misfits].tolist():
        line = sifted.line(row)
        sifted.rejected.append((row, f"not {len(names)} fields", line))
    return Piece(table, np.delete(sifted.rows, misfits), sifted.total, sifted.line, sifted.rejected)


def _parsed_csv(block: bytes, wanted: Wanted, names: tuple[str, ...], delimiter: str, misfits: list[int]) -> pa.Table:
    """All columns as text; lines with another number of fields are left out and go into `misfits`."""

    def misfit(row: Any) -> str:
        misfits.append(row.number - 1)
        return "skip"

    columns = wanted.among(names)
    if not block:
        return pa.table({name: pa.array([], pa.utf8()) for name in columns})
    types = {name: TEXT if name in wanted.text else pa.utf8() for name in columns}
    return arrow_csv.read_csv(
        pa.py_buffer(BOM + block if block.startswith(BOM) else block),  # Arrow drops one wherever a block begins
        arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1 + len(BOM), column_names=list(names)),
        arrow_csv.ParseOptions(delimiter=delimiter, invalid_row_handler=misfit),
        arrow_csv.ConvertOptions(column_types=types, include_columns=columns),
    )


def is_odd(block: bytes) -> bool:
    """Blank lines, carriage returns of their own, or bytes that are no text."""
    if block.startswith((b"\n", b"\r")) or b"\n\n" in block or not _is_text(block):
        return True
    return b"\r" in block and (b"\n\r" in block or block.count(b"\r") != block.count(b"\r\n"))


def _is_text(some: bytes) -> bool:
    try:
        return some.isascii() or bool(some.decode())
    except UnicodeDecodeError:
        return False


def sound_line(delimiter: bytes) -> re.Pattern[bytes]:
    """Lines in which quotes enclose whole fields, and those inside are doubled."""
    mark = re.escape(delimiter)
    one = rb'(?:"(?:[^"]|"")*"|[^"' + mark + rb"]*)"
    return re.compile(one + rb"(?:" + mark + one + rb")*")


class Lines:
    """The records of a block: the block itself as long as nothing is odd, else what `sift` leaves of it."""

    def __init__(self, block: bytes) -> None:
        self.clean = block
        self.total = block.count(b"\n") + (not block.endswith(b"\n"))
        self.rows: NDArray[np.int64] = np.arange(self.total)  # which record each line of `clean` is
        self.rejected: list[tuple[int, str, bytes]] = []
        self._block = block

    @cached_property
    def _lines(self) -> list[bytes]:
        return [line for line in self._block.split(b"\n") if line.strip(b"\r")]

    def line(self, row: int) -> bytes:
        """Record `row` as it came, without its line break."""
        return self._lines[row].removesuffix(b"\r")[:RAW_BYTES]

    def all_match(self, sound: re.Pattern[bytes]) -> bool:
        """Whether every line of a block with nothing else odd is `sound`; a column operation, no line is copied."""
        block = self._block if self._block.endswith(b"\n") else self._block + b"\n"
        ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")).astype(np.int32)
        starts = np.concatenate((np.zeros(1, np.int32), ends + np.int32(1)))
        lines = pa.BinaryArray.from_buffers(pa.binary(), len(ends), [None, pa.py_buffer(starts), pa.py_buffer(block)])
        whole = rb"^(?:" + sound.pattern + rb")\r?\n$"
        return bool(pc.all(pc.match_substring_regex(lines, whole.decode())).as_py())

    def sift(self, fault: Callable[[bytes], str]) -> None:
        """Reject the lines that are no text, contain a carriage return, or have a `fault`."""
        good = []
        for row, line in enumerate(line.removesuffix(b"\r") for line in self._lines):
            reason = "not UTF-8" if not _is_text(line) else "stray carriage return" if b"\r" in line else fault(line)
            if reason:
                self.rejected.append((row, reason, line[:RAW_BYTES]))
            else:
                good.append(row)
        self.total = len(self._lines)
        self.rows = np.array(good, np.int64)
        self.clean = b"".join(self._lines[row].removesuffix(b"\r") + b"\n" for row in good)


def _chunks(path: Path) -> Iterator[tuple[bytes, str]]:
    with path.open("rb") as stream:
        if stream.peek(2)[:2] == b"\x1f\x8b":
            yield from _inflated(stream)
        else:
            while chunk := stream.read(_CHUNK_BYTES):
                yield chunk, ""


def _inflated(stream: BufferedReader) -> Iterator[tuple[bytes, str]]:
    """The text of one or more gzip members; then, if the last one is cut or damaged, nothing and the reason."""
    inflater, inside = zlib.decompressobj(31), False
    while packed := stream.read(_CHUNK_BYTES):
        while packed:
            before, inside = inflater.copy(), True
            try:
                yield inflater.decompress(packed), ""
            except zlib.error as error:
                yield _salvaged(before, packed), ""
                yield b"", f"the gzip stream is damaged: {error}"
                return
            packed = b""
            if inflater.eof:
                packed, inside = inflater.unused_data.lstrip(b"\0"), False
                inflater = zlib.decompressobj(31)
    if inside:
        yield b"", "the gzip stream is cut off"


def _salvaged(inflater: Any, packed: bytes) -> bytes:
    """What comes out before the damage; zlib gives nothing of a call that meets it."""
    found = bytearray()
    try:
        for at in range(len(packed)):
            found += inflater.decompress(packed[at : at + 1])
    except zlib.error:
        return bytes(found)
    return bytes(found)


def read_blocks(path: Path, size: int) -> Iterator[tuple[bytes, str]]:
    """Whole lines, about `size` bytes at a time; what a broken stream leaves unfinished comes last, with the reason."""
    rest = bytearray()
    for chunk, fault in _chunks(path):
        rest += chunk
        if fault or len(rest) >= size:
            end = rest.rfind(b"\n") + 1 or (0 if fault else len(rest))
            if end:
                yield bytes(rest[:end]), ""
                del rest[:end]
        if fault:
            yield bytes(rest), fault
            return
    if rest:
        yield bytes(rest), ""
