"""Captures written out field by field: pcap and pcapng, Ethernet and others, IPv4 and IPv6."""

import socket
import struct
from collections.abc import Sequence
from ipaddress import ip_address

Packet = tuple[int, bytes]  # microseconds since 1970, frame


def udp(
    src: str, dst: str, payload: bytes, port: int = 2055, fragment: int = 0, cut: int = 0, proto: int = 17
) -> bytes:
    """An IP packet with `payload`; `fragment` is the field of flags and offset, `cut` bytes are missing at its end."""
    segment = struct.pack(">HHHH", 40_000, port, 8 + len(payload), 0) + payload
    ends = ip_address(src).packed + ip_address(dst).packed
    if ip_address(src).version == 6:
        whole = struct.pack(">IHBB", 6 << 28, len(segment), proto, 64) + ends + segment
    else:
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 1, fragment, 64, proto, 0)
        whole = head + ends + segment
    return whole[: len(whole) - cut]


def ethernet(packet: bytes, vlan: int | None = None) -> bytes:
    kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    tag = b"" if vlan is None else struct.pack(">HH", 0x8100, vlan)
    return bytes(12) + tag + struct.pack(">H", kind) + packet


def pcap(packets: Sequence[Packet], link: int = 1, order: str = "<", nano: bool = False) -> bytes:
    magic, unit = (0xA1B23C4D, 1000) if nano else (0xA1B2C3D4, 1)
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, link)
    records = (
        struct.pack(order + "IIII", at // 1_000_000, at % 1_000_000 * unit, len(frame), len(frame)) + frame
        for at, frame in packets
    )
    return head + b"".join(records)


def pcapng(packets: Sequence[Packet], link: int = 1) -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        length = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + length + body + length

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHI", link, 0, 65_535))
    records = (
        block(6, struct.pack("<IIIII", 0, at >> 32, at & 0xFFFFFFFF, len(frame), len(frame)) + frame)
        for at, frame in packets
    )
    return section + interface + b"".join(records)


def collector() -> socket.socket:
    """A socket on a free loopback port that waits two seconds for a datagram."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listening.bind(("127.0.0.1", 0))
    listening.settimeout(2)
    return listening


def received(listening: socket.socket, count: int) -> list[tuple[str, bytes]]:
    found = []
    for _ in range(count):
        raw, sender = listening.recvfrom(65_535)
        found.append((sender[0], raw))
    return found
