"""`pmacct`: JSON lines of nfacctd, pmacctd, sfacctd and uacctd, from a file or their Kafka topic; one-way records.

Which fields there are is the user's `aggregate`; without timestamp_start and timestamp_end the times are those of the
bin (stamp_inserted, stamp_updated), and a time of 0 is not known. Times are text in the collector's local time unless
it was told otherwise (timestamps_utc, timestamps_rfc3339, timestamps_since_epoch): name the zone then. tcp_flags is a
number, a number as text or a list of names, ip_proto a number or a name. The marks around a purge are no flows. Its
own `label` is no ground truth and is not read. With nfacctd_renormalize the counters are scaled: leave it off.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns, exporters
from eddyline.dialects.values import Numbers, known_values, parse_whole
from eddyline.flows import PROTOCOLS

_FLAGS: Final = {"FIN": 1, "SYN": 2, "RST": 4, "PSH": 8, "ACK": 16, "URG": 32, "ECE": 64, "ECN": 64, "CWR": 128}
_STARTS: Final = ("timestamp_start", "stamp_inserted")
_ENDS: Final = ("timestamp_end", "timestamp_arrival", "stamp_updated", "stamp_inserted")
_TEXT: Final = "event_type ip_src ip_dst ip_proto tcp_flags peer_ip_src export_proto_sysid class".split()
_NUMBERS: Final = "port_src port_dst tos packets bytes sampling_rate".split()
_MARKS: Final = ("purge_init", "purge_close")
_ICMP: Final = (PROTOCOLS["icmp"], PROTOCOLS["icmpv6"])


def _read(raw: RawColumns) -> dict[str, Any]:
    event = raw.text("event_type")
    if event is not None:
        raw.skip(pc.is_in(event.cast(pa.utf8()), pa.array(_MARKS)).to_numpy(zero_copy_only=False))
    columns: dict[str, Any] = raw.interval(_time(raw, _STARTS), _time(raw, _ENDS), None)
    columns |= raw.addresses("ip_src", "ip_dst", only_ip=True)
    proto = raw.protocol("ip_proto")
    dport = raw.raw_port("port_dst")
    sampling = raw.integer("sampling_rate", pa.uint32())
    return columns | {
        "proto": proto,
        "src_port": raw.port("port_src", raw.raw_port("port_src"), proto),
        "dst_port": raw.port("port_dst", dport, proto),
        "tcp_flags": raw.mapped("tcp_flags", _flags, pa.uint16(), "TCP flags"),
        "bytes": raw.integer("bytes", pa.uint64()),
        "packets": raw.integer("packets", pa.uint64()),
        **icmp_of_port(proto, dport),
        "tos": raw.integer("tos", pa.uint8()),
        "sampling_rate": raw.constant(0, pa.uint32()) if sampling is None else sampling.fill_null(0),
        "exporter": exporters(raw, "peer_ip_src", "export_proto_sysid"),
        "app": raw.text("class", lambda text: None if text == "unknown" else text),
    }


def _time(raw: RawColumns, names: tuple[str, ...]) -> Numbers | None:
    """The first of these columns that is known in a row."""
    best: Numbers | None = None
    for name in names:
        found = raw.times(name)
        if found is None:
            continue
        values, known = found[0], found[1] & (found[0] > 0)
        best = (values, known) if best is None else (np.where(best[1], best[0], values), best[1] | known)
    return best


def _flags(text: str) -> int:
    if not text.startswith("["):
        flags = parse_whole(text)
        if not 0 <= flags < 1 << 16:
            raise ValueError(text)
        return flags
    try:
        return sum({_FLAGS[name] for name in json.loads(text)})
    except (KeyError, TypeError) as error:
        raise ValueError(text) from error


def icmp_of_port(proto: pa.Array | None, dport: Numbers | None) -> dict[str, pa.Array]:
    """Type and code from the destination port, type * 256 + code, where exporters put them; 0 is not known."""
    if proto is None or dport is None:
        return {}
    values, known = dport
    icmp = known & np.isin(known_values(proto, 0)[0], _ICMP) & (values > 0) & (values < 1 << 16)
    parts = {"icmp_type": values >> 8, "icmp_code": values & 255}
    return {name: pa.array(np.where(icmp, part, 0), pa.uint8(), mask=~icmp) for name, part in parts.items()}


PMACCT: Final = Dialect(
    name="pmacct",
    required=(("ip_src",), ("ip_dst",), ("bytes",)),
    read=_read,
    columns=frozenset([*_TEXT, *_NUMBERS, *_STARTS, *_ENDS]),
    text=frozenset(_TEXT),
)
