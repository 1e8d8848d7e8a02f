"""netflow+tcp://: IPFIX over TCP (RFC 7011 section 10.4). What one exporter sent is lost only with its connection."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from eddyline.flows import REJECTED_SCHEMA, FlowBatch, empty_flows
from eddyline.sources.netflow.address import bound, chosen, parsed, plain
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.heap import keep_freed_memory
from eddyline.sources.netflow.stop import Stop
from eddyline.sources.netflow.tally import Tally
from eddyline.sources.netflow.udp import GATHER_S, IDLE_S, wall_clock
from eddyline.windows import Commit

DEFAULT_PORT: Final = 4739
MAX_SESSIONS: Final = 256  # connections at a time; more are refused
GATHER_BYTES: Final = 8 << 20  # of a batch; an exporter that is faster waits
_SESSION_TEMPLATES: Final = 256
_SESSION_PENDING_BYTES: Final = 1 << 16
_READ_BYTES: Final = 1 << 16
_HEAD_BYTES: Final = 16
_OPTIONS: Final = ("out_counters", "times")
_KEPT_BYTES: Final = 1 << 16  # of a stream that is not IPFIX


@dataclass(slots=True)
class _Session:
    """One connection: templates are valid for it alone (RFC 7011 section 8)."""

    end: socket.socket
    origin: str
    decoder: Decoder
    rest: bytes = b""  # the beginning of a message
    messages: list[tuple[str, bytes]] = field(default_factory=list)
    over: bool = False  # nothing more will come


def cut_messages(stream: bytes) -> tuple[list[bytes], bytes, bool]:
    """The whole IPFIX messages at the beginning of a byte stream, what follows them, and whether that can be one."""
    messages: list[bytes] = []
    offset = 0
    while len(stream) - offset >= 4:
        version, length = stream[offset : offset + 2], int.from_bytes(stream[offset + 2 : offset + 4], "big")
        if version != b"\0\x0a" or length < _HEAD_BYTES:
            return messages, stream[offset:], False
        if offset + length > len(stream):
            break
        messages.append(stream[offset : offset + length])
        offset += length
    return messages, stream[offset:], True


class NetflowTcpSource:
    """Flows that exporters send over TCP, of each exporter in its order. Blocks at most about a second.

    A connection whose bytes are not IPFIX is closed; what could not be read is rejected. Where more arrives than is
    taken, exporters wait: nothing is lost. `commit` has nothing to do: what came cannot be asked for again.

    Args:
        host: address or name to listen on; "::" also takes IPv4, "" is every address of this machine.
        port: TCP port; 0 takes any free one, see `port`.
        out_counters, times, clock: as for `NetflowSource`.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    resumes = False

    def __init__(
        self,
        host: str = "",
        port: int = DEFAULT_PORT,
        out_counters: str = "reverse",
        times: str = "checked",
        clock: Callable[[], int] = wall_clock,
    ) -> None:
        self._reverse = chosen("out_counters", out_counters, ("reverse", "ignore")) == "reverse"
        self._checked = chosen("times", times, ("checked", "exporter")) == "checked"
        self._clock = clock
        self._listening = bound(host, port, socket.SOCK_STREAM)
        self._listening.listen(MAX_SESSIONS)
        self.port = int(self._listening.getsockname()[1])
        self._sessions: dict[int, _Session] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._stop = Stop(self._release)
        keep_freed_memory()
        self._selector.register(self._stop, selectors.EVENT_READ)
        self._totals: Counter[str] = Counter()
        self._tally = Tally(named=True)

    @property
    def counters(self) -> Mapping[str, int]:
        """Totals so far: those of `NetflowSource`, `sessions`, and `refused_sessions` beyond MAX_SESSIONS."""
        return self._totals

    @property
    def exporters(self) -> Mapping[str, Mapping[str, int]]:
        """Totals so far by exporter, over all its connections; the log says which address a number stands for."""
        return self._tally.numbered()

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches until `close`; an empty one with the clock after a second of silence."""
        if not self._stop.begin():
            return
        try:
            while not self._stop.stopped:
                yield self._batch(self._gather())
            yield self._batch(self._drain())
        finally:
            self._stop.end()

    def commit(self, commit: Commit) -> None:
        """Nothing to keep: what a connection gave is gone."""

    def close(self) -> None:
        """End the iteration, from any thread, after what the kernel holds has been read; twice is once."""
        self._stop.stop()

    def _gather(self) -> list[_Session]:
        """The sessions that sent something, or ended, within GATHER_S of the first."""
        deadline = time.monotonic() + IDLE_S
        left, heard = GATHER_BYTES, dict[int, _Session]()
        while not self._stop.stopped and left > 0 and (wait_s := deadline - time.monotonic()) > 0:
            silent = not heard
            for key, _ in self._selector.select(wait_s):
                left -= self._serve(key.fd, heard)
            if silent and heard:
                deadline = time.monotonic() + GATHER_S
        return list(heard.values())

    def _drain(self) -> list[_Session]:
        """What lies in the sockets at the stop; every connection is over then."""
        heard = dict(self._sessions)
        for session in heard.values():
            left = GATHER_BYTES
            while left > 0 and not session.over and (taken := self._read(session)):
                left -= taken
            self._finish(session)
        return list(heard.values())

    def _serve(self, ready: int, heard: dict[int, _Session]) -> int:
        if ready == self._listening.fileno():
            self._accept()
        if ready not in self._sessions:
            return 0
        session = heard[id(self._sessions[ready])] = self._sessions[ready]
        return self._read(session)

    def _accept(self) -> None:
        try:
            end, sender = self._listening.accept()
        except OSError:
            return  # it went away before it was taken
        if len(self._sessions) >= MAX_SESSIONS:
            self._totals["refused_sessions"] += 1
            end.close()
            return
        self._totals["sessions"] += 1
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        limits = _SESSION_TEMPLATES, _SESSION_PENDING_BYTES
        decoder = Decoder(self._reverse, self._checked, *limits, self._tally)
        self._sessions[end.fileno()] = _Session(end, plain(sender[0]), decoder)
        self._selector.register(end, selectors.EVENT_READ)

    def _read(self, session: _Session) -> int:
        """Take what one read gives and cut it into messages; how many bytes came, 0 where none are there."""
        try:
            more = session.end.recv(_READ_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            more = b""  # reset: the same as its end
        found, session.rest, fits = cut_messages(session.rest + more)
        session.messages += [(session.origin, message) for message in found]
        if not more or not fits:
            self._finish(session)
        return len(more)

    def _finish(self, session: _Session) -> None:
        """Close the connection; what remains of its stream is no message and will be rejected."""
        if session.over:
            return
        session.over = True
        self._selector.unregister(session.end)
        del self._sessions[session.end.fileno()]
        session.end.close()

    def _batch(self, heard: list[_Session]) -> FlowBatch:
        now_us = self._clock()
        batches = [FlowBatch(empty_flows(), rejected=_remains(heard), now_us=now_us)]
        for session in heard:
            before = Counter(session.decoder.counters)
            messages, session.messages = session.messages, []
            batches.append(session.decoder.decode(messages, now_us, last=session.over))
            self._totals.update(Counter(session.decoder.counters) - before)
        self._totals["rejected"] += batches[0].rejected.num_rows
        self._tally.add(Counter((origin, "bad_datagrams") for origin in batches[0].rejected["origin"].to_pylist()))
        table = pa.concat_tables([batch.table for batch in batches]).unify_dictionaries().combine_chunks()
        return FlowBatch(table, rejected=pa.concat_tables([batch.rejected for batch in batches]), now_us=now_us)

    def _release(self) -> None:
        for session in list(self._sessions.values()):
            session.end.close()
        self._selector.close()
        self._listening.close()


def _remains(heard: list[_Session]) -> pa.Table:
    """What connections that are over sent after their last whole message: rows of REJECTED_SCHEMA, one each."""
    ended = [session for session in heard if session.over and session.rest]
    columns = {
        "reason": ["IPFIX over TCP: the connection ended, or went on, with bytes that are no message"] * len(ended),
        "origin": [session.origin for session in ended],
        "source_row": [None] * len(ended),
        "raw": [session.rest[:_KEPT_BYTES] for session in ended],
    }
    return pa.table(columns, schema=REJECTED_SCHEMA)


def open_netflow_tcp(url: str) -> NetflowTcpSource:
    """The source that `netflow+tcp://HOST:PORT?out_counters=reverse|ignore&times=checked|exporter` names; port 4739.

    Raises:
        ConfigError: a URL that is malformed, an option that is unknown, or a port that cannot be listened on.
    """
    host, port, options = parsed(url, "netflow+tcp", DEFAULT_PORT, _OPTIONS)
    return NetflowTcpSource(host, port, options.get("out_counters", "reverse"), options.get("times", "checked"))
