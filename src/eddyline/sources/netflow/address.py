"""Where a NetFlow source listens: its URL, its socket, and who sent what arrives there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from eddyline.errors import ConfigError


def parsed(url: str, scheme: str, port: int, known: Sequence[str]) -> tuple[str, int, dict[str, str]]:
    """Host ("" for every address), port and options of `SCHEME://HOST:PORT?OPTION=VALUE`.

    Raises:
        ConfigError: a URL that is malformed, or an option that is not `known`.
    """
    try:
        parts = urlsplit(url)
        port = port if parts.port is None else parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ConfigError(f"netflow source: {url!r}: {error}; write {scheme}://HOST:PORT, port 1 to 65535") from error
    if parts.scheme != scheme or parts.path not in ("", "/") or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"netflow source: {url!r} is not of the form {scheme}://HOST:PORT?{known[0]}=VALUE")
    for name in options:
        if name not in known:
            raise ConfigError(f"netflow source: unknown option `{name}` in {url!r}; known are {', '.join(known)}")
    return parts.hostname or "", port, options


def chosen(name: str, value: str, known: Sequence[str]) -> str:
    """`value`, if it is one of the words that option `name` knows; raises ConfigError that says them."""
    if value not in known:
        raise ConfigError(f"netflow source: {name}={value!r}, expected {' or '.join(f'`{word}`' for word in known)}")
    return value


def number(name: str, value: str, least: int, most: int) -> int:
    """`value` as a whole number from `least` to `most`; raises ConfigError that says so."""
    if not (value.isascii() and value.isdigit() and least <= int(value) <= most):
        raise ConfigError(f"netflow source: {name}={value!r}; give a whole number from {least} to {most}")
    return int(value)


def bound(host: str, port: int, kind: socket.SocketKind, share: bool = False) -> socket.socket:
    """A socket of `kind` that is bound, and blocks nobody; host "" is every address, "::" also takes IPv4.

    Args:
        share: other processes may listen on the same port, and the kernel deals exporters out to them (SO_REUSEPORT).

    Raises:
        ConfigError: the address is not of this machine, or somebody else has it.
    """
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # a collector listens to its network
    where = f"{host or everywhere}:{port}"
    try:
        found = socket.getaddrinfo(host or everywhere, port, type=kind, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.socket(family, kind)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"netflow source: cannot resolve {where}: {error}; give an address of this machine"
        ) from error
    try:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_STREAM:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind(address)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"netflow source: cannot listen on {where}: {error.strerror}; "
            "stop what listens there or choose another address and port"
        ) from error
    return listening


@lru_cache(maxsize=65_536)
def plain(address: str) -> str:
    """An exporter's address as canonical text: IPv4 as such also on an IPv6 socket, no interface name."""
    parsed_address = ip_address(address.split("%")[0])
    return str(getattr(parsed_address, "ipv4_mapped", None) or parsed_address)
