"""NetFlow datagrams written out field by field, for tests that know every byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

EXPORTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "exports"
EXPORT_S = 1_700_000_000


def export(name: str) -> bytes:
    if not EXPORTS.exists():
        pytest.skip("the shared export fixtures are not beside this checkout")
    return (EXPORTS / name).read_bytes()


def address(text: str) -> bytes:
    return ip_address(text).packed


def v5_record(
    src: str,
    dst: str,
    sport: int,
    dport: int,
    proto: int,
    packets: int,
    octets: int,
    first: int,
    last: int,
    flags: int = 0,
) -> bytes:
    ends = address(src) + address(dst) + bytes(4) + struct.pack(">HH", 1, 2)
    counters = struct.pack(">IIII", packets, octets, first, last)
    return ends + counters + struct.pack(">HHBBBBHHBBH", sport, dport, 0, flags, proto, 0, 0, 0, 0, 0, 0)


def v5(
    records: Sequence[bytes],
    uptime: int = 100_000,
    sequence: int = 0,
    engine: int = 0,
    nsecs: int = 0,
    sampling: int = 0,
    secs: int = EXPORT_S,
) -> bytes:
    head = struct.pack(">HHIIIIHH", 5, len(records), uptime, secs, nsecs, sequence, engine, sampling)
    return head + b"".join(records)


def template_set(template_id: int, fields: Sequence[tuple[int, int]]) -> bytes:
    body = struct.pack(">HH", template_id, len(fields)) + b"".join(struct.pack(">HH", *field) for field in fields)
    return struct.pack(">HH", 0, 4 + len(body)) + body


def options_set(template_id: int, scope: Sequence[tuple[int, int]], fields: Sequence[tuple[int, int]]) -> bytes:
    body = struct.pack(">HHH", template_id, 4 * len(scope), 4 * len(fields))
    body += b"".join(struct.pack(">HH", *field) for field in [*scope, *fields])
    body += bytes(-len(body) % 4)
    return struct.pack(">HH", 1, 4 + len(body)) + body


def data_set(template_id: int, *records: bytes) -> bytes:
    body = b"".join(records)
    body += bytes(-len(body) % 4)
    return struct.pack(">HH", template_id, 4 + len(body)) + body


def v9(*sets: bytes, uptime: int = 100_000, sequence: int = 0, domain: int = 7, export_s: int = EXPORT_S) -> bytes:
    return struct.pack(">HHIIII", 9, len(sets), uptime, export_s, sequence, domain) + b"".join(sets)


REVERSE = 29305  # the enterprise of RFC 5103
VARIABLE = 0xFFFF


def field(element: int, length: int, enterprise: int = 0) -> bytes:
    """One IPFIX field specification."""
    if not enterprise:
        return struct.pack(">HH", element, length)
    return struct.pack(">HHI", element | 0x8000, length, enterprise)


def ipfix_template(template_id: int, fields: Sequence[tuple[int, ...]]) -> bytes:
    body = struct.pack(">HH", template_id, len(fields)) + b"".join(field(*each) for each in fields)
    return struct.pack(">HH", 2, 4 + len(body)) + body


def ipfix_options(template_id: int, scope: Sequence[tuple[int, ...]], fields: Sequence[tuple[int, ...]]) -> bytes:
    body = struct.pack(">HHH", template_id, len(scope) + len(fields), len(scope))
    body += b"".join(field(*each) for each in [*scope, *fields])
    body += bytes(-len(body) % 4)
    return struct.pack(">HH", 3, 4 + len(body)) + body


def ipfix(*sets: bytes, sequence: int = 0, domain: int = 7, export_s: int = EXPORT_S) -> bytes:
    body = b"".join(sets)
    return struct.pack(">HHIII", 10, 16 + len(body), export_s, sequence, domain) + body


def payloads(pcap: bytes) -> list[tuple[str, bytes]]:
    """Senders and UDP contents of a little-endian Ethernet or Linux cooked capture without fragments or extensions."""
    link = {1: 14, 113: 16, 276: 20}[struct.unpack_from("<I", pcap, 20)[0]]
    offset, found = 24, []
    while offset < len(pcap):
        size = struct.unpack_from("<I", pcap, offset + 8)[0]
        packet = pcap[offset + 16 + link : offset + 16 + size]
        offset += 16 + size
        if packet[0] >> 4 == 4:
            head, sender, kind = (packet[0] & 15) * 4, packet[12:16], packet[9]
        else:
            head, sender, kind = 40, packet[8:24], packet[6]
        if kind == 17:
            length = struct.unpack_from(">H", packet, head + 4)[0]
            found.append((str(ip_address(sender)), packet[head + 8 : head + length]))
    return found
