"""`unsw`: the raw UNSW-NB15 files, 49 columns, with or without their header line.

Stime and Ltime are whole seconds, so a flow ends at the later of Ltime and Stime + dur. Ports may be hexadecimal or
"-"; argus wrote them, so ICMP stands where argus puts it. Bytes include the link layer. Protocols that are not on IP
(arp) are null. The training and testing sets made from these files have no addresses and cannot be read.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa

from eddyline.dialects import Dialect
from eddyline.dialects.argus import icmp_of_argus
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import Numbers, named_attack, parse_truth

_HEADER: Final = tuple(
    "srcip sport dstip dsport proto state dur sbytes dbytes sttl dttl sloss dloss service sload dload spkts dpkts swin "
    "dwin stcpb dtcpb smeansz dmeansz trans_depth res_bdy_len sjit djit stime ltime sintpkt dintpkt tcprtt synack "
    "ackdat is_sm_ips_ports ct_state_ttl ct_flw_http_mthd is_ftp_login ct_ftp_cmd ct_srv_src ct_srv_dst ct_dst_ltm "
    "ct_src_ltm ct_src_dport_ltm ct_dst_sport_ltm ct_dst_src_ltm attack_cat label".split()
)
_TEXT: Final = "srcip dstip proto service attack_cat label".split()
_NUMBERS: Final = "sport dsport dur sbytes dbytes spkts dpkts stime ltime".split()


def _read(raw: RawColumns) -> dict[str, Any]:
    start, duration = raw.times("stime"), raw.spans("dur")
    columns: dict[str, Any] = raw.interval(start, _later(raw.times("ltime"), start, duration), duration)
    columns |= raw.addresses("srcip", "dstip", only_ip=True)
    proto = raw.protocol("proto")
    sport = raw.raw_port("sport")
    label = raw.text("label", parse_truth)
    return columns | {
        "proto": proto,
        "src_port": raw.port("sport", sport, proto),
        "dst_port": raw.port("dsport", raw.raw_port("dsport"), proto),
        "bytes": raw.integer("sbytes", pa.uint64()),
        "packets": raw.integer("spkts", pa.uint64()),
        "rev_bytes": raw.integer("dbytes", pa.uint64()),
        "rev_packets": raw.integer("dpkts", pa.uint64()),
        **icmp_of_argus(proto, sport),
        "sampling_rate": raw.constant(1, pa.uint32()),
        "app": raw.text("service"),
        "label": label,
        "attack": named_attack(label, raw.text("attack_cat")),
    }


def _later(end: Numbers | None, start: Numbers | None, duration: Numbers | None) -> Numbers | None:
    if end is None or start is None or duration is None:
        return end
    lasting = np.where(start[1] & duration[1], start[0] + duration[0], 0)
    return np.where(end[1], np.maximum(end[0], lasting), lasting), end[1] | (start[1] & duration[1])


UNSW: Final = Dialect(
    name="unsw",
    required=(("srcip",), ("dstip",), ("proto",), ("stime",)),
    read=_read,
    columns=frozenset(_TEXT + _NUMBERS),
    text=frozenset(_TEXT),
    header=_HEADER,
)
