"""`goflow2`: JSON lines of goflow2 v2, from a file or its Kafka topic; one-way records with snake_case names.

Times are nanoseconds since 1970, and 0 where the exporter gave none: then the time of receipt stands for them. Where
goflow2 makes the end of a flow lie over a minute after its receipt (it subtracts 32-bit uptimes in 64 bits, so a wrap
lands far off), the flow is moved back to then. `bytes` and `packets` are as observed. goflow2 writes both directions of
a two-way record into them, the last one wins: exporters of two-way records (nProbe, ASA, YAF) need another collector.
`proto` is a name or a number. The exporter is sampler_address/observation_domain_id, as our own collector writes it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns, exporters
from eddyline.dialects.values import Numbers, cast_or_none, known_values, parse_time, parse_whole
from eddyline.flows import PROTOCOLS

_TEXT: Final = "src_addr dst_addr proto sampler_address".split()
_NUMBERS: Final = ("time_received_ns time_flow_start_ns time_flow_end_ns src_port dst_port bytes packets tcp_flags "
                   "icmp_type icmp_code ip_tos sampling_rate observation_domain_id").split()  # fmt: skip
_ICMP: Final = (PROTOCOLS["icmp"], PROTOCOLS["icmpv6"])
_AHEAD_US: Final = 5_000_000  # half the time that windows wait for stragglers, so that nobody else becomes late


def _read(raw: RawColumns) -> dict[str, Any]:
    start, end = _times(raw)
    columns: dict[str, Any] = raw.interval(start, end, None)
    columns |= raw.addresses("src_addr", "dst_addr", only_ip=True)
    proto = raw.protocol("proto")
    sampling = raw.integer("sampling_rate", pa.uint32())
    return columns | {
        "proto": proto,
        "src_port": raw.port("src_port", raw.raw_port("src_port"), proto),
        "dst_port": raw.port("dst_port", raw.raw_port("dst_port"), proto),
        "tcp_flags": raw.integer("tcp_flags", pa.uint16()),
        "bytes": raw.integer("bytes", pa.uint64()),
        "packets": raw.integer("packets", pa.uint64()),
        "icmp_type": _icmp(raw, "icmp_type", proto),
        "icmp_code": _icmp(raw, "icmp_code", proto),
        "tos": raw.integer("ip_tos", pa.uint8()),
        "sampling_rate": raw.constant(0, pa.uint32()) if sampling is None else sampling.fill_null(0),
        "exporter": exporters(raw, "sampler_address", "observation_domain_id"),
    }


def _times(raw: RawColumns) -> tuple[Numbers, Numbers]:
    """Start and end, the time of receipt where they are not known, and never over five seconds after it."""
    received = _microseconds(raw, "time_received_ns")
    start, end = (_or(_microseconds(raw, f"time_flow_{which}_ns"), received) for which in ("start", "end"))
    start = np.where(start[1], start[0], end[0]), start[1] | end[1]
    ahead: NDArray[np.bool_] = received[1] & end[1] & (end[0] > received[0] + _AHEAD_US)
    back = np.where(ahead, end[0] - received[0], 0)
    return (np.minimum(start[0] - back, np.where(ahead, received[0], start[0])), start[1]), (end[0] - back, end[1])


def _or(times: Numbers, other: Numbers) -> Numbers:
    return np.where(times[1], times[0], other[0]), times[1] | other[1]


def _microseconds(raw: RawColumns, name: str) -> Numbers:
    """Microseconds from whole nanoseconds, or from ISO text where goflow2 was told to write that; 0 is not known."""
    column = raw.plain(name)
    if column is None:
        return np.zeros(raw.table.num_rows, np.int64), np.zeros(raw.table.num_rows, np.bool_)
    if pa.types.is_string(column.type) and cast_or_none(column, pa.int64()) is None:
        values, known = known_values(raw.mapped(name, _parse_nanoseconds, pa.int64(), "time"), 0)
    elif pa.types.is_temporal(column.type):
        values, known = raw.times(name) or (np.zeros(0, np.int64), np.zeros(0, np.bool_))
    else:
        values, known = raw.numbers(name, whole=True) or (np.zeros(0, np.int64), np.zeros(0, np.bool_))
        values = values // 1000
    raw.refuse(known & (values < 0), f"column `{name}` is out of range")
    return values, known & (values > 0)


def _parse_nanoseconds(text: str) -> int:
    try:
        return parse_whole(text) // 1000
    except ValueError:
        return parse_time(text, 1)


def _icmp(raw: RawColumns, name: str, proto: pa.Array | None) -> pa.Array | None:
    """Null outside ICMP, where goflow2 writes 0."""
    values = raw.integer(name, pa.uint8())
    if values is None or proto is None:
        return None
    icmp = np.isin(known_values(proto, 0)[0], _ICMP)
    return pc.if_else(pa.array(icmp), values, pa.scalar(None, pa.uint8()))


GOFLOW2: Final = Dialect(
    name="goflow2",
    required=(("src_addr",), ("dst_addr",), ("proto",), ("bytes",), ("time_received_ns", "time_flow_end_ns")),
    read=_read,
    columns=frozenset(_TEXT + _NUMBERS),
    text=frozenset(_TEXT),
)
