"""What lies in the records of a topic, Arrow, JSON or protobuf, to flows, pure; the rest is rejected with its reason.

A record is hostile until it is read: Arrow tables are validated to the last index and bounded in rows, JSON goes the
way of files. A bad line or row costs itself, an unreadable record costs itself.
"""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.dialects import Dialect, ReadFlows, read_flows
from eddyline.errors import ConfigError
from eddyline.flows import REJECTED_SCHEMA, empty_flows
from eddyline.sources.files.json import json_piece
from eddyline.sources.files.text import Wanted
from eddyline.sources.kafka.claims import claimed_bytes
from eddyline.sources.kafka.protobuf import protobuf_columns

MOST_ROWS: Final = 1_000_000  # in one record: nulls cost no bytes, so a short record could claim any number
MOST_BYTES: Final = 512 << 20  # that one record may claim once it is decompressed
MOST_BAD_ROWS: Final = 1_000  # of one record that are kept one by one; the others are kept as the whole record
_FAULTS: Final = (pa.ArrowException, OSError, struct.error, ValueError, KeyError, OverflowError, MemoryError)


class Record(NamedTuple):
    """One record of a partition."""

    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Decoder:
    """Reads the records of one partition.

    Args:
        dialect: how flows are written. site: the column that names the site; None where the dialect does.
        origin: topic/partition, for rejected records.
    """

    dialect: Dialect
    site: str | None
    origin: str

    def arrow(self, record: Record) -> tuple[pa.Table, pa.Table]:
        """Flows of one Arrow IPC stream, BATCH_SCHEMA, and rejected records, REJECTED_SCHEMA. Never raises."""
        try:
            table = _arrow_table(record.value)
        except _FAULTS as error:
            return empty_flows(), self._whole(record, f"not an Arrow stream of flows: {_first_line(error)}")
        return self._read(table, record)

    def json(self, records: Sequence[Record]) -> tuple[pa.Table, pa.Table]:
        """Flows of records that hold JSON: one object, several in lines, or an array of them. Never raises."""
        block, counts = _json_block([record.value for record in records])
        bad = [(at, "no JSON object", records[at].value) for at in np.flatnonzero(counts == 0).tolist()]
        of_record = np.repeat(np.arange(len(records)), counts)
        if not block:
            return empty_flows(), self._rejected([(records[at].offset, 0, why, raw) for at, why, raw in bad])
        piece = json_piece(block, self._wanted())
        first = np.concatenate(([0], np.cumsum(counts)))
        rejected = [(records[at].offset, 0, why, raw) for at, why, raw in bad]

        def place(line: int) -> tuple[int, int]:
            at = int(of_record[line])
            return records[at].offset, line - int(first[at])

        def raw(line: int) -> bytes:
            at = int(of_record[line])
            return records[at].value if counts[at] == 1 else piece.lines(line)

        rejected += [(*place(row), why, raw(row)) for row, why, _ in piece.rejected]
        flows, whys = self._complete(piece.table)
        rejected += [(*place(row), whys[at], raw(row)) for at, row in enumerate(piece.rows.tolist()) if at in whys]
        return flows, self._rejected(sorted(rejected))

    def protobuf(self, records: Sequence[Record]) -> tuple[pa.Table, pa.Table]:
        """Flows of records that hold one message of goflow2 each. Never raises."""
        table, sound = protobuf_columns([record.value for record in records])
        flows, bad = self._flows(table)
        places = np.flatnonzero(sound).tolist()
        whys = {places[row]: why for row, why in bad.items()}
        whys |= dict.fromkeys(np.flatnonzero(~sound).tolist(), "no protobuf message of goflow2")
        return flows, self._rejected([(records[at].offset, 0, whys[at], records[at].value) for at in sorted(whys)])

    def _read(self, table: pa.Table, record: Record) -> tuple[pa.Table, pa.Table]:
        missing = self._missing(table)
        if missing:
            return empty_flows(), self._whole(record, missing)
        try:
            flows, whys = self._flows(table)
        except ConfigError as error:  # a column of a type that no flow comes from: this record's fault, not ours
            return empty_flows(), self._whole(record, str(error))
        bad, reasons = list(whys), list(whys.values())
        shown = _rows(table, np.array(bad[:MOST_BAD_ROWS], np.int64))
        kept = zip(bad, reasons, shown, strict=False)
        found = [(record.offset, row, why, raw) for row, why, raw in kept]
        if len(bad) > len(shown):
            more = f"{len(bad) - len(shown):,} more rows, the first: {reasons[len(shown)]}"
            found.append((record.offset, 0, more, record.value))
        return flows, self._rejected(found)

    def _flows(self, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """The flows of raw rows, and why which rows are none; those of another kind, as DNS events, are in neither."""
        return _read_rows(read_flows(self.dialect, table, self.site))

    def _complete(self, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """The same; a row without a value in a required column is none, whatever columns its neighbours have."""
        read = read_flows(self.dialect, table, self.site)
        flows, whys = _read_rows(read)
        lacking = self._lacking(table)
        good = np.flatnonzero(read.good)
        whys |= {row: lacking[row] for row in good.tolist() if row in lacking}
        return flows.filter(pa.array(~np.isin(good, list(lacking)), pa.bool_())), dict(sorted(whys.items()))

    def _lacking(self, table: pa.Table) -> dict[int, str]:
        """What each row lacks that lacks something; absent and null are the same in JSON."""
        lacking: defaultdict[int, list[str]] = defaultdict(list)
        for group in (*self.dialect.required, *([(self.site,)] if self.site else [])):
            known = np.zeros(table.num_rows, np.bool_)
            for name in set(group) & set(table.column_names):
                known |= table[name].is_valid().to_numpy()
            for row in np.flatnonzero(~known).tolist():
                lacking[row].append(" or ".join(group))
        return {row: f"lacks {', '.join(names)} (dialect {self.dialect.name})" for row, names in lacking.items()}

    def _missing(self, table: pa.Table) -> str:
        lacking = self.dialect.missing(table.column_names)
        lacking += [self.site] if self.site and self.site not in table.column_names else []
        return f"lacks {', '.join(lacking)} (dialect {self.dialect.name})" if lacking else ""

    def _wanted(self) -> Wanted:
        more = frozenset([self.site] if self.site else [])
        columns = self.dialect.columns
        return Wanted(None if columns is None else columns | more, self.dialect.text | more)

    def _whole(self, record: Record, reason: str) -> pa.Table:
        return self._rejected([(record.offset, 0, reason, record.value)])

    def _rejected(self, found: Sequence[tuple[int, int, str, bytes]]) -> pa.Table:
        columns = {
            "reason": [reason for _, _, reason, _ in found],
            "origin": [f"{self.origin}#{line}" if line else self.origin for _, line, _, _ in found],
            "source_row": [offset for offset, _, _, _ in found],
            "raw": [raw for _, _, _, raw in found],
        }
        return pa.table(columns, schema=REJECTED_SCHEMA)


def _read_rows(read: ReadFlows) -> tuple[pa.Table, dict[int, str]]:
    bad = np.flatnonzero(~(read.good | read.other)).tolist()
    return read.flows, dict(zip(bad, read.reasons, strict=True))


def _arrow_table(value: bytes) -> pa.Table:
    if (claimed := claimed_bytes(value)) > MOST_BYTES:
        raise ValueError(f"claims {claimed:,} bytes, more than {MOST_BYTES:,}")
    with pa.ipc.open_stream(value) as reader:
        batches, rows = [], 0
        for batch in reader:
            rows += batch.num_rows
            if rows > MOST_ROWS:
                raise ValueError(f"more than {MOST_ROWS:,} rows")
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    table.validate(full=True)
    names = [name.strip().lower() for name in table.column_names]
    if len(set(names)) < len(names):
        raise ValueError("a column comes twice")
    return table.rename_columns(names)


def _json_block(values: Sequence[bytes]) -> tuple[bytes, NDArray[np.int64]]:
    """All values as lines of one block, and how many lines each has."""
    block = b"\n".join(values) + b"\n"
    if {value[:1] for value in values} == {b"{"} and block.count(b"\n") == len(values) and b"\r" not in block:
        return block, np.ones(len(values), np.int64)
    lines = [_json_lines(value) for value in values]
    return b"".join(line + b"\n" for some in lines for line in some), np.array([len(some) for some in lines], np.int64)


def _json_lines(value: bytes) -> list[bytes]:
    """The slow path of values that hold more than one object; a single object passes as it is."""
    value = value.strip()
    if not value.startswith(b"["):
        return [line for line in value.splitlines() if line.strip()]
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return [b" ".join(value.splitlines())]
    return [json.dumps(one).encode() for one in found]


def _rows(table: pa.Table, rows: NDArray[np.int64]) -> list[bytes]:
    """A row has no bytes of its own: as JSON it is at least readable. None at all where Python has no such value."""
    try:
        found = table.take(rows).to_pylist()
    except (OverflowError, ValueError, NotImplementedError):  # a time that no calendar has, say: it is kept whole
        return []
    return [json.dumps(row, default=str).encode() for row in found]


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
