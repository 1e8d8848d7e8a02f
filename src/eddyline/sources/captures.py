"""dpkt: the NetFlow datagrams in a pcap or pcapng file, plain or gzip, with when and from whom they came.

Only framing is left to dpkt. A packet that holds no whole NetFlow datagram is counted by reason and skipped; a capture
that is cut off ends there. Nothing that stands in a file raises, and no record may take more than `_LARGEST`.
"""

from __future__ import annotations

import gzip
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import dpkt

from eddyline.errors import ConfigError, SourceError

_MAGIC: Final = (
    b"\xa1\xb2\xc3\xd4",
    b"\xd4\xc3\xb2\xa1",
    b"\xa1\xb2\x3c\x4d",
    b"\x4d\x3c\xb2\xa1",
    b"\x0a\x0d\x0d\x0a",
)
_GZIP: Final = b"\x1f\x8b"
_LARGEST: Final = 1 << 20  # bytes of a record; snap lengths end at 256 KiB
_VERSIONS: Final = {b"\0\x05": 24, b"\0\x09": 20, b"\0\x0a": 16}  # first two bytes of a datagram: its least length
_BROKEN: Final = (dpkt.Error, ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, OverflowError)
_UNREADABLE: Final = (*_BROKEN, EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True, slots=True)
class Datagram:
    """One NetFlow datagram as it lay in a UDP packet."""

    time_us: int  # when it was captured, microseconds since 1970
    exporter: str  # address it came from
    port: int  # UDP port it was sent to
    payload: bytes


class Capture:
    """The datagrams of one file, in its order; each iteration reads it from the beginning.

    Args:
        path: the file. port: only datagrams sent to this UDP port; None takes all.

    Raises:
        ConfigError: it is no capture, or of a link layer that is not known.
        SourceError: it cannot be read.
    """

    def __init__(self, path: Path, port: int | None = None) -> None:
        self._path, self._port = path, port
        self.skipped: Counter[str] = Counter()  # packets by reason
        with _opened(path) as file:
            self._ip = _layer(_reader(file, path).datalink(), path)

    def __iter__(self) -> Iterator[Datagram]:
        self.skipped.clear()
        with _opened(self._path) as file:
            packets = iter(_reader(file, self._path))
            while (packet := self._next(packets)) is not None:
                found = self._datagram(*packet)
                if isinstance(found, str):
                    self.skipped[found] += 1
                else:
                    yield found

    def _next(self, packets: Iterator[tuple[Any, bytes]]) -> tuple[float, bytes] | None:
        try:
            time_s, frame = next(packets)
        except StopIteration:
            return None
        except _UNREADABLE:
            self.skipped["the capture is cut off or damaged here"] += 1
            return None
        except OSError as error:
            raise SourceError(f"capture: cannot read `{self._path}`: {error.strerror or error}") from error
        return float(time_s), frame

    def _datagram(self, time_s: float, frame: bytes) -> Datagram | str:
        """The datagram in a frame, or why there is none."""
        try:
            packet = self._ip(frame)
            if isinstance(packet, dpkt.ip.IP) and (packet.mf or packet.offset):
                return "part of a fragmented packet"
            segment = packet.data if isinstance(packet, dpkt.ip.IP | dpkt.ip6.IP6) else None
            if not isinstance(segment, dpkt.udp.UDP):
                return "not UDP"
            payload, length = bytes(segment.data), segment.ulen - 8
            family = socket.AF_INET if isinstance(packet, dpkt.ip.IP) else socket.AF_INET6
            exporter, port = socket.inet_ntop(family, packet.src), int(segment.dport)
        except _BROKEN:
            return "a broken packet"
        if self._port not in (None, port):
            return "sent to another port"
        if length < 0:
            return "a broken packet"
        if len(payload) < length:
            return "cut by the capture"
        if len(payload[:length]) < _VERSIONS.get(payload[:2], _LARGEST):
            return "not NetFlow v5, v9 or IPFIX"
        return Datagram(round(time_s * 1e6), exporter, port, payload[:length])


class _Bounded:
    """A file for dpkt, which reads as many bytes as a record says it has."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, length: int) -> bytes:
        if not 0 <= length <= _LARGEST:
            raise ValueError(f"a record of {length} bytes")
        return self._file.read(length)

    def seek(self, place: int) -> int:
        return self._file.seek(place)


def _opened(path: Path) -> IO[bytes]:
    try:
        file = path.open("rb")
        if file.peek(2)[:2] != _GZIP:
            return file
        file.close()
        return cast(IO[bytes], gzip.open(path, "rb"))
    except OSError as error:
        raise SourceError(f"capture: cannot read `{path}`: {error.strerror or error}") from error


def _reader(file: IO[bytes], path: Path) -> Any:
    try:
        return dpkt.pcap.UniversalReader(_Bounded(file))
    except _UNREADABLE as error:
        raise ConfigError(f"capture: `{path}` is no pcap or pcapng file: {error}; give one, or flows") from error


def _layer(link: int, path: Path) -> Callable[[bytes], Any]:
    """From a frame of this link layer to the IP packet in it."""
    layers: dict[int, Callable[[bytes], Any]] = {
        dpkt.pcap.DLT_EN10MB: lambda frame: dpkt.ethernet.Ethernet(frame).data,
        dpkt.pcap.DLT_LINUX_SLL: lambda frame: dpkt.sll.SLL(frame).data,
        dpkt.pcap.DLT_LINUX_SLL2: lambda frame: dpkt.sll2.SLL2(frame).data,
        dpkt.pcap.DLT_NULL: lambda frame: dpkt.loopback.Loopback(frame).data,
        dpkt.pcap.DLT_LOOP: lambda frame: _by_version(frame[4:]),
        **dict.fromkeys((12, 14, 101), _by_version),  # DLT_RAW has three numbers
    }
    if link not in layers:
        raise ConfigError(
            f"capture: `{path}` has link layer {link}; known are Ethernet, Linux cooked, loopback and raw IP"
        )
    return layers[link]


def _by_version(packet: bytes) -> Any:
    return dpkt.ip6.IP6(packet) if packet[0] >> 4 == 6 else dpkt.ip.IP(packet)
