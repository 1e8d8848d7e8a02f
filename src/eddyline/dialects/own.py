"""`eddyline`: our own columns, as written by the Parquet sink; FLOW_SCHEMA, `probe.*` and `head`, the rest ignored.

`source_row` is counted anew, for the file that is read now.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import MICROSECOND_US, timestamps
from eddyline.errors import ConfigError
from eddyline.flows import FLOW_SCHEMA, TEXT

_OWN: Final = ("ts_start", "ts_end", "duration_us", "src_addr", "dst_addr", "site")


def _read(raw: RawColumns) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in ("ts_start", "ts_end"):
        known = raw.times(name)
        columns[name] = None if known is None else timestamps(*known)
    lasting = raw.spans("duration_us", MICROSECOND_US)
    columns["duration_us"] = None if lasting is None else pa.array(lasting[0], mask=~lasting[1])
    columns |= raw.addresses("src_addr", "dst_addr", only_ip=False)
    columns["site"] = raw.site("site")
    for field in FLOW_SCHEMA:
        if field.name not in _OWN:
            columns[field.name] = raw.text(field.name) if field.type == TEXT else raw.integer(field.name, field.type)
    for name in raw.table.column_names:
        if name.startswith("probe."):
            columns[name] = raw.probe(name)
    if "head" in raw.table.column_names:
        columns["head"] = _head(raw.table["head"])
    return columns


def _head(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not any(test(column.type) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_null)):
        raise ConfigError(f"dialect: column `head` is {column.type}; give it as binary")
    return column.cast(pa.binary())


EDDYLINE: Final = Dialect(
    name="eddyline",
    required=(("src_addr",), ("dst_addr",), ("ts_end",), ("proto",), ("bytes",)),
    read=_read,
    columns=None,
    text=frozenset(field.name for field in FLOW_SCHEMA if field.type == TEXT),
)
