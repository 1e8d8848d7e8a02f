"""`argus`: `ra` output and CTU-13 `.binetflow`, comma- or tab-separated, columns by name.

StartTime without a zone is taken as UTC. Ports may be decimal, hexadecimal, well-known service names, or empty; ICMP
carries code << 8 | type where the source port stands. Packets cannot be split unless SrcPkts is there: then `packets`
is the total and `rev_packets` null. Bytes are as argus counts them, link layer included. Hosts may be MAC addresses;
protocols that are not on IP are null. Argus' own management records (`man`) are no flows and are rejected.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import Numbers, known_values

_FLAGS: Final = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}
_TRUTH: Final = {"malicious": ("botnet", "malware"), "benign": ("normal", "benign"), "background": ("background",)}
_TEXT: Final = "proto srcaddr dstaddr state stos label".split()
_NUMBERS: Final = "starttime dur sport dport totpkts totbytes srcbytes srcpkts".split()


def _read(raw: RawColumns) -> dict[str, Any]:
    kind = raw.text("proto", str.lower)
    if kind is not None:
        raw.refuse(known_values(pc.equal(kind, "man"), False)[0], "argus management record, no flow")
    columns: dict[str, Any] = raw.interval(raw.times("starttime"), None, raw.spans("dur"))
    columns |= raw.addresses("srcaddr", "dstaddr", only_ip=False)
    proto = raw.protocol("proto")
    sport = raw.raw_port("sport")
    packets, rev_packets = _halves(raw, "totpkts", "srcpkts")
    bytes_, rev_bytes = _halves(raw, "totbytes", "srcbytes")
    return columns | {
        "proto": proto,
        "src_port": raw.port("sport", sport, proto),
        "dst_port": raw.port("dport", raw.raw_port("dport"), proto),
        "tcp_flags": _flags(raw, proto, 0),
        "rev_tcp_flags": _flags(raw, proto, 1),
        "bytes": bytes_,
        "packets": packets,
        "rev_bytes": rev_bytes,
        "rev_packets": rev_packets,
        **icmp_of_argus(proto, sport),
        "tos": raw.integer("stos", pa.uint8()),
        "sampling_rate": raw.constant(1, pa.uint32()),
        "label": raw.text("label", _label),
        "attack": raw.text("label", _attack),
    }


def icmp_of_argus(proto: pa.Array | None, sport: Numbers | None) -> dict[str, pa.Array]:
    """ICMP type and code from the source port, code << 8 | type; null where the type is none that IANA has assigned."""
    if proto is None or sport is None:
        return {}
    values, known = sport
    protocol = known_values(proto, 0)[0]
    type_, code = values & 255, values >> 8
    icmp = known & (values >= 0) & (code <= 255) & (((protocol == 1) & (type_ <= 43)) | (protocol == 58))
    parts = {"icmp_type": type_, "icmp_code": code}
    return {name: pa.array(np.where(icmp, part, 0), pa.uint8(), mask=~icmp) for name, part in parts.items()}


def _halves(raw: RawColumns, total: str, src: str) -> tuple[pa.Array | None, pa.Array | None]:
    """Both directions from a total and the source's part; the total alone stays whole, and the other half null."""
    both, first = raw.numbers(total, whole=True), raw.numbers(src, whole=True)
    if both is None or first is None:
        name, numbers = (total, both) if first is None else (src, first)
        return (None if numbers is None else raw.bounded(name, numbers, pa.uint64())), None
    rest = both[0] - first[0], both[1] & first[1]
    raw.refuse(rest[1] & (rest[0] < 0), f"column `{total}` is less than `{src}`")
    rest = rest[0], rest[1] & (rest[0] >= 0)
    return raw.bounded(src, first, pa.uint64()), raw.bounded(total, rest, pa.uint64())


def _flags(raw: RawColumns, proto: pa.Array | None, side: int) -> pa.Array | None:
    """Flags seen from the source (side 0) or the destination (1), as in FSPA_FSA; null for anything but TCP."""

    def bits(state: str) -> int | None:
        sides = state.split("_")
        if len(sides) != 2 or not set("".join(sides)) <= set(_FLAGS):
            return None
        return sum(_FLAGS[letter] for letter in set(sides[side]))

    flags = raw.mapped("state", bits, pa.uint16(), "state")
    if flags is None or proto is None:
        return None
    return pc.if_else(pc.equal(proto, 6), flags, pa.scalar(None, pa.uint16()))


def _label(text: str) -> str | None:
    words = text.lower()
    for label, parts in _TRUTH.items():
        if any(part in words for part in parts):
            return label
    return None


def _attack(text: str) -> str | None:
    return text.removeprefix("flow=") if _label(text) == "malicious" else None


ARGUS: Final = Dialect(
    name="argus",
    required=(("starttime",), ("srcaddr",), ("dstaddr",), ("proto",)),
    read=_read,
    columns=frozenset(_TEXT + _NUMBERS),
    text=frozenset(_TEXT),
)
