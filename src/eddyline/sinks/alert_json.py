"""Alerts and rejected records as JSON lines: one form for every sink, and the files that keep them through a crash."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.alerts import Alert
from eddyline.errors import ConfigError

_SEVERITIES: Final = ((1e-6, "critical"), (1e-5, "high"), (1e-4, "medium"))
MOST_BYTES: Final = 1 << 30  # of rejected records in a folder: whoever can send datagrams must not fill the disk
_MIN_LINES: Final = 1_000  # a shorter journal of alerts is not worth rewriting
_SPACES: Final = dict.fromkeys(map(ord, "\t\r\n"), " ")
_NO_ROWS: Final = np.empty(0, np.int64)


def severity(p: float) -> str:
    """Say how rare a p-value is: critical <= 1e-6 < high <= 1e-5 < medium <= 1e-4 < low.

    A p-value never falls below 1 / (calibration flows + 1), so a severity that the calibration does not support is
    never claimed.
    """
    return next((name for bound, name in _SEVERITIES if p <= bound), "low")


def utc(time_us: int | None) -> str | None:
    """Microseconds since 1970 as ISO 8601 in UTC, `2023-03-10T10:15:00.000000Z`; None where there is no time.

    Any int64 is accepted: an exporter's broken clock may name years that `datetime` does not know.
    """
    return None if time_us is None else f"{np.datetime64(time_us, 'us')}Z"


def alert_record(alert: Alert) -> dict[str, Any]:
    """Every field of an alert with times as text, `severity` added; numbers keep their units (bytes, flows)."""
    return {
        "id": alert.id,
        "update": alert.update,
        "severity": severity(alert.p),
        "p": alert.p,
        "site": alert.site,
        "host": alert.host,
        "role": alert.role,
        "service": alert.service,
        "reason": alert.reason,
        "reasons": list(alert.reasons),
        "first_seen": utc(alert.first_seen_us),
        "last_seen": utc(alert.last_seen_us),
        "count": alert.count,
        "total_bytes": alert.total_bytes,
        "peer_count": alert.peer_count,
        "peers": list(alert.peers),
        "truth": list(alert.truth),
    }


def rejected_record(reason: str, origin: str, source_row: int | None, raw: bytes) -> dict[str, Any]:
    """One bad record: `raw` is the exact bytes in base64; `text` repeats them where they are readable UTF-8 text."""
    found: dict[str, Any] = {"reason": reason, "origin": origin, "source_row": source_row}
    with suppress(UnicodeDecodeError):
        text = raw.decode()
        if text.translate(_SPACES).isprintable():
            found["text"] = text
    return {**found, "raw": base64.b64encode(raw).decode()}


def json_line(record: Mapping[str, Any]) -> bytes:
    """One line of pure ASCII: no letter, quote or control character of the network's can break a line or a terminal."""
    return json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"


class JsonLines:
    """A file that only grows by whole lines: what `append` took is durable when it returns.

    A line torn by a crash is cut off when the file is opened, and one torn by a full disk when that happens. OSError
    always carries the file's name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _named(path):
            path.open("ab").close()
            if path.is_file():  # not a device or a pipe, which have no tail to look at
                _cut_torn_line(path)

    def __iter__(self) -> Iterator[bytes]:
        """The lines of a regular file, in order, with their newlines; nothing where it is a device or a pipe."""
        if self._path.is_file():
            with self._path.open("rb") as file:
                yield from file

    def size(self) -> int:
        """Bytes in a regular file; 0 for a device or a pipe."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def append(self, lines: Iterable[bytes]) -> None:
        """Add whole lines, each with its newline: all of them or, when it raises OSError, none."""
        rest = memoryview(b"".join(lines))
        with _named(self._path), self._path.open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # the first error is the one to tell; the next open cuts the tail as well
                    file.truncate(before)
                raise

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put `lines` in place of everything, at once."""
        with replacing(self._path) as file:
            file.writelines(lines)


class AlertJournal:
    """The latest state of every alert: the last line of an id wins, and `rewrite` leaves that line alone.

    Lines of earlier runs stay and are updated. Of every alert in the file only an id and a digest stay in memory.
    Raises ConfigError when the file holds something else.
    """

    def __init__(self, file: JsonLines) -> None:
        self._file = file
        self.waiting: dict[str, bytes] = {}
        self._known: dict[str, bytes] = {}
        self._lines = 0
        for self._lines, line in enumerate(file, 1):
            self._known[_id_in(line, self._lines)] = _digest(line)

    def put(self, alerts: Sequence[Alert]) -> None:
        """Take alerts that were opened or changed; an update that the file has already is left out."""
        for alert in alerts:
            line = json_line(alert_record(alert))
            self.waiting.pop(alert.id, None)
            if self._known.get(alert.id) != _digest(line):
                self.waiting[alert.id] = line

    def flush(self) -> None:
        """Return when `waiting` is on disk and empty; OSError leaves it as it was."""
        if not self.waiting:
            return
        self._file.append(self.waiting.values())
        self._lines += len(self.waiting)
        self._known |= {name: _digest(line) for name, line in self.waiting.items()}
        self.waiting.clear()
        if self._lines > max(_MIN_LINES, 2 * len(self._known)):
            self.rewrite()

    def rewrite(self) -> None:
        """Leave one line per alert, those changed last at the end."""
        if self._lines > len(self._known):
            last = {_id_in(line, number): number for number, line in enumerate(self._file, 1)}
            kept = set(last.values())
            self._file.replace(line for number, line in enumerate(self._file, 1) if number in kept)
            self._lines = len(kept)


class DeadLetters:
    """Every record that could not be read; one with a row is kept once per (origin, row), others as often as they come.

    Which rows of an origin are in the file is read when the first record with a row comes: eight bytes a row. Once the
    file has `most` bytes, further records are counted only, and `seal` leaves their number as its last line.
    """

    def __init__(self, file: JsonLines, most: int = MOST_BYTES) -> None:
        self._file, self._most, self._bytes = file, most, file.size()
        self.left_out = 0
        self.waiting: list[bytes] = []
        self.waiting_bytes = 0
        self._fresh: defaultdict[str, set[int]] = defaultdict(set)
        self._rows: dict[str, NDArray[np.int64]] | None = None

    def put(self, rejected: pa.Table) -> None:
        """Take rows of REJECTED_SCHEMA; those that the file has already are left out."""
        for place, record in enumerate(rejected.to_pylist()):
            if self._bytes >= self._most:
                self.left_out += rejected.num_rows - place
                return
            origin, row = record["origin"], record["source_row"]
            if row is not None:
                if self._has(origin, row):
                    continue
                self._fresh[origin].add(row)
            self.waiting.append(json_line(rejected_record(**record)))
            self._bytes += len(self.waiting[-1])
            self.waiting_bytes += len(self.waiting[-1])

    def seal(self) -> None:
        """Say in the file, once, how many records it did not take."""
        if self.left_out:
            reason = f"{self.left_out} more records were not kept: this file had reached {self._most} bytes"
            self._file.append([json_line(rejected_record(reason, "eddyline", None, b""))])
            self.left_out = 0

    def _has(self, origin: str, row: int) -> bool:
        if self._rows is None:
            self._rows = _rows_in(self._file)
        known = self._rows.get(origin, _NO_ROWS)
        place = int(np.searchsorted(known, row))
        return row in self._fresh[origin] or (place < len(known) and known[place] == row)

    def flush(self) -> None:
        """Return when `waiting` is on disk and empty; OSError leaves it as it was."""
        if not self.waiting:
            return
        self._file.append(self.waiting)
        self.waiting.clear()
        self.waiting_bytes = 0
        if self._rows is not None:
            for origin, rows in self._fresh.items():
                self._rows[origin] = np.union1d(self._rows.get(origin, _NO_ROWS), np.fromiter(rows, np.int64))
        self._fresh.clear()


def _rows_in(file: JsonLines) -> dict[str, NDArray[np.int64]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(file, 1):
        origin, row = _fields(line, number, "origin", "source_row")
        if row is not None:
            found[origin].append(row)
    return {origin: np.unique(np.array(rows, np.int64)) for origin, rows in found.items()}


def _id_in(line: bytes, number: int) -> str:
    return str(_fields(line, number, "id")[0])


def _fields(line: bytes, number: int, *names: str) -> list[Any]:
    try:
        record = json.loads(line)
        return [record[name] for name in names]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"sink: line {number} of an earlier run's JSON lines has no {' and '.join(names)}: "
                          f"{line[:60]!r}; give another folder") from error  # fmt: skip


def _digest(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` when the block ends well, whole and durable; else `path` stays as it was."""
    part = path.with_name(f".{path.name}.part")
    with _named(path):
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make names that were created, replaced or removed in `folder` durable."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        if not file.seek(0, os.SEEK_END):
            return
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise
