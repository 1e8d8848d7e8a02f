"""`suricata`: the flow events of eve.json, two-way; `suricata-netflow`: its netflow events, one-way. Take one of them.

A file with both events tells every flow twice, so each dialect reads its own; the events of other types between are no
flows and are counted as other records. Times are flow.start and flow.end with their zone (`timestamp` is when the event
was written). Bytes are as captured, link layer included, as with argus. TCP flags are hexadecimal. A flow that TCP
closed has "end seen", another one that was cut by the end of Suricata "forced". The exporter is `host`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns

_TEXT: Final = "event_type src_ip dest_ip proto app_proto host".split()
_NUMBERS: Final = "src_port dest_port icmp_type icmp_code".split()
_FLOW: Final = "pkts_toserver pkts_toclient bytes_toserver bytes_toclient start end state reason".split()
_REASONS: Final = {"timeout": 1, "forced": 4, "shutdown": 4}
_END_SEEN: Final = 3
_UNKNOWN: Final = ("failed", "unknown")


def _read_flow(raw: RawColumns) -> dict[str, Any]:
    _only(raw, "flow")
    return _common(raw, "flow") | {
        "tcp_flags": raw.mapped("tcp.tcp_flags_ts", _hexadecimal, pa.uint16(), "TCP flags"),
        "rev_tcp_flags": raw.mapped("tcp.tcp_flags_tc", _hexadecimal, pa.uint16(), "TCP flags"),
        "bytes": raw.integer("flow.bytes_toserver", pa.uint64()),
        "packets": raw.integer("flow.pkts_toserver", pa.uint64()),
        "rev_bytes": raw.integer("flow.bytes_toclient", pa.uint64()),
        "rev_packets": raw.integer("flow.pkts_toclient", pa.uint64()),
        "end_reason": _end_reason(raw),
    }


def _read_netflow(raw: RawColumns) -> dict[str, Any]:
    _only(raw, "netflow")
    return _common(raw, "netflow") | {
        "tcp_flags": raw.mapped("tcp.tcp_flags", _hexadecimal, pa.uint16(), "TCP flags"),
        "bytes": raw.integer("netflow.bytes", pa.uint64()),
        "packets": raw.integer("netflow.pkts", pa.uint64()),
    }


def _only(raw: RawColumns, event: str) -> None:
    """Events of other types are no flows; one without a type is a fault of the file and is read, and refused."""
    kind = raw.text("event_type")
    if kind is not None:
        other = pc.not_equal(kind.cast(pa.utf8()), event).fill_null(False)
        raw.skip(other.to_numpy(zero_copy_only=False))


def _common(raw: RawColumns, event: str) -> dict[str, Any]:
    columns: dict[str, Any] = raw.interval(raw.times(f"{event}.start"), raw.times(f"{event}.end"), None)
    columns |= raw.addresses("src_ip", "dest_ip", only_ip=True)
    proto = raw.protocol("proto")
    return columns | {
        "proto": proto,
        "src_port": raw.port("src_port", raw.raw_port("src_port"), proto),
        "dst_port": raw.port("dest_port", raw.raw_port("dest_port"), proto),
        "icmp_type": raw.integer("icmp_type", pa.uint8()),
        "icmp_code": raw.integer("icmp_code", pa.uint8()),
        "sampling_rate": raw.constant(1, pa.uint32()),
        "exporter": raw.text("host"),
        "app": raw.text("app_proto", lambda text: None if text in _UNKNOWN else text),
    }


def _end_reason(raw: RawColumns) -> pa.Array | None:
    reason, state = raw.mapped("flow.reason", _REASONS.get, pa.uint8(), "reason"), raw.text("flow.state")
    if reason is None or state is None:
        return reason
    closed = pc.equal(state.cast(pa.utf8()), "closed").fill_null(False)
    return pc.if_else(closed, pa.scalar(_END_SEEN, pa.uint8()), reason)


def _hexadecimal(text: str) -> int:
    value = int(text, 16)
    if not 0 <= value <= np.iinfo(np.uint16).max:
        raise ValueError(text)
    return value


SURICATA: Final = Dialect(
    name="suricata",
    required=(("event_type",), ("timestamp",), ("src_ip",), ("dest_ip",)),
    read=_read_flow,
    columns=frozenset([*_TEXT, *_NUMBERS, *(f"flow.{name}" for name in _FLOW), "tcp.tcp_flags_ts", "tcp.tcp_flags_tc"]),
    text=frozenset([*_TEXT, "flow.state", "flow.reason"]),
)
SURICATA_NETFLOW: Final = Dialect(
    name="suricata-netflow",
    required=(("event_type",), ("timestamp",), ("src_ip",), ("dest_ip",), ("netflow.pkts",)),
    read=_read_netflow,
    columns=frozenset([*_TEXT, *_NUMBERS, *(f"netflow.{name}" for name in ("pkts", "bytes", "start", "end")),
                       "tcp.tcp_flags"]),
    text=frozenset(_TEXT),
)  # fmt: skip
