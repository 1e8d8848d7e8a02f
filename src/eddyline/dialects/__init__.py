"""How files and topics write flows: dialect name to "module:object", imported on demand. One small file each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.dialects.columns import RawColumns
from eddyline.errors import ConfigError
from eddyline.flows import flow_table

DIALECTS: Final = {
    "argus": "eddyline.dialects.argus:ARGUS",
    "eddyline": "eddyline.dialects.own:EDDYLINE",
    "goflow2": "eddyline.dialects.goflow2:GOFLOW2",
    "normalized": "eddyline.dialects.normalized:NORMALIZED",
    "nprobe": "eddyline.dialects.nprobe:NPROBE",
    "pmacct": "eddyline.dialects.pmacct:PMACCT",
    "suricata": "eddyline.dialects.suricata:SURICATA",
    "suricata-netflow": "eddyline.dialects.suricata:SURICATA_NETFLOW",
    "ugr16": "eddyline.dialects.ugr16:UGR16",
    "unsw": "eddyline.dialects.unsw:UNSW",
    "zeek": "eddyline.dialects.zeek:ZEEK",
}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one kind of file writes flows. All column names are lower case and stripped.

    Args:
        name: as in `?dialect=NAME`.
        required: for each group, one of its columns must be there.
        read: raw columns to FLOW_SCHEMA columns for `flow_table`, one value per raw row; marks unreadable rows.
        columns: every column that `read` looks at; None where it looks at all.
        text: those with few distinct values, worth reading dictionary-encoded.
        header: names for a text file without header line.
    """

    name: str
    required: tuple[tuple[str, ...], ...]
    read: Callable[[RawColumns], dict[str, Any]]
    columns: frozenset[str] | None
    text: frozenset[str]
    header: tuple[str, ...] = ()

    def missing(self, names: Sequence[str]) -> list[str]:
        """The required columns that `names` lacks, alternatives joined with "or"."""
        return [" or ".join(group) for group in self.required if not set(group) & set(names)]


@dataclass(frozen=True, slots=True)
class ReadFlows:
    """What a dialect made of E raw rows.

    Args:
        flows: the readable rows as BATCH_SCHEMA, in order, `source_row` still null.
        good: (E,) which rows are readable.
        other: (E,) which are whole records of another kind, as a DNS event is between flows.
        reasons: why not, for each row that is neither, in order.
    """

    flows: pa.Table
    good: NDArray[np.bool_]
    other: NDArray[np.bool_]
    reasons: list[str]


def load_dialect(name: str) -> Dialect:
    """The dialect of that name; raises ConfigError that names the known ones."""
    if name not in DIALECTS:
        raise ConfigError(f"dialect: unknown dialect `{name}`; known are {', '.join(DIALECTS)}")
    module, attribute = DIALECTS[name].split(":")
    dialect: Dialect = getattr(importlib.import_module(module), attribute)
    return dialect


def infer_dialect(names: Sequence[str]) -> Dialect | None:
    """The one dialect whose required columns are all in `names`; None where none or several fit."""
    fitting = [dialect for dialect in map(load_dialect, DIALECTS) if not dialect.missing(names)]
    return fitting[0] if len(fitting) == 1 else None


def read_flows(dialect: Dialect, table: pa.Table, site: str | None = None, zone: str = "UTC") -> ReadFlows:
    """Translate raw rows into flows; never raises for what stands in them.

    Args:
        table: raw columns by lower-case name, text or typed; absent columns are null.
        site: the column whose text is the flow's site; empty is "default".
        zone: IANA name of the time zone of times in text that do not name theirs.
    """
    raw = RawColumns(table, zone)
    columns = dialect.read(raw)
    if site is not None:
        columns["site"] = raw.site(site)
    flows = flow_table({name: column for name, column in columns.items() if column is not None}, table.num_rows)
    good = raw.faults == 0
    if good.all():
        return ReadFlows(flows, good, ~good, [])
    reasons = [raw.reasons[fault - 1] for fault in raw.faults[raw.faults > 0]]
    return ReadFlows(flows.filter(pa.array(good)), good, raw.faults < 0, reasons)
