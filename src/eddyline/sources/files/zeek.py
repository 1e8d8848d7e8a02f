"""Zeek's own text logs to raw columns: lines of # that say what the columns are, values between them.

A log that another was appended to has its columns said again. Lines of # are no records.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from eddyline.sources.files.text import (
    BLOCK_BYTES,
    BOM,
    Piece,
    Wanted,
    csv_piece,
    read_blocks,
    rejected_whole,
    sound_line,
)

MARK: Final = b"#separator"
_COMMENTS: Final = re.compile(rb"^(?:#[^\n]*(?:\n|\Z))+", re.MULTILINE)
_CODE: Final = re.compile(rb"\\x([0-9a-fA-F]{2})")


@dataclass(frozen=True, slots=True)
class ZeekHeader:
    """What the lines of # have said so far: what separates columns, and their names, lower case."""

    delimiter: str = "\t"
    names: tuple[str, ...] = ()

    def after(self, lines: Sequence[bytes]) -> ZeekHeader:
        """The header after these lines; those that say nothing of the columns change nothing."""
        header = self
        for line in lines:
            if line.startswith(MARK):
                code = _CODE.search(line)
                header = replace(header, delimiter=chr(int(code[1], 16)) if code else "\t")
            elif line.startswith(b"#fields"):
                names = line.decode(errors="replace").rstrip("\r\n").split(header.delimiter)[1:]
                header = replace(header, names=tuple(name.strip().lower() for name in names))
        return header

    def fault(self, needed: Sequence[str]) -> str:
        """Why values under this header cannot be read, else ""; it must not lose a column that the file began with."""
        if not self.names or not self.delimiter.isascii():
            return "no #fields line before it"
        lost = [name for name in needed if name not in self.names]
        if lost or len(set(self.names)) < len(self.names):
            return f"its #fields line lacks {', '.join(lost)}" if lost else "its #fields line names a column twice"
        return ""


def zeek_pieces(path: Path, wanted: Wanted, names: tuple[str, ...]) -> Iterator[Piece]:
    """The records of a log that begins with columns `names`, in order."""
    header, needed, first = ZeekHeader(), wanted.among(names), True
    for block, fault in read_blocks(path, BLOCK_BYTES):
        if fault:
            yield rejected_whole(fault, block)
            continue
        if first:
            block, first = block.removeprefix(BOM).lstrip(), False
        for comments, lines in _runs(block):
            header = header.after(comments.splitlines())
            if lines.strip(b"\r\n"):
                yield _piece(lines, wanted, header, needed)


def _piece(lines: bytes, wanted: Wanted, header: ZeekHeader, needed: Sequence[str]) -> Piece:
    if fault := header.fault(needed):
        return rejected_whole(fault, lines, sum(1 for line in lines.split(b"\n") if line.strip(b"\r")))
    return csv_piece(lines, wanted, header.names, header.delimiter, sound_line(header.delimiter.encode()))


def _runs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The block as (lines of #, lines of values) in turn; either may be empty."""
    comments, at = b"", 0
    for found in _COMMENTS.finditer(block):
        if found.start() > at:
            yield comments, block[at : found.start()]
        comments, at = found[0], found.end()
    yield comments, block[at:]
