"""netflow://: NetFlow v5, v9 and IPFIX from a UDP socket. What is lost before a commit is lost: UDP comes once."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from eddyline.errors import ConfigError
from eddyline.flows import FlowBatch
from eddyline.sources.netflow.address import bound, chosen, number, parsed, plain
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.heap import keep_freed_memory
from eddyline.sources.netflow.memory import TemplateFile
from eddyline.sources.netflow.sites import Sites, read_sites
from eddyline.sources.netflow.stop import Stop
from eddyline.sources.netflow.tally import Tally
from eddyline.windows import Commit

DEFAULT_PORT: Final = 2055
RECV_BUFFER_BYTES: Final = 32 << 20  # about 9 s of 1464-byte datagrams at 2,400 a second; the kernel may grant less
GATHER_S: Final = 0.2  # a batch is at most this old
GATHER_DATAGRAMS: Final = 8192  # and at most this long
IDLE_S: Final = 1.0
_LARGEST: Final = 65_535  # bytes of a UDP datagram
_HELD_BYTES: Final = 256  # that Linux counts beyond the content of each, at least
_SO_RCVBUFFORCE: Final = 33  # Linux: beyond net.core.rmem_max, for processes that may administrate the network
_SO_MEMINFO: Final = 55  # Linux 4.12: nine numbers about a socket's memory
_DROPS: Final = 8  # the place of datagrams that the kernel dropped because the buffer was full
_OPTIONS: Final = ("recv_buffer", "out_counters", "times", "templates", "share", "sites")


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


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
        templates: file that keeps templates and options across a restart; for this process alone.
        share: let other processes listen on the same port. The kernel deals datagrams out by the exporter's address
            and port, so an exporter stays with one process, as its templates must.
        sites: which site an exporter belongs to; without it all are of site "default".

    Raises:
        ConfigError: the address cannot be listened on, or the file is not one of templates.
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
        templates: Path | None = None,
        share: bool = False,
        sites: Sites | None = None,
    ) -> None:
        chosen("out_counters", out_counters, ("reverse", "ignore"))
        chosen("times", times, ("checked", "exporter"))
        tally = Tally(named=True)
        self._decoder = Decoder(out_counters == "reverse", times == "checked", tally=tally, sites=sites)
        self._clock, self._gather_s, self._gather_datagrams = clock, gather_s, gather_datagrams
        self._file = TemplateFile(templates, self._decoder.templated) if templates else None
        self._socket = bound(host, port, socket.SOCK_DGRAM, share)
        _enlarge(self._socket, recv_buffer_bytes)
        self.port = int(self._socket.getsockname()[1])
        self.recv_buffer_bytes = (
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        )  # Linux says twice what it was asked
        self._stop = Stop(self._socket.close)
        keep_freed_memory()

    @property
    def counters(self) -> Mapping[str, int]:
        """Totals so far, by name; a name that never happened is absent.

        datagrams, flows, rejected, sequence_gaps, missing_flows (v5 and IPFIX), missing_datagrams (v9),
        unknown_templates (data sets that had to wait), clamped_times (flows later than their export), clocks_ahead
        (flows later than now), kernel_drops (datagrams that came while the buffer was full, on Linux) and
        templates_not_saved.
        """
        return self._decoder.counters

    @property
    def exporters(self) -> Mapping[str, Mapping[str, int]]:
        """Totals so far by exporter; the log says once which address a number stands for."""
        return self._decoder.tally.numbered()

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches until `close`; an empty one with the clock after a second of silence."""
        if not self._stop.begin():
            return
        try:
            while not self._stop.stopped:
                yield self._decoded(self._gather())
            yield from self._drain()
        finally:
            self._save(now=True)
            self._stop.end()

    def listen(self) -> list[tuple[str, bytes]]:
        """Return datagrams as they come (exporter's address, bytes), not decoded; blocks at most about a second."""
        return self._gather()

    def commit(self, commit: Commit) -> None:
        """Nothing to keep: what a UDP socket gave is gone."""

    def close(self) -> None:
        """End the iteration, from any thread; releases the port at once where nobody iterates. Twice is once."""
        self._stop.stop()

    def _gather(self) -> list[tuple[str, bytes]]:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._stop.fileno(), select.POLLIN)
        datagrams: list[tuple[str, bytes]] = []
        poll.poll(IDLE_S * 1000)
        deadline = time.monotonic() + self._gather_s
        while not self._stop.stopped:
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
                add((plain(sender[0]), raw))
        except BlockingIOError:
            return True
        return False

    def _drain(self) -> Iterator[FlowBatch]:
        """What the kernel holds at the stop; under a flood no more than its buffer can hold, so that this ends."""
        left = 2 * self.recv_buffer_bytes  # as the kernel counts, to which a datagram is larger than its content
        empty = False
        while not empty:
            datagrams: list[tuple[str, bytes]] = []
            empty = self._read(datagrams, self._gather_datagrams)
            left -= sum(_HELD_BYTES + len(raw) for _, raw in datagrams)
            empty = empty or left <= 0
            yield self._decoded(datagrams, last=empty)

    def _decoded(self, datagrams: list[tuple[str, bytes]], last: bool = False) -> FlowBatch:
        batch = self._decoder.decode(datagrams, self._clock(), last)
        drops = _kernel_drops(self._socket)
        if drops:
            self._decoder.counters["kernel_drops"] = drops
        self._save(now=last)
        return batch

    def _save(self, now: bool) -> None:
        if self._file is not None:
            self._file.save(self._decoder.counters, now)


def open_netflow(url: str) -> NetflowSource:
    """The source that `netflow://HOST:PORT?OPTION=VALUE&...` names.

    Options: recv_buffer (bytes), out_counters (reverse or ignore), times (checked or exporter), templates (a file),
    share (yes or no), sites (a file, see `sites.py`); see `NetflowSource`.
    Without host it listens on every address, without port on 2055; IPv6 addresses stand in brackets.

    Raises:
        ConfigError: a URL that is malformed, an option that is unknown, or a port that cannot be listened on.
    """
    host, port, options = parsed(url, "netflow", DEFAULT_PORT, _OPTIONS)
    recv_buffer = number("recv_buffer", options.get("recv_buffer", str(RECV_BUFFER_BYTES)), 1, (1 << 30) - 1)
    counters, times = options.get("out_counters", "reverse"), options.get("times", "checked")
    share = chosen("share", options.get("share", "no"), ("yes", "no")) == "yes"
    if options.get("templates") == "":
        raise ConfigError(f"netflow source: templates= is empty in {url!r}; give a file")
    templates = Path(options["templates"]) if "templates" in options else None
    sites = read_sites(Path(options["sites"])) if "sites" in options else None
    return NetflowSource(host, port, recv_buffer, counters, times, templates=templates, share=share, sites=sites)


def _kernel_drops(listening: socket.socket) -> int:
    """Datagrams that the kernel has dropped since the socket was opened; 0 where it does not say."""
    try:
        found = listening.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_DROPS + 1))
    except OSError:
        return 0  # not Linux
    return struct.unpack_from("I", found, 4 * _DROPS)[0] if len(found) == 4 * (_DROPS + 1) else 0


def _enlarge(listening: socket.socket, recv_buffer_bytes: int) -> None:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_buffer_bytes)
    try:
        listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, recv_buffer_bytes)
    except OSError:
        return  # not Linux, or not allowed to: what was granted can be read back
