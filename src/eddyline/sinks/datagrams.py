"""Datagrams as they are onto UDP, for replaying a capture: one socket for every exporter, and not faster than asked."""

from __future__ import annotations

import socket
from collections import OrderedDict
from ipaddress import ip_address
from typing import Any, Final, cast

from eddyline.errors import ConfigError, SinkError

_SENDERS: Final = 256  # sockets; the exporter that was heard of longest ago gives its own up


class DatagramSender:
    """Sends bytes to one address.

    A collector tells exporters apart by their address. A target on 127.0.0.0/8 gets every exporter from a loopback
    address of its own where the system allows it (Linux does); any other target gets all from this machine's one.

    Args:
        host, port: the collector.

    Raises:
        ConfigError: the host cannot be resolved.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(f"replay: cannot resolve {host}:{port}: {error}; give the collector") from error
        self._family, self._address = family, cast(tuple[Any, ...], address)
        self._numbers: dict[str, int] = {}
        self._sockets: OrderedDict[str, socket.socket] = OrderedDict()
        self.apart = family == socket.AF_INET and ip_address(str(address[0])).is_loopback

    @property
    def exporters(self) -> int:
        """How many there were."""
        return len(self._numbers)

    def send(self, exporter: str, payload: bytes) -> None:
        """Send one datagram; raises SinkError when this machine refuses it. Nobody may be listening: that is UDP."""
        try:
            self._socket(exporter).sendto(payload, self._address)
        except ConnectionRefusedError:
            return
        except OSError as error:
            where = f"{self._address[0]}:{self._address[1]}"
            raise SinkError(
                f"replay: a datagram of {len(payload)} bytes to {where} not sent: {error.strerror}"
            ) from error

    def close(self) -> None:
        """Release the sockets; twice is once."""
        while self._sockets:
            self._sockets.popitem()[1].close()

    def _socket(self, exporter: str) -> socket.socket:
        number = self._numbers.setdefault(exporter, len(self._numbers))
        if exporter not in self._sockets:
            if len(self._sockets) >= _SENDERS:
                self._sockets.popitem(last=False)[1].close()
            self._sockets[exporter] = self._opened(number)
        self._sockets.move_to_end(exporter)
        return self._sockets[exporter]

    def _opened(self, number: int) -> socket.socket:
        opened = socket.socket(self._family, socket.SOCK_DGRAM)
        if self.apart and number < 1 << 16:
            try:
                opened.bind((f"127.1.{number >> 8}.{number & 255}", 0))
            except OSError:
                self.apart = False  # not Linux: 127.0.0.1 is all there is
        return opened
