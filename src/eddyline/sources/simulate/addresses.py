"""The address plan: every address that can ever occur, as one Arrow array; an address code is its row.

Inside, whole /24 networks get codes, used or not, because scanners also try addresses that nobody has. Outside hosts
live in 198.18.0.0/15 (RFC 2544, for tests) and 2001:db8::/32 (RFC 3849): simulated records accuse nobody real.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

USABLE: Final = 253  # of a /24: .2 to .254; .1 is the router
FILL: Final = 160  # hosts per /24, so that scanners find gaps
_OUTSIDE: Final = 198 << 24 | 18 << 16
_OUTSIDE_SIZE: Final = 1 << 17
_DOCUMENTATION: Final = 0x20010DB8 << 96
PUBLIC: Final = "203.0.113.20"  # what the internet sees of the site


@dataclass(frozen=True, slots=True)
class Subnet:
    """A /24 of the site; its addresses have the codes `first` to `first + USABLE - 1`."""

    name: str
    octet: int  # 10.site.OCTET.0
    first: int


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """All addresses of a network.

    Args:
        texts: (A,) utf8, canonical, without repeats.
        subnets: those of the site, by name, several for large groups.
        v4, v6: address code per host, int32 (H,); -1 = none.
        router: the exporter's name, address/observation domain.
    """

    texts: pa.Array
    subnets: dict[str, list[Subnet]]
    v4: NDArray[np.int32]
    v6: NDArray[np.int32]
    router: str


def plan_addresses(
    rng: np.random.Generator, inside: dict[str, range], outside: range, dual: NDArray[np.bool_]
) -> AddressPlan:
    """Give every host its addresses.

    Args:
        inside: hosts of the site by the name of their subnet, together 0 to I - 1; `outside` follows, its last host
            is the site's own public address.
        dual: (H,) hosts that also have an IPv6 address.
    """
    site = int(rng.integers(1, 255))
    octets = iter(rng.permutation(np.arange(1, 255)).tolist())
    hosts = outside.stop
    v4, v6 = np.full(hosts, -1, np.int32), np.full(hosts, -1, np.int32)
    texts: list[str] = []
    subnets: dict[str, list[Subnet]] = {}
    inner: dict[int, int] = {}  # host -> its part of an IPv6 address
    for name, members in inside.items():
        for start in range(members.start, members.stop, FILL):
            octet, some = next(octets), np.arange(start, min(start + FILL, members.stop))
            subnet = Subnet(name, octet, len(texts))
            subnets.setdefault(name, []).append(subnet)
            places = np.sort(rng.choice(USABLE, len(some), replace=False))
            v4[some] = subnet.first + places
            texts += [f"10.{site}.{octet}.{last}" for last in range(2, 2 + USABLE)]
            inner |= {host: octet << 64 | int(place) + 2 for host, place in zip(some.tolist(), places, strict=True)}
    v4[outside.start : outside.stop] = len(texts) + np.arange(len(outside))
    texts += [*_outside(rng, len(outside) - 1), PUBLIC]
    double = np.flatnonzero(dual)
    v6[double] = len(texts) + np.arange(len(double))
    texts += _six(double, inner, site)
    router = f"10.{site}.{next(iter(subnets.values()))[0].octet}.1/0"
    return AddressPlan(pa.array(texts, pa.utf8()), subnets, v4, v6, router)


def _outside(rng: np.random.Generator, count: int) -> list[str]:
    numbers = _OUTSIDE + rng.permutation(_OUTSIDE_SIZE)[:count]
    return [f"{n >> 24}.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in numbers.tolist()]


def _six(hosts: NDArray[Any], inner: dict[int, int], site: int) -> list[str]:
    """The site is 2001:db8:SITE::/48 with one /64 per subnet; every outside host has a /56 of its own."""
    numbers = [
        _DOCUMENTATION | (site << 80 | inner[host] if host in inner else (1 << 20 | host) << 72 | 0x10)
        for host in hosts.tolist()
    ]
    return [str(IPv6Address(number)) for number in numbers]
