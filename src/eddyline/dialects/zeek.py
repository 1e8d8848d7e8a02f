"""`zeek`: conn.log, TSV or JSON lines, rotated and compressed or not; two-way records, originator to responder.

Bytes are orig_ip_bytes and resp_ip_bytes: layer 3 as everywhere here, while orig_bytes counts payload only. TCP flags
are what `history` tells (upper case is the originator; a data segment counts as ACK, PSH is not told), and ICMP type
and code stand in the port fields. `end_reason` is "end seen" where TCP closed the connection. Times are seconds since
1970 or ISO text; JSON::TS_MILLIS is refused as out of range. Other logs beside conn.log have other columns: name the
files, `file://logs/conn.*.log.gz?dialect=zeek`. In JSON where all logs are one stream, `_path` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.normalized import icmp_of_zeek, versioned
from eddyline.dialects.values import known_values
from eddyline.flows import PROTOCOLS

_SEEN: Final = {"s": 2, "h": 18, "a": 16, "d": 16, "f": 1, "r": 4, "i": 5, "q": 2}  # history letter to TCP flags
_CLOSED: Final = ("SF", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH")
_END_SEEN: Final = 3
_TEXT: Final = "_path id.orig_h id.resp_h proto service conn_state history".split()
_NUMBERS: Final = "ts duration id.orig_p id.resp_p ip_proto orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes".split()


def _read(raw: RawColumns) -> dict[str, Any]:
    log = raw.text("_path")
    if log is not None:
        raw.skip(pc.not_equal(log.cast(pa.utf8()), "conn").fill_null(False).to_numpy(zero_copy_only=False))
    columns: dict[str, Any] = raw.interval(raw.times("ts"), None, raw.spans("duration"))
    columns |= raw.addresses("id.orig_h", "id.resp_h", only_ip=True)
    proto = _protocol(raw, columns["src_addr"])
    sport, dport = raw.raw_port("id.orig_p"), raw.raw_port("id.resp_p")
    return columns | {
        "proto": proto,
        "src_port": raw.port("id.orig_p", sport, proto),
        "dst_port": raw.port("id.resp_p", dport, proto),
        "tcp_flags": _of_tcp(raw.mapped("history", _originator, pa.uint16(), "history"), proto),
        "rev_tcp_flags": _of_tcp(raw.mapped("history", _responder, pa.uint16(), "history"), proto),
        "bytes": raw.integer("orig_ip_bytes", pa.uint64()),
        "packets": raw.integer("orig_pkts", pa.uint64()),
        "rev_bytes": raw.integer("resp_ip_bytes", pa.uint64()),
        "rev_packets": raw.integer("resp_pkts", pa.uint64()),
        **icmp_of_zeek(proto, sport, dport),
        "end_reason": _of_tcp(raw.mapped("conn_state", _end_reason, pa.uint8(), "state"), proto),
        "sampling_rate": raw.constant(1, pa.uint32()),
        "app": raw.text("service"),
    }


def _protocol(raw: RawColumns, src: pa.DictionaryArray) -> pa.Array | None:
    """The number where the log has one (since Zeek 7), else the name: tcp, udp, icmp or unknown_transport."""
    number, named = raw.integer("ip_proto", pa.uint8()), versioned(raw.protocol("proto"), src)
    return named if number is None or named is None else pc.coalesce(number, named)


def _originator(history: str) -> int:
    return _flags(letter.lower() for letter in history if letter.isupper())


def _responder(history: str) -> int:
    return _flags(letter for letter in history if letter.islower())


def _flags(letters: Iterable[str]) -> int:
    """OR of the flags behind the letters; those of gaps, checksums, retransmits and flips say nothing of flags."""
    flags = 0
    for letter in letters:
        flags |= _SEEN.get(letter, 0)
    return flags


def _end_reason(state: str) -> int | None:
    return _END_SEEN if state in _CLOSED else None


def _of_tcp(values: pa.Array | None, proto: pa.Array | None) -> pa.Array | None:
    """`values`, null where the flow is not TCP."""
    if values is None or proto is None:
        return None
    tcp = known_values(proto, 0)[0] == PROTOCOLS["tcp"]
    return pc.if_else(pa.array(np.asarray(tcp)), values, pa.scalar(None, values.type))


ZEEK: Final = Dialect(
    name="zeek",
    required=(("ts",), ("id.orig_h",), ("id.resp_h",), ("proto",), ("orig_ip_bytes",), ("resp_ip_bytes",)),
    read=_read,
    columns=frozenset(_TEXT + _NUMBERS),
    text=frozenset(_TEXT),
)
