"""netflow://: NetFlow v5 and v9 from a UDP socket. Nothing can be read twice: what is lost before a commit is lost."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from eddyline.errors import ConfigError
from eddyline.flows import REJECTED_SCHEMA, FlowBatch
from eddyline.sources.netflow_table import dated_by, flows_of
from eddyline.sources.netflow_v5 import Datagram, Decoded, Sequences, decode_v5
from eddyline.sources.netflow_v9 import V9Decoder
from eddyline.windows import Commit

DEFAULT_PORT: Final = 2055
RECV_BUFFER_BYTES: Final = 32 << 20  # about 9 s of 1464-byte datagrams at 2,400 a second; the kernel may grant less
GATHER_S: Final = 0.2  # a batch is at most this old
GATHER_DATAGRAMS: Final = 8192  # and at most this long
IDLE_S: Final = 1.0
_LARGEST: Final = 65_535  # bytes of a UDP datagram
_SO_RCVBUFFORCE: Final = 33  # Linux: beyond net.core.rmem_max, for processes that may administrate the network
_OPTIONS: Final = ("recv_buffer", "out_counters", "times")


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Decoder:
    """Datagrams of any NetFlow version to one FlowBatch, in arrival order; keeps templates, sequences and counters.

    Never raises, whatever the bytes: what cannot be read is in `FlowBatch.rejected`, with its reason.

    Args:
        reverse: v9 fields 23 and 24 are the other direction of a flow; False ignores them.
        checked: flows dated over a minute after they were received are moved back to then; False believes them.
    """

    def __init__(self, reverse: bool = True, checked: bool = False) -> None:
        self._checked = checked
        self._v9 = V9Decoder(reverse)
        self._sequences = Sequences()
        self.counters: Counter[str] = Counter()

    def decode(self, datagrams: list[tuple[str, bytes]], now_us: int | None = None, last: bool = False) -> FlowBatch:
        """Read `datagrams` (exporter's address, bytes); `last` also rejects what still waits for its template."""
        decoded = Decoded()
        old: list[Datagram] = []
        new: list[Datagram] = []
        for arrival, (origin, raw) in enumerate(datagrams):
            version = raw[:2]
            if version == b"\0\5":
                old.append((arrival, origin, raw))
            elif version == b"\0\x09":
                new.append((arrival, origin, raw))
            else:
                named = "IPFIX is not read yet" if version == b"\0\x0a" else "not NetFlow v5 or v9"
                decoded.reject(arrival, origin, raw, named)
        decode_v5(old, decoded, self._sequences)
        self._v9.decode(new, decoded)
        if last:
            self._v9.give_up(decoded)
        return self._batch(decoded, len(datagrams), now_us)

    def _batch(self, decoded: Decoded, datagrams: int, now_us: int | None) -> FlowBatch:
        table = flows_of(decoded)
        if self._checked and now_us is not None:
            table, ahead = dated_by(table, now_us)
            decoded.counts.update({"clocks_ahead": ahead} if ahead else {})
        found = {"datagrams": datagrams, "flows": table.num_rows, "rejected": len(decoded.rejected)}
        self.counters.update(decoded.counts)
        self.counters.update(found)
        rejected = sorted(decoded.rejected, key=lambda found: found.arrival)
        columns = {
            "reason": [found.reason for found in rejected],
            "origin": [found.origin for found in rejected],
            "source_row": [None] * len(rejected),
            "raw": [found.raw for found in rejected],
        }
        return FlowBatch(table, rejected=pa.table(columns, schema=REJECTED_SCHEMA), now_us=now_us)


class NetflowSource:
    """Flows that exporters send to a UDP port, in arrival order. Blocks at most about a second.

    A batch ends after `gather_s` seconds or `gather_datagrams` datagrams, whichever is first. `close` ends the
    iteration after what the kernel already holds has been read. `commit` has nothing to do: UDP cannot be replayed.

    Args:
        host: address or name to listen on; "::" also takes IPv4, "" is every address of this machine.
        port: UDP port; 0 takes any free one, see `port`.
        recv_buffer_bytes: asked of the kernel, which grants at most `net.core.rmem_max` to ordinary users; what it
            granted stands in `recv_buffer_bytes`.
        out_counters: "reverse" (nProbe, our own exporter) or "ignore" (Cisco: v9 fields 23 and 24 count the same
            direction after routing).
        times: "checked", or "exporter" to believe flows that are dated after their receipt (a replayed or simulated
            network).
        clock: microseconds since 1970.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    resumes = False

    def __init__(
        self,
        host: str = "",
        port: int = DEFAULT_PORT,
        recv_buffer_bytes: int = RECV_BUFFER_BYTES,
        out_counters: str = "reverse",
        times: str = "checked",
        clock: Callable[[], int] = wall_clock,
        gather_s: float = GATHER_S,
        gather_datagrams: int = GATHER_DATAGRAMS,
    ) -> None:
        if out_counters not in ("reverse", "ignore"):
            raise ConfigError(f"netflow source: out_counters={out_counters!r}, expected `reverse` or `ignore`")
        if times not in ("checked", "exporter"):
            raise ConfigError(f"netflow source: times={times!r}, expected `checked` or `exporter`")
        self._decoder = Decoder(out_counters == "reverse", times == "checked")
        self._clock, self._gather_s, self._gather_datagrams = clock, gather_s, gather_datagrams
        self._socket = _listen(host, port, recv_buffer_bytes)
        self.port = int(self._socket.getsockname()[1])
        self.recv_buffer_bytes = (
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        )  # Linux says twice what it was asked
        self._wake, self._woken = socket.socketpair()
        self._lock = threading.Lock()
        self._iterating = self._stopped = self._released = False

    @property
    def counters(self) -> Mapping[str, int]:
        """Totals so far, by name; a name that never happened is absent.

        datagrams, flows, rejected, sequence_gaps, missing_flows (v5), missing_datagrams (v9), unknown_templates (data
        sets that had to wait), clamped_times (flows later than their export) and clocks_ahead (flows later than now).
        """
        return self._decoder.counters

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches until `close`; an empty one with the clock after a second of silence."""
        with self._lock:
            if self._stopped or self._iterating:
                return
            self._iterating = True
        try:
            while not self._stopped:
                yield self._decoder.decode(self._gather(), self._clock())
            yield from self._drain()
        finally:
            with self._lock:
                self._iterating, self._stopped = False, True
            self._release()

    def listen(self) -> list[tuple[str, bytes]]:
        """Return datagrams as they come (exporter's address, bytes), not decoded; blocks at most about a second."""
        return self._gather()

    def commit(self, commit: Commit) -> None:
        """Nothing to keep: what a UDP socket gave is gone."""

    def close(self) -> None:
        """End the iteration, from any thread; releases the port at once where nobody iterates. Twice is once."""
        with self._lock:
            if not self._stopped:
                self._stopped = True
                self._wake.send(b"\0")
            iterating = self._iterating
        if not iterating:
            self._release()

    def _gather(self) -> list[tuple[str, bytes]]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        datagrams: list[tuple[str, bytes]] = []
        poll.poll(IDLE_S * 1000)
        deadline = time.monotonic() + self._gather_s
        while not self._stopped:
            self._read(datagrams, self._gather_datagrams)
            left = deadline - time.monotonic()
            if not datagrams or left <= 0 or len(datagrams) >= self._gather_datagrams:
                break
            poll.poll(left * 1000)
        return datagrams

    def _read(self, datagrams: list[tuple[str, bytes]], most: int) -> bool:
        """Take what lies in the socket, until `most` datagrams are there; whether it is empty now."""
        receive, add = self._socket.recvfrom, datagrams.append
        try:
            for _ in range(most - len(datagrams)):
                raw, sender = receive(_LARGEST)
                add((_plain(sender[0]), raw))
        except BlockingIOError:
            return True
        return False

    def _drain(self) -> Iterator[FlowBatch]:
        """What the kernel holds at the stop; under a flood no more than its buffer can hold, so that this ends."""
        left = self.recv_buffer_bytes
        empty = False
        while not empty:
            datagrams: list[tuple[str, bytes]] = []
            empty = self._read(datagrams, self._gather_datagrams)
            left -= sum(len(raw) for _, raw in datagrams)
            empty = empty or left <= 0
            yield self._decoder.decode(datagrams, self._clock(), last=empty)

    def _release(self) -> None:
        with self._lock:
            if not self._released:
                self._released = True
                for end in (self._socket, self._wake, self._woken):
                    end.close()


def open_netflow(url: str) -> NetflowSource:
    """The source that `netflow://HOST:PORT?recv_buffer=BYTES&out_counters=reverse|ignore&times=checked|exporter` names.

    Without host it listens on every address, without port on 2055; IPv6 addresses stand in brackets.

    Raises:
        ConfigError: a URL that is malformed, an option that is unknown, or a port that cannot be listened on.
    """
    try:
        parts = urlsplit(url)
        port = DEFAULT_PORT if parts.port is None else parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ConfigError(f"netflow source: {url!r}: {error}; write netflow://HOST:PORT, port 1 to 65535") from error
    if parts.scheme != "netflow" or parts.path not in ("", "/") or parts.fragment or "@" in parts.netloc:
        raise ConfigError(f"netflow source: {url!r} is not of the form netflow://HOST:PORT?recv_buffer=BYTES")
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"netflow source: unknown option `{name}` in {url!r}; known are {', '.join(_OPTIONS)}")
    recv_buffer = options.get("recv_buffer", str(RECV_BUFFER_BYTES))
    if not (recv_buffer.isascii() and recv_buffer.isdigit() and 0 < int(recv_buffer) < 1 << 30):
        raise ConfigError(f"netflow source: recv_buffer={recv_buffer!r}; give bytes, 1 to {(1 << 30) - 1}")
    counters, times = options.get("out_counters", "reverse"), options.get("times", "checked")
    return NetflowSource(parts.hostname or "", port, int(recv_buffer), counters, times)


def _listen(host: str, port: int, recv_buffer_bytes: int) -> socket.socket:
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104  # a collector listens to its network
    where = f"{host or everywhere}:{port}"
    try:
        found = socket.getaddrinfo(host or everywhere, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listening = socket.socket(family, socket.SOCK_DGRAM)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigError(
            f"netflow source: cannot resolve {where}: {error}; give an address of this machine"
        ) from error
    try:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(address)
        _enlarge(listening, recv_buffer_bytes)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"netflow source: cannot listen on {where}: {error.strerror}; "
            "stop what listens there or choose another address and port"
        ) from error
    return listening


def _enlarge(listening: socket.socket, recv_buffer_bytes: int) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_buffer_bytes)
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, recv_buffer_bytes)
    except OSError:
        return  # not Linux, or not allowed to: what was granted can be read back


@lru_cache(maxsize=65_536)
def _plain(address: str) -> str:
    """An exporter's address as canonical text: IPv4 as such also on an IPv6 socket, no interface name."""
    parsed = ip_address(address.split("%")[0])
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)
