"""file://: flows from Parquet, CSV and JSON lines, plain or gzip; one file, a folder or a pattern.

`source_row` counts the records of all files from 0, good and bad alike; blank lines and header lines are no records. A
bad record is rejected with its reason, the name of its file and its bytes, the line break left off and at most 64 KiB.
A Parquet row has no bytes of its own and is given as JSON. A Parquet file that is cut off is one rejected record, with
its first 64 KiB; the other files go on. A position is the number of flows handed out; a file that has been read has
nothing to resume, so a commit is only remembered and a new run begins at the first row.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa

from eddyline.dialects import DIALECTS, Dialect, infer_dialect, load_dialect, read_flows
from eddyline.errors import ConfigError
from eddyline.flows import REJECTED_SCHEMA, SOURCE_ROW, FlowBatch, empty_flows
from eddyline.sources.files.records import Head, inspect_file, read_pieces
from eddyline.sources.files.text import Piece, Wanted
from eddyline.windows import Commit

BATCH_FLOWS: Final = 65_536
_OPTIONS: Final = ("dialect", "order", "batch", "site", "zone")
_TEXT_FILES: Final = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".binetflow")


@dataclass(frozen=True, slots=True)
class Layout:
    """One file and how to read it."""

    head: Head
    dialect: Dialect | None  # None where nothing of the file can be read
    wanted: Wanted


class FileSource:
    """The flows of some files. Each iteration reads them from the beginning.

    Args:
        layouts: the files, in order.
        by_time: hand out all flows in the order of `ts_end` (stable; flows without a time come last), for which the
            whole set is held in memory and all rejected records come first. Otherwise in file order, in flat memory.
        batch: flows per batch at most.
        site: the column that names the site of each flow; None puts all into "default".
        zone: IANA name of the time zone of times in text without one.
    """

    resumes = False

    def __init__(
        self, layouts: Sequence[Layout], by_time: bool, batch: int, site: str | None, zone: str = "UTC"
    ) -> None:
        self._layouts = tuple(layouts)
        self._by_time = by_time
        self._batch = batch
        self._site, self._zone = site, zone
        self.counters: Counter[str] = Counter()  # other_records: of another kind, such as alerts between flows
        self._closed = threading.Event()
        self.committed: Commit | None = None

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches of slices, without copies. Raises SourceError when a file is gone or cannot be read any more."""
        handed = 0
        for flows, rejected in self._sorted() if self._by_time else self._pieces():
            for start in range(0, max(1, flows.num_rows), self._batch):
                if self._closed.is_set():
                    return
                part = flows.slice(start, self._batch)
                handed += part.num_rows
                yield FlowBatch(part, handed, rejected if start == 0 else REJECTED_SCHEMA.empty_table())

    def commit(self, commit: Commit) -> None:
        """Remember `commit`; nothing in a file has to be kept or given up."""
        self.committed = commit

    def close(self) -> None:
        """End an iteration in another thread after the batch that it is at."""
        self._closed.set()

    def _pieces(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        first = 0
        for layout in self._layouts:
            for piece in read_pieces(layout.head, layout.wanted):
                if self._closed.is_set():
                    return
                yield self._flows(layout, piece, first)
                first += piece.total

    def _flows(self, layout: Layout, piece: Piece, first: int) -> tuple[pa.Table, pa.Table]:
        """The flows of a piece and its rejected records; its first record is row `first` of the set."""
        if layout.dialect is None or not len(piece.rows):
            return empty_flows(), _rejected(piece.rejected, layout.head.path.name, first)
        read = read_flows(layout.dialect, piece.table, self._site, self._zone)
        if read.other.any():
            self.counters["other_records"] += int(read.other.sum())
        bad = piece.rows[~(read.good | read.other)].tolist()
        unread = [(row, reason, piece.lines(row)) for row, reason in zip(bad, read.reasons, strict=True)]
        at = read.flows.schema.get_field_index(SOURCE_ROW.name)
        flows = read.flows.set_column(at, SOURCE_ROW, pa.array(piece.rows[read.good] + first))
        return flows, _rejected(sorted(piece.rejected + unread), layout.head.path.name, first)

    def _sorted(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        flows, rejected = [], []
        for some, others in self._pieces():
            flows.append(some)
            rejected.append(others)
        if flows and not self._closed.is_set():
            yield by_event_time(flows), pa.concat_tables(rejected)


def _rejected(records: list[tuple[int, str, bytes]], origin: str, first: int) -> pa.Table:
    rows, reasons, raws = zip(*records, strict=True) if records else ((), (), ())
    columns = [reasons, [origin] * len(rows), [first + row for row in rows], raws]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, REJECTED_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=REJECTED_SCHEMA)


def by_event_time(tables: Sequence[pa.Table]) -> pa.Table:
    """All flows in one piece, stably sorted by `ts_end`, nulls last; `src_addr` and `dst_addr` share a dictionary."""
    full = [table for table in tables if table.num_rows] or [empty_flows()]
    table = pa.concat_tables(full, promote_options="default").unify_dictionaries().combine_chunks()
    times = table["ts_end"].cast(pa.int64()).fill_null(np.iinfo(np.int64).max).to_numpy()
    if (times[1:] < times[:-1]).any():
        table = table.take(np.argsort(times, kind="stable")).combine_chunks()
    return _sharing_hosts(table)


def _sharing_hosts(table: pa.Table) -> pa.Table:
    """One object where there are two equal dictionaries, as those of both ends are when every piece shared one."""
    if not table.num_rows:
        return table
    src, dst = table["src_addr"].chunk(0), table["dst_addr"].chunk(0)
    if not src.dictionary.equals(dst.dictionary):
        return table
    shared = pa.DictionaryArray.from_arrays(dst.indices, src.dictionary)
    return table.set_column(table.schema.get_field_index("dst_addr"), table.schema.field("dst_addr"), shared)


def open_file(url: str) -> FileSource:
    """The source of `file://PATH?dialect=NAME&order=time|source&batch=N&site=COLUMN&zone=NAME`, or of an existing path.

    PATH may be relative, a folder (its Parquet files at any depth, or if there are none its CSV and JSON files; hidden
    ones left out) or a pattern with * or [..]; several files are read in the order of their paths.

    dialect: one of DIALECTS. Without it the dialect is inferred only where exactly one has all its required columns in
    the file, our own columns being the dialect "eddyline".
    order: "time" (default) sorts all flows by `ts_end` in memory, "source" streams them as they stand.
    batch: flows per batch. site: the column whose text is the site of a flow, as `capture` in Westermo's viewpoints;
    without it all are "default". zone: the time zone of times in text that do not name theirs, as Europe/Berlin; UTC.

    Raises:
        ConfigError: no such file, an unknown dialect or option, required columns that are missing.
        SourceError: a file that exists and cannot be read.
    """
    path, options = _split(url)
    dialect = load_dialect(options["dialect"]) if "dialect" in options else None
    order, batch = options.get("order", "time"), options.get("batch", str(BATCH_FLOWS))
    if order not in ("time", "source"):
        raise ConfigError(f"file source: order={order} in `{url}`; give time or source")
    if not (batch.isascii() and batch.isdigit() and int(batch) > 0):
        raise ConfigError(f"file source: batch={batch} in `{url}`; give a number of flows from 1")
    site = options["site"].strip().lower() if "site" in options else None
    zone = _zone(options.get("zone", "UTC"))
    heads = [head for head in map(inspect_file, _files(path)) if head.kind != "empty"]
    return FileSource([_layout(head, dialect, site) for head in heads], order == "time", int(batch), site, zone)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"file source: zone={name}: no such time zone; give an IANA name, as Europe/Berlin"
        ) from error
    return name


def _split(url: str) -> tuple[str, dict[str, str]]:
    if not url.startswith("file://") and os.path.exists(url):
        return url, {}
    path, _, query = url.removeprefix("file://").partition("?")
    try:
        options = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise ConfigError(f"file source: options in `{url}`: {error}; write ?NAME=VALUE&NAME=VALUE") from error
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"file source: unknown option `{name}` in `{url}`; known are {', '.join(_OPTIONS)}")
    return unquote(path) if url.startswith("file://") else path, options


def _files(path: str) -> list[Path]:
    if not path:
        raise ConfigError("file source: the URL names no file; write file://PATH")
    whole = Path(path)
    if os.path.isfile(path):  # Path's own raises for a name that is too long
        return [whole]
    if os.path.isdir(path):
        found = _in_folder(whole)
        wanted = f"no .parquet file and none of {', '.join(_TEXT_FILES)} (or .gz of these)"
    else:
        found = sorted(some for some in map(Path, glob(path, recursive=True)) if some.is_file())
        wanted = "no such file"
    if not found:
        raise ConfigError(f"file source: {wanted} at `{path}`; give a file, a folder of flows or a pattern")
    return found


def _in_folder(folder: Path) -> list[Path]:
    """Flows only: beside the Parquet files that our own sink writes lie alerts and dead letters as JSON."""
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
    )
    parquet = [file for file in files if file.suffix == ".parquet"]
    return parquet or [file for file in files if file.name.removesuffix(".gz").endswith(_TEXT_FILES)]


def _layout(head: Head, dialect: Dialect | None, site: str | None) -> Layout:
    """How to read one file; raises ConfigError when its columns do not do."""
    if head.fault:
        return Layout(head, None, Wanted(frozenset(), frozenset()))
    name = head.path.name
    chosen = dialect or infer_dialect(head.names)
    if chosen is None:
        raise ConfigError(
            f"file source: the columns of `{name}` ({_few(head.names)}) do not say what its dialect is; "
            f"add ?dialect= and one of {', '.join(DIALECTS)}"
        )
    header = chosen.header if head.kind == "csv" and _lacks_header(head, chosen) else ()
    names = header or head.names
    if head.kind == "json" and not names:  # not one readable line so far: bad records, not a wrong file
        names = tuple(column for group in chosen.required for column in group) + ((site,) if site else ())
    for problem, columns in (
        ("lacks", chosen.missing(names)),
        ("lacks", [site] if site and site not in names else []),
        ("has twice", sorted({column for column in names if names.count(column) > 1})),
    ):
        if columns:
            raise ConfigError(
                f"file source: `{name}` {problem} column {', '.join(columns)} (dialect {chosen.name}); it has "
                f"{_few(names)}; give another dialect ({', '.join(DIALECTS)}) or site"
            )
    more = frozenset([site] if site else [])
    wanted = Wanted(None if chosen.columns is None else chosen.columns | more, chosen.text | more, header)
    return Layout(head, chosen, wanted)


def _lacks_header(head: Head, dialect: Dialect) -> bool:
    return bool(dialect.missing(head.names)) and len(head.names) == len(dialect.header)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + ", …" * (len(names) > 8)
