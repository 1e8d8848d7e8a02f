"""What a flow is: one Arrow row of FLOW_SCHEMA, and batches of them in arrival order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.errors import ConfigError

SCHEMA_VERSION: Final = "1"
TEXT: Final = pa.dictionary(pa.int32(), pa.utf8())
TIME: Final = pa.timestamp("us", tz="UTC")

LABEL_COLUMNS: Final = ("label", "attack")  # ground truth: passes by the model, never through it
PROTOCOLS: Final[Mapping[str, int]] = {
    "icmp": 1, "igmp": 2, "ipv4": 4, "tcp": 6, "egp": 8, "udp": 17, "ipv6": 41, "rsvp": 46, "gre": 47, "esp": 50,
    "ah": 51, "icmpv6": 58, "ipv6-icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "sctp": 132, "udplite": 136,
}  # fmt: skip  # IANA protocol numbers, by the names that exporters and data sets write
PROTOCOL_NAMES: Final[Mapping[int, str]] = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    58: "icmpv6",
    47: "gre",
    50: "esp",
    132: "sctp",
}


_NO_PORT: Final = 1 << 16  # stands for an unknown port


def _column(name: str, type_: pa.DataType, unit: str, ie: str, desc: str) -> pa.Field:
    return pa.field(name, type_, metadata={"unit": unit, "ie": ie, "desc": desc})


FLOW_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        _column("ts_start", TIME, "us since 1970, UTC", "154", "first packet"),
        _column("ts_end", TIME, "us since 1970, UTC", "155", "last packet; the event time"),
        _column("duration_us", pa.int64(), "us", "162", "last packet minus first packet"),
        _column("src_addr", TEXT, "", "8,27", "sender, canonical text (RFC 5952)"),
        _column("dst_addr", TEXT, "", "12,28", "receiver, canonical text (RFC 5952)"),
        _column("src_port", pa.uint16(), "", "7", "0 where the protocol has none"),
        _column("dst_port", pa.uint16(), "", "11", "0 where the protocol has none"),
        _column("proto", pa.uint8(), "", "4", "IANA protocol number"),
        _column("tcp_flags", pa.uint16(), "", "6", "OR over the flow, src to dst"),
        _column("rev_tcp_flags", pa.uint16(), "", "29305/6", "OR over the flow, dst to src"),
        _column("bytes", pa.uint64(), "B", "1", "layer 3, src to dst, as observed, not scaled by sampling"),
        _column("packets", pa.uint64(), "packets", "2", "src to dst, as observed"),
        _column("rev_bytes", pa.uint64(), "B", "29305/1", "dst to src; null = one-way record, 0 = no reply"),
        _column("rev_packets", pa.uint64(), "packets", "29305/2", "dst to src; null = one-way record, 0 = no reply"),
        _column("icmp_type", pa.uint8(), "", "176,178", "never folded into a port"),
        _column("icmp_code", pa.uint8(), "", "177,179", "never folded into a port"),
        _column("tos", pa.uint8(), "", "5", "DSCP and ECN"),
        _column("end_reason", pa.uint8(), "", "136", "1 idle, 2 active, 3 end seen, 4 forced, 5 resources"),
        _column("sampling_rate", pa.uint32(), "1 in N", "34,305", "1 = unsampled, 0 = unknown"),
        _column("exporter", TEXT, "", "130,149", "address/observation domain of the device"),
        _column("site", TEXT, "", "", "from configuration; one graph never spans two sites"),
        _column("app", TEXT, "", "95,96", "layer 7 name or nDPI id"),
        _column("label", TEXT, "", "", "ground truth: benign, malicious or background"),
        _column("attack", TEXT, "", "", "ground truth: name of the attack"),
    ],
    metadata={"schema_version": SCHEMA_VERSION},
)
SOURCE_ROW: Final = _column("source_row", pa.int64(), "row", "", "row in the file or file set, good and bad alike")
BATCH_SCHEMA: Final[pa.Schema] = FLOW_SCHEMA.append(SOURCE_ROW)
_OPTIONAL: Final[Mapping[str, pa.DataType]] = {"head": pa.binary()}
_REQUIRED: Final = ("src_addr", "dst_addr", "site")  # without nulls: a flow has two ends and belongs to one site

REJECTED_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        pa.field("reason", pa.utf8(), nullable=False),
        pa.field("origin", pa.utf8(), nullable=False),  # file or exporter
        pa.field("source_row", pa.int64()),
        pa.field("raw", pa.binary(), nullable=False),  # the record as it came
    ]
)


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """Some flows in arrival order, checked once, here; raises ConfigError that names the column at fault.

    Args:
        table: E rows of BATCH_SCHEMA, then any of the optional `probe.*` (float32) and `head` (binary) columns.
        position: where the source stands after this batch; opaque, only handed back to `Source.commit`.
        rejected: records that could not be read, rows of REJECTED_SCHEMA.
        now_us: a live source's clock, microseconds UTC. An empty batch with a clock lets windows close in a quiet
            network; None for files, whose time is only what their flows say.
    """

    table: pa.Table
    position: Any = None
    rejected: pa.Table = field(default_factory=REJECTED_SCHEMA.empty_table)
    now_us: int | None = None

    def __post_init__(self) -> None:
        check_flows(self.table)
        if self.rejected.schema != REJECTED_SCHEMA:
            raise ConfigError(f"flow batch: rejected records have columns {self.rejected.schema.names}, "
                              f"expected {REJECTED_SCHEMA.names}")  # fmt: skip

    def __len__(self) -> int:
        return int(self.table.num_rows)


EDGE_FEATURES: Final[Mapping[str, str]] = {
    "bytes": "B",
    "packets": "packets",
    "rev_bytes": "B",
    "rev_packets": "packets",
    "duration_us": "us",
    "src_port": "",
    "dst_port": "",
    "proto": "",
    "tcp_flags": "",
    "rev_tcp_flags": "",
}  # column of FLOW_SCHEMA and its unit, in the order of `FlowGraph.edge_features`


def check_flows(table: pa.Table) -> None:
    """Raise ConfigError unless `table` has BATCH_SCHEMA first, in order, and only optional columns after."""
    names = table.schema.names
    for place, wanted in enumerate(BATCH_SCHEMA):
        if place >= len(names) or names[place] != wanted.name:
            found = names[place] if place < len(names) else "nothing"
            raise ConfigError(
                f"flow batch: column {place} is `{found}`, expected `{wanted.name}`; build the table with `flow_table`"
            )
        _check_type(table.schema.field(place), wanted.type)
    for extra in list(table.schema)[len(BATCH_SCHEMA) :]:
        wanted_type = pa.float32() if extra.name.startswith("probe.") else _OPTIONAL.get(extra.name)
        if wanted_type is None:
            raise ConfigError(f"flow batch: unknown column `{extra.name}`; optional columns are `head` and `probe.*`")
        _check_type(extra, wanted_type)
    for name in _REQUIRED:
        if table[name].null_count:
            raise ConfigError(
                f"flow batch: column `{name}` has {table[name].null_count} nulls; reject such records at the source"
            )


def _check_type(column: pa.Field, wanted: pa.DataType) -> None:
    if column.type != wanted:
        raise ConfigError(
            f"flow batch: column `{column.name}` is {column.type}, expected {wanted}; cast it at the source"
        )


def flow_table(columns: Mapping[str, Any], rows: int) -> pa.Table:
    """Complete `columns` to BATCH_SCHEMA: absent columns become null, `site` becomes "default". No copies.

    Args:
        columns: name to Arrow array, NumPy array or list, each of length `rows`; plain text is dictionary-encoded.
        rows: number of flows E, so that a batch without columns still has a length.

    Raises:
        ConfigError: a column that no schema knows or that cannot be cast.
    """
    given = {"site": constant("default", rows), **columns}
    extra = sorted(set(given) - set(BATCH_SCHEMA.names))
    fields = list(BATCH_SCHEMA) + [pa.field(name, _OPTIONAL.get(name, pa.float32())) for name in extra]
    arrays = [_as(given.get(wanted.name), wanted, rows) for wanted in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=FLOW_SCHEMA.metadata))


def _as(values: Any, wanted: pa.Field, rows: int) -> pa.Array | pa.ChunkedArray:
    if values is None:
        return nulls(wanted.type, rows)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    try:
        array = values if isinstance(values, pa.Array) else pa.array(values)
        if array.type == wanted.type:
            return array
        if pa.types.is_dictionary(wanted.type) and not pa.types.is_dictionary(array.type):
            array = array.cast(pa.utf8()).dictionary_encode()
        return array.cast(wanted.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ConfigError(f"flow table: column `{wanted.name}` cannot become {wanted.type}: {error}") from error


def nulls(type_: pa.DataType, rows: int) -> pa.Array:
    """`rows` nulls of `type_`; for dictionary types with an empty dictionary."""
    if pa.types.is_dictionary(type_):
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], type_.value_type))
    return pa.nulls(rows, type_)


def constant(text: str, rows: int) -> pa.DictionaryArray:
    """`rows` times the same text, dictionary-encoded."""
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([text], pa.utf8()))


def empty_flows() -> pa.Table:
    """No flows, with every column."""
    return flow_table({"src_addr": [], "dst_addr": []}, 0)


def split_by_site(table: pa.Table) -> Iterator[tuple[str, pa.Table, NDArray[np.int64]]]:
    """Yield each site, its flows and their rows, int64, in order of first appearance; no copy where there is one."""
    column = table["site"].unify_dictionaries().combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no chunks at all
        return
    names, codes = column.dictionary.to_pylist(), column.indices.to_numpy()
    present, first = np.unique(codes, return_index=True) if len(names) > 1 else (codes[:1], np.zeros(1))
    for code in present[np.argsort(first)] if len(names) > 1 else present:
        rows = np.flatnonzero(codes == code) if len(present) > 1 else np.arange(len(codes))
        yield names[code], table.take(rows) if len(present) > 1 else table, rows


def service_codes(flows: pa.Table) -> NDArray[np.int64]:
    """Protocol and the port that a server listens on, one number per flow; the lower port where it speaks first."""
    src, dst, proto = (
        _filled(flows[name], missing) for name, missing in (("src_port", 0), ("dst_port", _NO_PORT), ("proto", 255))
    )
    reply = (src > 0) & (src < 1024) & (dst >= 1024)
    return np.where(reply, src, dst) + proto * (2 * _NO_PORT)


def _filled(column: pa.ChunkedArray, missing: int) -> NDArray[np.int64]:
    return np.asarray(column.cast(pa.int64()).fill_null(missing).to_numpy(), np.int64)


def service_name(code: int) -> str:
    """Write a service code for people: 22/tcp, icmp, proto47; "any" where the source has no protocols."""
    proto, port = divmod(code, 2 * _NO_PORT)
    name = PROTOCOL_NAMES.get(proto, "any" if proto == 255 else f"proto{proto}")
    return name if port in (0, _NO_PORT) else f"{port}/{name}"
