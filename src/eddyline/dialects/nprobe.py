"""`nprobe`: NetFlow v9 names as nProbe writes them, and the NF-*-v1, v2 and v3 data sets; CSV, JSON lines or Parquet.

IN is source to destination, OUT the answer; without OUT columns the records are one-way. NF-*-v1 and v2 have no time:
their rows keep file order. FIRST_SWITCHED and LAST_SWITCHED are seconds since 1970, never uptime. L7_PROTO may be
fractional (master.app) and stays text. ICMP_TYPE is type * 256 + code and holds rubbish outside ICMP. The extra
columns of v2 and v3 become `probe.*`. JSON with numeric field ids instead of names is not read: switch the labels on.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.dialects import Dialect
from eddyline.dialects.columns import RawColumns
from eddyline.dialects.values import (
    MICROSECOND_US,
    MILLISECOND_US,
    SECOND_US,
    Numbers,
    known_values,
    named_attack,
    parse_truth,
)

PROBE: Final = tuple(
    "duration_in duration_out min_ttl max_ttl longest_flow_pkt shortest_flow_pkt min_ip_pkt_len max_ip_pkt_len "
    "src_to_dst_second_bytes dst_to_src_second_bytes retransmitted_in_bytes retransmitted_in_pkts "
    "retransmitted_out_bytes retransmitted_out_pkts src_to_dst_avg_throughput dst_to_src_avg_throughput "
    "num_pkts_up_to_128_bytes num_pkts_128_to_256_bytes num_pkts_256_to_512_bytes num_pkts_512_to_1024_bytes "
    "num_pkts_1024_to_1514_bytes tcp_win_max_in tcp_win_max_out dns_query_id dns_query_type dns_ttl_answer "
    "ftp_command_ret_code src_to_dst_iat_min src_to_dst_iat_max src_to_dst_iat_avg src_to_dst_iat_stddev "
    "dst_to_src_iat_min dst_to_src_iat_max dst_to_src_iat_avg dst_to_src_iat_stddev".split()
)
_STARTS: Final = {"flow_start_milliseconds": MILLISECOND_US, "flow_start_microseconds": MICROSECOND_US,
                  "flow_start_sec": SECOND_US, "first_switched": SECOND_US}  # fmt: skip
_ENDS: Final = {"flow_end_milliseconds": MILLISECOND_US, "flow_end_microseconds": MICROSECOND_US,
                "flow_end_sec": SECOND_US, "last_switched": SECOND_US}  # fmt: skip
_TEXT: Final = ("ipv4_src_addr ipv4_dst_addr ipv6_src_addr ipv6_dst_addr protocol l7_proto l7_proto_name "
                "exporter_ipv4_address exporter_ipv6_address label attack").split()  # fmt: skip
_NUMBERS: Final = ("l4_src_port l4_dst_port in_bytes in_pkts out_bytes out_pkts tcp_flags client_tcp_flags "
                   "server_tcp_flags src_tos flow_duration_milliseconds icmp_type sampling_interval "
                   "flow_end_reason").split()  # fmt: skip


def _read(raw: RawColumns) -> dict[str, Any]:
    columns: dict[str, Any] = raw.interval(
        _time(raw, _STARTS), _time(raw, _ENDS), raw.spans("flow_duration_milliseconds", MILLISECOND_US)
    )
    src, dst = _addresses(raw, "src"), _addresses(raw, "dst")
    columns |= raw.addresses(src, dst, only_ip=True)
    proto = raw.protocol("protocol", only_ip=True)
    label = raw.text("label", parse_truth)
    sampling = raw.integer("sampling_interval", pa.uint32())
    two_sided = "client_tcp_flags" in raw.table.column_names
    return columns | {
        "proto": proto,
        "src_port": raw.port("l4_src_port", raw.raw_port("l4_src_port"), proto),
        "dst_port": raw.port("l4_dst_port", raw.raw_port("l4_dst_port"), proto),
        "tcp_flags": raw.integer("client_tcp_flags" if two_sided else "tcp_flags", pa.uint16()),
        "rev_tcp_flags": raw.integer("server_tcp_flags", pa.uint16()) if two_sided else None,
        "bytes": raw.integer("in_bytes", pa.uint64()),
        "packets": raw.integer("in_pkts", pa.uint64()),
        "rev_bytes": raw.integer("out_bytes", pa.uint64()),
        "rev_packets": raw.integer("out_pkts", pa.uint64()),
        **_icmp(proto, raw.numbers("icmp_type", whole=True)),
        "tos": raw.integer("src_tos", pa.uint8()),
        "end_reason": raw.integer("flow_end_reason", pa.uint8()),
        "sampling_rate": raw.constant(0, pa.uint32()) if sampling is None else sampling.fill_null(0),
        "exporter": raw.text(raw.first("exporter_ipv4_address", "exporter_ipv6_address")),
        "app": raw.text(raw.first("l7_proto_name", "l7_proto"), lambda text: text.removesuffix(".0")),
        "label": label,
        "attack": named_attack(label, raw.text("attack")),
        **{f"probe.{name}": raw.probe(name) for name in PROBE if name in raw.table.column_names},
    }


def _time(raw: RawColumns, units: dict[str, int]) -> Numbers | None:
    name = raw.first(*units)
    return raw.times(name, units[name])


def _addresses(raw: RawColumns, end: str) -> str:
    """The column to read; where records have both versions, IPv6 where IPv4 is empty or 0.0.0.0, put into `raw`."""
    four, six = f"ipv4_{end}_addr", f"ipv6_{end}_addr"
    old, new = raw.column(four), raw.column(six)
    if old is None or new is None:
        return four if new is None else six
    old, new = old.cast(pa.utf8()), new.cast(pa.utf8())
    empty = pc.is_in(old, pa.array(["", "0.0.0.0", None]))  # noqa: S104  # nProbe's "no address"
    used = pc.and_(empty, pc.invert(pc.is_in(new, pa.array(["", "::", None]))))
    either = f"IPV4_OR_IPV6_{end.upper()}_ADDR"  # names of the file's own are lower case
    raw.table = raw.table.append_column(either, pc.if_else(used, new, old))
    return either


def _icmp(proto: pa.Array | None, numbers: Numbers | None) -> dict[str, pa.Array]:
    if proto is None or numbers is None:
        return {}
    values, known = numbers
    icmp = known & np.isin(known_values(proto, 0)[0], (1, 58)) & (values >= 0) & (values < 1 << 16)
    parts = {"icmp_type": values >> 8, "icmp_code": values & 255}
    return {name: pa.array(np.where(icmp, part, 0), pa.uint8(), mask=~icmp) for name, part in parts.items()}


NPROBE: Final = Dialect(
    name="nprobe",
    required=(("ipv4_src_addr", "ipv6_src_addr"), ("ipv4_dst_addr", "ipv6_dst_addr"), ("protocol",), ("in_bytes",),
              ("in_pkts",)),
    read=_read,
    columns=frozenset([*_TEXT, *_NUMBERS, *PROBE, *_STARTS, *_ENDS]),
    text=frozenset(_TEXT),
)  # fmt: skip
