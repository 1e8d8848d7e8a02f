"""netflow://: a flow table as NetFlow v9, IPFIX or v5 datagrams on UDP, for simulated and replayed traffic.

Labels never travel. Headers have the clock of the flows, so a simulated time arrives as it is, to the millisecond.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from eddyline.errors import ConfigError, SinkError
from eddyline.sinks.netflow_wire import encode_ipfix, encode_v5, encode_v9, exportable

PACKETS_PER_SECOND: Final = 10_000
_BURST: Final = 32  # datagrams between two looks at the clock: a third of Linux's default receive buffer
_DAY_US: Final = 86_400_000_000


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class NetflowExporter:
    """Sends flow tables to a collector; what cannot be said in the version is counted in `counters` by reason.

    UDP: whether anybody received them is not known. Datagrams are spaced so that a local collector keeps up.

    Args:
        host: address or name of the collector.
        port: its UDP port.
        version: 9, 10 (IPFIX), or 5 (IPv4 and one direction only).
        clock: microseconds since 1970, for the spacing only; times of flows and headers are the flows' own.
        packets_per_second: at most so many datagrams.
        source_id: observation domain (v9, IPFIX) or engine (v5, 16 bits).
        sender: address of this machine to send from, by which collectors know an exporter; "" leaves it to the system.

    Raises:
        ConfigError: an unknown version, a rate below 1, a source_id too large, a host that cannot be resolved, a sender
            that is not ours.
    """

    def __init__(
        self,
        host: str,
        port: int,
        version: int = 9,
        clock: Callable[[], int] = wall_clock,
        packets_per_second: float = PACKETS_PER_SECOND,
        source_id: int = 0,
        sender: str = "",
    ) -> None:
        if (
            version not in (5, 9, 10)
            or packets_per_second < 1
            or not 0 <= source_id < 1 << (16 if version == 5 else 32)
        ):
            raise ConfigError(
                f"netflow exporter: version={version}, packets_per_second={packets_per_second:g}, "
                f"source_id={source_id}; give version 5, 9 or 10 (IPFIX), a rate of at least 1 "
                "and a source_id of 32 bits, in version 5 of 16"
            )
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except (OSError, OverflowError, UnicodeError) as error:
            raise ConfigError(f"netflow exporter: cannot resolve {host}:{port}: {error}; give the collector") from error
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._address: Any = address
        if sender:
            self._send_from(sender)
        self._version, self._clock, self._source_id = version, clock, source_id
        self._gap_us = 1_000_000 / packets_per_second
        self._due_us = 0.0
        self._sequence = self._sent = 0
        self._boot_us: int | None = None
        self.counters: Counter[str] = Counter()

    def send(self, table: pa.Table) -> int:
        """Send the flows of `table`, BATCH_SCHEMA, in its order; how many of them could be sent.

        Blocks while the rate asks for it. Raises SinkError when the network refuses, with what was not sent.
        """
        flows, left_out = exportable(table, self._version)
        self.counters.update(left_out)
        if not flows.num_rows:
            return 0
        if self._boot_us is None:  # a day before the first flow: no uptime of the coming weeks is negative or wraps
            self._boot_us = pc.min(flows["ts_start"]).value // 1_000_000 * 1_000_000 - _DAY_US
        datagrams = self._encode(flows, self._boot_us)
        for sent, datagram in enumerate(datagrams):
            try:
                self._socket.sendto(datagram, self._address)
            except OSError as error:
                raise SinkError(
                    f"netflow exporter: {len(datagrams) - sent} of {len(datagrams)} datagrams to "
                    f"{self._address[0]}:{self._address[1]} not sent: {error.strerror}"
                ) from error
            self._pace()
        self._sent += len(datagrams)
        self._sequence = (self._sequence + (len(datagrams) if self._version == 9 else flows.num_rows)) & 0xFFFFFFFF
        self.counters.update(datagrams=len(datagrams), flows=flows.num_rows)
        return int(flows.num_rows)

    def _encode(self, flows: pa.Table, boot_us: int) -> list[bytes]:
        if self._version == 10:
            return encode_ipfix(flows, self._sequence, self._sent, self._source_id)
        encode = encode_v9 if self._version == 9 else encode_v5
        return encode(flows, self._sequence, boot_us, self._source_id)

    def _send_from(self, sender: str) -> None:
        try:
            self._socket.bind((sender, 0))
        except OSError as error:
            self._socket.close()
            raise ConfigError(f"netflow exporter: cannot send from {sender}: {error.strerror or error}; "
                              "give an address of this machine") from error  # fmt: skip

    def close(self) -> None:
        """Release the socket; twice is once."""
        self._socket.close()

    def _pace(self) -> None:
        now = self._clock()
        self._due_us = max(self._due_us, now - _BURST * self._gap_us) + self._gap_us
        if self._due_us > now:
            time.sleep((self._due_us - now) / 1e6)


def open_exporter(url: str) -> NetflowExporter:
    """The exporter that `netflow://HOST:PORT?version=9&packets_per_second=N&source_id=N&sender=ADDRESS` names.

    Raises:
        ConfigError: a URL that is malformed or an option that is unknown.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or 2055
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        sender = options.pop("sender", "")
        numbers: dict[str, Any] = {name: int(text) for name, text in options.items()}
    except ValueError as error:
        raise ConfigError(
            f"netflow exporter: {url!r}: {error}; write netflow://HOST:PORT?version=9, 10 or 5"
        ) from error
    unknown = set(options) - {"version", "packets_per_second", "source_id"}
    if parts.scheme != "netflow" or not parts.hostname or parts.path not in ("", "/") or unknown:
        raise ConfigError(
            f"netflow exporter: {url!r} is not of the form netflow://HOST:PORT with options version, "
            f"packets_per_second, source_id, sender{': unknown ' + ', '.join(sorted(unknown)) if unknown else ''}"
        )
    return NetflowExporter(parts.hostname, port, sender=sender, **numbers)
