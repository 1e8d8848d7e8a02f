"""`normalized`: the evaluation layout `ts dur src sport dst dport proto spkts sbytes dpkts dbytes label attack`.

Only `src` and `dst` are required. Hosts may be any text (addresses, MAC addresses, AS numbers), and a row that is not
IP (ARP, LLDP) stays a flow with `proto` null. ICMP rows carry Zeek's reading of the ports: type in `sport`, and in
`dport` the code, or for request/reply messages the type of the answer; "icmp" between IPv6 hosts is ICMPv6. A bool
`attack` is the label, and then `label` holds the attack's name (DARPA). Sampling is not known.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import Numbers, known_values, named_attack, parse_truth

_ANSWERS: Final = ((8, 0), (13, 14), (15, 16), (17, 18), (10, 9), (128, 129), (130, 131), (133, 134), (135, 136),
                   (139, 140), (144, 145))  # fmt: skip  # ICMP and ICMPv6 types of requests and their replies
_PAIRS: Final = np.array([a << 16 | b for pair in _ANSWERS for a, b in (pair, pair[::-1])])


def _read(raw: RawColumns) -> dict[str, Any]:
    columns: dict[str, Any] = raw.interval(raw.times("ts"), None, raw.spans("dur"))
    columns |= raw.addresses("src", "dst", only_ip=False)
    proto = versioned(raw.protocol("proto"), columns["src_addr"])
    sport, dport = raw.raw_port("sport"), raw.raw_port("dport")
    label, attack = _truth(raw)
    return columns | {
        "proto": proto,
        "src_port": raw.port("sport", sport, proto),
        "dst_port": raw.port("dport", dport, proto),
        "bytes": raw.integer("sbytes", pa.uint64()),
        "packets": raw.integer("spkts", pa.uint64()),
        "rev_bytes": raw.integer("dbytes", pa.uint64()),
        "rev_packets": raw.integer("dpkts", pa.uint64()),
        **icmp_of_zeek(proto, sport, dport),
        "sampling_rate": raw.constant(0, pa.uint32()),
        "label": label,
        "attack": named_attack(label, attack),
    }


def _truth(raw: RawColumns) -> tuple[pa.DictionaryArray | None, pa.DictionaryArray | None]:
    if "attack" in raw.table.column_names and pa.types.is_boolean(raw.table["attack"].type):
        return raw.text("attack", parse_truth), raw.text("label")
    return raw.text("label", parse_truth), raw.text("attack")


def versioned(proto: pa.Array | None, src: pa.DictionaryArray) -> pa.Array | None:
    """Protocols in which ICMP between IPv6 hosts is ICMPv6: Zeek writes "icmp" for both."""
    if proto is None or not len(src.dictionary):
        return proto
    six = pc.match_substring(src.dictionary, ":").take(src.indices).fill_null(False)
    return pc.if_else(pc.and_(six, pc.equal(proto, 1)), pa.scalar(58, pa.uint8()), proto)


def icmp_of_zeek(proto: pa.Array | None, sport: Numbers | None, dport: Numbers | None) -> dict[str, pa.Array]:
    """ICMP type and code from where Zeek puts them: type in `sport`; in `dport` the code or the answer's type."""
    if proto is None or sport is None or dport is None:
        return {}
    (kind, has_kind), (code, has_code) = sport, dport
    icmp = np.isin(known_values(proto, 0)[0], (1, 58)) & has_kind & has_code & (kind <= 255) & (kind >= 0)
    code = np.where(np.isin(kind << 16 | code, _PAIRS), 0, code)
    icmp &= (code >= 0) & (code <= 255)
    values = {"icmp_type": kind, "icmp_code": code}
    return {name: pa.array(np.where(icmp, numbers, 0), pa.uint8(), mask=~icmp) for name, numbers in values.items()}


NORMALIZED: Final = Dialect(
    name="normalized",
    required=(("src",), ("dst",)),
    read=_read,
    columns=frozenset("ts dur src sport dst dport proto spkts sbytes dpkts dbytes label attack".split()),
    text=frozenset("src dst proto label attack".split()),
)
