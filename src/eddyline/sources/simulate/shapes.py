"""What a flow of each service looks like: ports, sizes both ways, durations, and how often nobody answers.

Sizes are payload bytes, medians of log-normals; `tail` is the share of flows whose larger direction is stretched by a
Pareto factor. Round numbers of an ordinary office, set by hand and not fitted to any capture.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LAN: Final = 40e6  # bytes a second between two hosts of the site
NET: Final = 3e6  # and across the internet connection
TCP, UDP, ICMP = 6, 17, 1


class Shape(NamedTuple):
    """One kind of flow. Sizes in payload bytes, times in seconds, sigmas of natural logarithms."""

    proto: int
    ports: tuple[int, ...]  # destination ports, one is drawn; empty for ICMP
    out: float
    out_sigma: float
    back: float
    back_sigma: float
    seconds: float = 0.2  # waiting, beside the time that the bytes take
    seconds_sigma: float = 0.8
    rate: float = NET  # bytes per second
    segment: int = 1400  # payload bytes per packet
    tail: float = 0.0
    silent: float = 0.008  # share without any reply
    refused: float = 0.001  # share answered by a reset
    tos: int = 0
    src_port: int = -1  # -1: an ephemeral one
    standing: bool = False  # part of a connection that was there before and goes on
    dual: bool = False  # goes over IPv6 where both ends have it
    mirror: bool = False  # as much back as out
    syn: int = 60  # bytes of the first packet of a connection over IPv4


_NOISE_TCP: Final = (23, 22, 445, 3389, 80, 443, 8080, 2323, 1433, 5900, 8443, 6379, 25, 81, 5555, 3306, 21, 8088)
_RTP: Final = tuple(range(16384, 32768, 2))
_KNOWN: Final = (80, 443, 22, 21, 25, 110, 139, 143, 445, 3306, 3389, 5432, 5900, 8080, 8443, 9100)

SHAPES: Final[dict[str, Shape]] = {
    "dns": Shape(UDP, (53,), 38, 0.22, 110, 0.5, 0.004, 1.2, silent=0.01),
    "recursion": Shape(UDP, (53,), 42, 0.25, 160, 0.6, 0.025, 0.9, silent=0.02, dual=True),
    "https": Shape(TCP, (443,), 1300, 0.7, 9000, 1.5, 4.0, 1.4, tail=0.03, silent=0.011, dual=True),
    "quic": Shape(UDP, (443,), 2600, 0.6, 16000, 1.4, 6.0, 1.2, segment=1230, tail=0.03, silent=0.02, dual=True),
    "http": Shape(TCP, (80,), 450, 0.5, 2500, 1.4, 0.8, 1.3, tail=0.02, silent=0.02, dual=True),
    "post": Shape(TCP, (443,), 22000, 1.6, 3000, 0.9, 3.0, 1.2, tail=0.03, silent=0.01, dual=True),
    "cloud": Shape(TCP, (443,), 1900, 0.6, 4200, 0.9, 1.5, 1.3, silent=0.01, dual=True),
    "proxy": Shape(TCP, (3128,), 1500, 0.7, 9500, 1.5, 4.0, 1.4, LAN, tail=0.03),
    "imaps": Shape(TCP, (993,), 1400, 0.5, 5200, 1.3, 1.2, 1.0, LAN, tail=0.03),
    "submission": Shape(TCP, (587,), 18000, 1.6, 1500, 0.3, 1.0, 0.8, LAN, tail=0.02),
    "smtp": Shape(TCP, (25,), 16000, 1.5, 900, 0.3, 2.2, 0.9, tail=0.02, silent=0.03, refused=0.01),
    "smb": Shape(TCP, (445,), 7000, 1.4, 42000, 1.9, 12.0, 1.5, LAN, tail=0.03),
    "kerberos": Shape(TCP, (88,), 1700, 0.25, 1750, 0.25, 0.02, 0.8, LAN),
    "ldap": Shape(TCP, (389, 389, 389, 636, 3268), 1500, 0.6, 4000, 0.9, 0.6, 1.3, LAN),
    "rpc": Shape(TCP, (135,), 700, 0.3, 900, 0.3, 0.4, 0.8, LAN),
    "print": Shape(TCP, (9100,), 420000, 1.5, 400, 0.3, 6.0, 0.8, LAN),
    "spool": Shape(TCP, (631,), 1200, 0.4, 1500, 0.4, 0.5, 0.7, LAN),
    "ntp": Shape(UDP, (123,), 48, 0.0, 48, 0.0, 0.003, 1.0, src_port=123),
    "dhcp": Shape(UDP, (67,), 290, 0.05, 310, 0.05, 0.03, 0.8, src_port=68),
    "snmp": Shape(UDP, (161,), 220, 0.15, 420, 0.3, 0.03, 0.8, LAN, silent=0.004),
    "ping": Shape(ICMP, (), 56, 0.0, 56, 0.0, 0.001, 0.8, silent=0.006),
    "syslog": Shape(UDP, (514,), 190, 0.5, 0, 0.0, 0.0, 0.0, silent=1.0),
    "update": Shape(TCP, (8530,), 4000, 0.6, 6e6, 2.0, 4.0, 0.8, LAN, tail=0.05),
    "git": Shape(TCP, (443, 443, 22), 5000, 1.0, 60000, 2.0, 1.5, 0.9, LAN, tail=0.04),
    "package": Shape(TCP, (443,), 1500, 0.5, 900000, 1.6, 1.0, 0.8, tail=0.03, dual=True),
    "database": Shape(TCP, (5432,), 2600, 0.9, 12000, 1.3, 0.3, 1.5, LAN, tail=0.01),
    "replication": Shape(TCP, (636,), 6000, 0.7, 9000, 0.8, 1.0, 0.8, LAN),
    "backup": Shape(TCP, (9103,), 1.6e8, 0.7, 60000, 0.4, 2.0, 0.5, LAN, silent=0.0),
    "fullbackup": Shape(TCP, (9103,), 2.5e9, 0.5, 300000, 0.4, 2.0, 0.5, 8e7, silent=0.0),
    "sip": Shape(UDP, (5060,), 620, 0.1, 480, 0.1, 0.05, 0.6, tos=104, src_port=5060, silent=0.003),
    "rtp": Shape(UDP, _RTP, 1.0e6, 1.0, 1.0e6, 0.0, 0.0, 0.0, 8600.0, segment=172, tos=184, silent=0.002, mirror=True),
    "stream": Shape(TCP, (554,), 90000, 0.05, 3.2e7, 0.25, 299.9, 0.0, 1e9, 1300, silent=0.0, refused=0, standing=True),
    "telemetry": Shape(TCP, (8883,), 420, 0.12, 260, 0.1, 0.25, 0.4, silent=0.006),
    "ssh": Shape(TCP, (22,), 5200, 1.3, 9000, 1.5, 240.0, 1.3, LAN, segment=90),
    "rdp": Shape(TCP, (3389,), 90000, 1.1, 1.5e6, 1.3, 420.0, 1.0, LAN, segment=700),
    "noise_tcp": Shape(TCP, _NOISE_TCP, 0, 0, 0, 0, 0.0, 0.0, silent=0.86, refused=0.14, syn=44),
    "noise_udp": Shape(UDP, (53, 123, 161, 1900, 5060, 11211, 389, 69), 60, 0.6, 0, 0, 0.0, 0.0, silent=1.0),
    # What attackers send. Sizes are those of a tool: nearly the same each time.
    "probe": Shape(TCP, _KNOWN, 0, 0, 0, 0, 0.0, 0.0, syn=44),
    "guess": Shape(TCP, (22,), 1150, 0.06, 1650, 0.05, 1.9, 0.25, segment=120, silent=0.004),
    "flood": Shape(TCP, (443, 443, 80), 90, 0.5, 0, 0.0, 0.05, 1.0, silent=0.55, refused=0.1, syn=40),
    "tunnel": Shape(UDP, (53,), 205, 0.12, 260, 0.2, 0.03, 0.5, silent=0.003),
    "beacon": Shape(TCP, (443,), 640, 0.05, 890, 0.06, 0.35, 0.2, silent=0.002),
    "smb_move": Shape(TCP, (445,), 52000, 0.8, 9000, 0.6, 3.0, 0.7, LAN, silent=0.05, refused=0.06),
    "rdp_move": Shape(TCP, (3389,), 36000, 0.6, 110000, 0.8, 18.0, 0.7, LAN, segment=700, silent=0.05, refused=0.1),
    "winrm": Shape(TCP, (5985,), 9000, 0.7, 14000, 0.7, 2.5, 0.6, LAN, silent=0.05, refused=0.1),
    "theft": Shape(TCP, (443,), 2.2e8, 0.45, 90000, 0.3, 2.0, 0.4, 1.2e7, silent=0.0, refused=0.0),
}


_ORDER: Final = {name: row for row, name in enumerate(SHAPES)}


def number(name: str) -> int:
    """The row of a shape in every array of `STACK`."""
    return _ORDER[name]


def _stack() -> dict[str, NDArray[Any]]:
    fields = [field for field in Shape._fields if field != "ports"]
    columns = {field: np.array([getattr(shape, field) for shape in SHAPES.values()]) for field in fields}
    listed = [shape.ports or (0,) for shape in SHAPES.values()]
    columns["ports"] = np.array([port for ports in listed for port in ports])
    columns["port_n"] = np.array([len(ports) for ports in listed])
    columns["port_at"] = np.cumsum(columns["port_n"]) - columns["port_n"]
    return columns


# The shapes as columns, one row per shape; `ports` is flat, a shape's are the `port_n` from `port_at` on.
STACK: Final = _stack()
