"""`ugr16`: the weekly CSV files of UGR'16, 13 columns without a header line; one-way records that nfdump wrote.

The time is the end of a flow, local time of Granada without a zone: add `zone=Europe/Madrid` to the URL, or it is taken
as UTC. ICMP stands in the destination port, as type * 256 + code or as TYPE.CODE. Sampling is not known. `background`
is background; every other label, `blacklist` included, is malicious and names the attack.
"""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.pmacct import icmp_of_port
from eddyline.dialects.values import Numbers, known_values, named_attack, parse_port

_HEADER: Final = tuple("te td sa da sp dp pr flg fwd stos pkt byt lbl".split())
_FLAGS: Final = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}


def _read(raw: RawColumns) -> dict[str, Any]:
    columns: dict[str, Any] = raw.interval(None, raw.times("te"), raw.spans("td"))
    columns |= raw.addresses("sa", "da", only_ip=True)
    proto = raw.protocol("pr")
    dport = _dport(raw)
    label = raw.text("lbl", lambda text: "background" if text.lower() == "background" else "malicious")
    return columns | {
        "proto": proto,
        "src_port": raw.port("sp", raw.raw_port("sp"), proto),
        "dst_port": raw.port("dp", dport, proto),
        "tcp_flags": raw.mapped("flg", _flags, pa.uint16(), "TCP flags"),
        "bytes": raw.integer("byt", pa.uint64()),
        "packets": raw.integer("pkt", pa.uint64()),
        **icmp_of_port(proto, dport),
        "tos": raw.integer("stos", pa.uint8()),
        "sampling_rate": raw.constant(0, pa.uint32()),
        "label": label,
        "attack": named_attack(label, raw.text("lbl")),
    }


def _dport(raw: RawColumns) -> Numbers | None:
    found = raw.mapped("dp", _port_or_icmp, pa.int64(), "port or ICMP type and code")
    return None if found is None else known_values(found, 0)


def _port_or_icmp(text: str) -> int:
    type_, dot, code = text.partition(".")
    if not dot:
        return parse_port(text)
    if not (type_.isdecimal() and code.isdecimal() and int(type_) <= 255 and int(code) <= 255):
        raise ValueError(text)
    return int(type_) << 8 | int(code)


def _flags(text: str) -> int:
    """Flags from letters and points, as in .AP.SF."""
    letters = set(text) - {"."}
    if not letters <= _FLAGS.keys():
        raise ValueError(text)
    return sum(_FLAGS[letter] for letter in letters)


UGR16: Final = Dialect(
    name="ugr16",
    required=(("te",), ("td",), ("sa",), ("da",), ("pr",), ("pkt",), ("byt",)),
    read=_read,
    columns=frozenset(_HEADER) - {"fwd"},
    text=frozenset("sa da pr flg lbl".split()),
    header=_HEADER,
)
