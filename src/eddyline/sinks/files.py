"""Results in a folder: `flows/*.parquet` (Scored output v1), `alerts.jsonl`, `dead-letter.jsonl`. URL file://FOLDER.

Flows: one Parquet file per flush and UTC day, named after its first window. Its footer lists its windows
(`eddyline.windows`); a window that is written again leaves whatever file it was in, so no replay counts a flow twice,
wherever its flushes fall. A folder holds one set of columns. Flows of a source that cannot replay are never replaced:
where an earlier run stopped within a window, the rest of it becomes its next parts.

Alerts: a journal in which the last line of an id wins; rewritten with one line per alert at close, and when it has
grown to twice as many lines as alerts.

Dead letters: appended up to 1 GiB, then counted; a record that has a row is kept once. Lines are described in
`alert_json.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.errors import ConfigError, SinkError
from eddyline.sinks.alert_json import AlertJournal, DeadLetters, JsonLines, replacing, sync_folder, utc

Key: TypeAlias = tuple[str, int | None, bool, int]  # site, start_us, late, part
_WINDOWS: Final = b"eddyline.windows"
_MAX_ROWS: Final = 1_000_000  # buffered flows at which `write` does not wait for a flush
_MAX_REJECTED_BYTES: Final = 64 << 20  # the same for the lines of rejected records
_DAYS: Final = 4  # days whose lists of windows stay in memory
_SITE_LETTERS: Final = 40  # of a site's name in a file name


def open_files(url: str, *, live: bool = False, replays: bool = True) -> FileSink:
    """Create the folder of `file://FOLDER` and take it for this run; `live` changes nothing, a flush always writes.

    Raises ConfigError when the folder is a file, cannot be written, or another run is writing to it.
    """
    path, _, query = url.partition(":")[2].removeprefix("//").partition("?")
    if not path or query:
        raise ConfigError(f"sink: `{url}` {'has unknown options' if query else 'names no folder'}; give file://FOLDER")
    return FileSink(Path(os.path.expanduser(path)).absolute(), replays)


class FileSink:
    """Writes into one folder; what is not durable yet stays in memory, also after a SinkError, so it can be retried.

    A window, an alert update and a rejected row that are written again replace themselves; without `replays` a window
    of an earlier run stays, and the fresh one becomes its next part.
    """

    def __init__(self, folder: Path, replays: bool = True) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "flows").mkdir(exist_ok=True)
            tempfile.TemporaryFile(dir=folder / "flows").close()
            with ExitStack() as until_ready:
                self._lock = until_ready.enter_context(_locked(folder / ".lock"))
                self._flows = _Flows(folder / "flows", replays)
                self._alerts = AlertJournal(JsonLines(folder / "alerts.jsonl"))
                self._rejected = DeadLetters(JsonLines(folder / "dead-letter.jsonl"))
                sync_folder(folder)
                until_ready.pop_all()
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(f"sink: `{error.filename}` cannot be a folder, a file is in its place or above it; "
                              "give another folder") from error  # fmt: skip
        except OSError as error:
            raise ConfigError(f"sink: cannot write to `{error.filename or folder}`: {error.strerror}; give another "
                              "folder or the right to write there") from error  # fmt: skip

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        """Buffer one window and its alerts; writes by itself beyond a million flows.

        Raises ConfigError when the window has other columns than the folder.
        """
        self._flows.put(scored)
        self._alerts.put(alerts)
        if self._flows.rows >= _MAX_ROWS:
            self.flush()

    def reject(self, rejected: pa.Table) -> None:
        """Buffer records that could not be read, rows of REJECTED_SCHEMA."""
        self._rejected.put(rejected)
        if self._rejected.waiting_bytes >= _MAX_REJECTED_BYTES:
            self._safely(self._rejected.flush)

    def flush(self) -> None:
        """Return when everything is on disk; raises SinkError that names the file and counts what is not."""
        for part in (self._flows, self._alerts, self._rejected):
            self._safely(part.flush)

    def close(self) -> None:
        """Flush, leave one line per alert, and let go of the folder, also when that raises SinkError."""
        if self._lock.closed:
            return
        with self._lock:
            self.flush()
            self._safely(self._alerts.rewrite)
            self._safely(self._rejected.seal)

    def _safely(self, act: Callable[[], None]) -> None:
        try:
            act()
        except OSError as error:
            flows, alerts, records = self._flows, len(self._alerts.waiting), len(self._rejected.waiting)
            raise SinkError(
                f"sink: cannot write `{error.filename}`: {error.strerror or error}; not written: {flows.rows:,} flows "
                f"of {len(flows.waiting):,} windows, {alerts:,} alert updates, {records:,} rejected records; make room "
                "and run it again: what is already written is replaced"
            ) from error


class _Flows:
    def __init__(self, folder: Path, replays: bool) -> None:
        self._folder, self._replays = folder, replays
        self._parts: dict[str, dict[Key, int]] = {}  # day -> window, its part left out -> parts of earlier runs
        self.waiting: dict[Key, pa.Table] = {}
        self.rows = 0  # of them
        self._days: dict[str, dict[str, dict[Key, int]]] = {}  # day -> file -> window -> rows, in the file's order
        for part in folder.glob(".*.part"):  # a run that was killed left it
            part.unlink()
        some = next(folder.glob("*.parquet"), None)
        self._schema: pa.Schema | None = None if some is None else _footer(some).schema.to_arrow_schema()

    def put(self, scored: ScoredFlows) -> None:
        if not self._replays:
            scored = self._after_earlier_runs(scored)
        table, window = scored.table(), scored.window
        key = (window.site, window.start_us, window.late, window.part)
        self._check(table.schema)
        again = self.waiting.get(key)
        self.rows += len(table) - (0 if again is None else len(again))
        self.waiting[key] = table

    def _after_earlier_runs(self, scored: ScoredFlows) -> ScoredFlows:
        window = scored.window
        whole = (window.site, window.start_us, window.late, 0)
        day = _stamp(whole).partition("T")[0]
        files, parts = self._known(day), self._parts.setdefault(day, {})
        if whole not in parts:
            known = [key for windows in (*files.values(), self.waiting) for key in windows]
            parts[whole] = 1 + max((part for *same, part in known if tuple(same) == whole[:3]), default=-1)
        return replace(scored, window=replace(window, part=window.part + parts[whole]))

    def _check(self, schema: pa.Schema) -> None:
        if self._schema is None:
            self._schema = schema
        elif not schema.equals(self._schema):
            ours, theirs = ({f"{column.name} ({column.type})" for column in s} for s in (self._schema, schema))
            wrong = ", ".join(sorted(ours ^ theirs)) or "their order"
            raise ConfigError(f"sink: `{self._folder}` holds flows with other columns than this run's: {wrong}; "
                              "give another folder")  # fmt: skip

    def flush(self) -> None:
        days: defaultdict[str, list[Key]] = defaultdict(list)
        for key in self.waiting:
            days[_stamp(key).partition("T")[0]].append(key)
        for day, keys in days.items():
            self._write(self._known(day), {key: self.waiting[key] for key in keys})
            for key in keys:
                self.rows -= len(self.waiting.pop(key))

    def _known(self, day: str) -> dict[str, dict[Key, int]]:
        if day not in self._days:
            while len(self._days) >= _DAYS:
                oldest = next(iter(self._days))
                del self._days[oldest]
                self._parts.pop(oldest, None)
            self._days[day] = {path.name: _windows_of(path) for path in sorted(self._folder.glob(f"{day}*.parquet"))}
        return self._days[day]

    def _write(self, files: dict[str, dict[Key, int]], fresh: dict[Key, pa.Table]) -> None:
        name = _file_name(next(iter(fresh)))
        self._save(files, name, fresh | self._others(files, name, fresh))
        for stale in [file for file, windows in files.items() if file != name and not windows.keys().isdisjoint(fresh)]:
            left = self._others(files, stale, fresh)
            if left:
                self._save(files, stale, left)
            else:
                (self._folder / stale).unlink()
                del files[stale]

    def _others(self, files: dict[str, dict[Key, int]], name: str, fresh: dict[Key, pa.Table]) -> dict[Key, pa.Table]:
        """Windows of a file that are not written again; reads it only where there are any."""
        windows = files.get(name, {})
        if windows.keys() <= fresh.keys():
            return {}
        with pq.ParquetFile(self._folder / name) as file:
            table = file.read()
        starts = np.cumsum([0, *windows.values()]).tolist()
        pieces = {key: table.slice(start, rows) for (key, rows), start in zip(windows.items(), starts, strict=False)}
        return {key: piece for key, piece in pieces.items() if key not in fresh}

    def _save(self, files: dict[str, dict[Key, int]], name: str, windows: dict[Key, pa.Table]) -> None:
        table = pa.concat_tables(windows.values()).unify_dictionaries()
        listed = json.dumps([[*key, len(flows)] for key, flows in windows.items()]).encode()
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _WINDOWS: listed})
        text = [column.name for column in table.schema if not pa.types.is_primitive(column.type)]
        with replacing(self._folder / name) as file:
            pq.write_table(table, file, compression="zstd", use_dictionary=text)
        files[name] = {key: len(flows) for key, flows in windows.items()}


def _windows_of(path: Path) -> dict[Key, int]:
    """The windows of a Parquet file of ours, in its order, with their rows; from the footer alone."""
    footer = _footer(path)
    listed = json.loads((footer.metadata or {}).get(_WINDOWS, b"[]"))
    windows = {(site, start, late, part): rows for site, start, late, part, rows in listed}
    if sum(windows.values()) != footer.num_rows:
        raise ConfigError(f"sink: `{path}` was not written by Eddyline; move it out of the folder")
    return windows


def _footer(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"sink: `{path}` is not a whole Parquet file; move it out of the folder") from error


def _file_name(key: Key) -> str:
    """Sorts by time. Names of sites stay letters, digits, `.`, `_` and `-`; a changed one is told apart by a hash."""
    site, _, late, part = key
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", site)[:_SITE_LETTERS]
    if plain != site:
        plain += "-" + hashlib.blake2b(site.encode(), digest_size=4).hexdigest()
    return f"{_stamp(key)}-{plain}-{part:06d}{'-late' if late else ''}.parquet"


def _stamp(key: Key) -> str:
    """`20230310T101500Z`; the part of a second, where there is one, follows as `_500000` so that names still sort."""
    whole, _, fraction = (utc(key[1]) or "untimed").removesuffix("Z").partition(".")
    time = whole.replace(":", "").replace("-", "")
    return time if not fraction else f"{time}Z" + (f"_{fraction}" if int(fraction) else "")


def _locked(path: Path) -> BinaryIO:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back when the file is closed, also by a kill
    except BlockingIOError as error:
        file.close()
        raise ConfigError(f"sink: another run writes to `{path.parent}`; give another folder") from error
    return file
