"""`eddyline replay`: a capture's NetFlow datagrams as they were, or the flows of a file, at their own speed.

To a collector a capture is sent byte for byte, headers and their clocks included, and flows are encoded by our
exporter; to a topic of Kafka both go as flows. Either way what arrives has the times it had.
"""

from __future__ import annotations

import gzip
import importlib
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eddyline.config import ReplaySettings
from eddyline.errors import ConfigError, SourceError
from eddyline.metrics import count_reasons
from eddyline.simulation import Target, open_target
from eddyline.sinks.datagrams import DatagramSender
from eddyline.sources import open_source
from eddyline.sources.netflow.decoder import Decoder

_CAPTURES: Final = (
    b"\xa1\xb2\xc3\xd4", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a",
)  # fmt: skip  # pcap in micro- and nanoseconds, of either byte order, and pcapng
_SLICE_S: Final = 0.05  # of the clock on the wall: flows that end within it leave together
_AT_ONCE: Final = 1_024  # datagrams that are decoded together
_BURST: Final = 32  # datagrams between two looks at the clock
Report = Callable[[str, int, int, str], None]


@dataclass(slots=True)
class Replayed:
    """What went out.

    Args:
        what: "datagrams" or "flows". sent: of them. left_out: others, by reason.
        exporters: of a capture. apart: whether the collector can tell them apart.
        behind_s: how much later than due the latest one left, seconds.
    """

    what: str
    sent: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    exporters: int = 0
    apart: bool = True
    behind_s: float = 0.0


class Pace:
    """Waits until it is time for what happened at an event time; the first call is the start.

    Args:
        speed: event seconds per second; 0 does not wait.
        stop: ends a wait.
        clock: seconds that only grow.
    """

    def __init__(self, speed: float, stop: Event, clock: Callable[[], float] = time.monotonic) -> None:
        self._speed, self._stop, self._clock = speed, stop, clock
        self._start: tuple[int, float] | None = None
        self.behind_s = 0.0

    def wait(self, time_us: int) -> bool:
        """Return when it is due, at once if it is overdue; False if `stop` was set meanwhile."""
        if not self._speed:
            return not self._stop.is_set()
        if self._start is None:
            self._start = time_us, self._clock()
        due = self._start[1] + (time_us - self._start[0]) / 1e6 / self._speed
        left = due - self._clock()
        if left > 0:
            return not self._stop.wait(left)
        self.behind_s = max(self.behind_s, -left)
        return not self._stop.is_set()


def replay(settings: ReplaySettings, stop: Event, report: Report) -> Replayed:
    """Play `settings.source` to `settings.sink` until it ends or `stop` is set.

    Raises:
        ConfigError: a file that is neither, a sink that does not fit it, or dpkt missing for a capture.
        SinkError: the network refuses.
    """
    path = Path(settings.source)
    if path.is_file() and is_capture(path):
        capture = _capture(path, settings.port)
        return (_replay_decoded if settings.sink.startswith("kafka://") else _replay_capture)(
            capture, settings, stop, report
        )
    if settings.port is not None:
        raise ConfigError(f"replay: `--port` chooses among the datagrams of a capture; `{settings.source}` holds flows")
    with closing(open_source(settings.source)) as source, open_target(settings.sink) as target:
        return _replay_flows((batch.table for batch in source), target, settings, stop, report)


def is_capture(path: Path) -> bool:
    """Whether the first bytes of a file, unpacked if need be, are those of a pcap or pcapng file."""
    try:
        with path.open("rb") as file:
            first = file.read(4)
        if first.startswith(b"\x1f\x8b"):
            with gzip.open(path, "rb") as packed:
                first = packed.read(4)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    except OSError as error:
        raise SourceError(f"replay: cannot read `{path}`: {error.strerror or error}") from error
    return first in _CAPTURES


def _capture(path: Path, port: int | None) -> Any:
    try:
        captures = importlib.import_module("eddyline.sources.captures")
    except ModuleNotFoundError as error:
        if error.name != "dpkt":
            raise
        raise ConfigError(
            f"replay: `{path}` is a capture, and dpkt is not installed: install eddyline[pcap]"
        ) from error
    return captures.Capture(path, port)


def _replay_capture(capture: Any, settings: ReplaySettings, stop: Event, report: Report) -> Replayed:
    host, port = _collector(settings.sink)
    done, pace, gate = Replayed("datagrams"), Pace(settings.speed, stop), Gate(settings.packets_per_second)
    with closing(DatagramSender(host, port)) as sender:
        for datagram in capture:
            if not pace.wait(datagram.time_us):
                break
            gate.wait()
            sender.send(datagram.exporter, datagram.payload)
            done.sent += 1
            if done.sent % 100 == 0:
                report("replaying", done.sent, 0, f"{done.sent:,} datagrams out")
        done.exporters, done.apart = sender.exporters, sender.apart or sender.exporters < 2
    done.left_out, done.behind_s = capture.skipped, pace.behind_s
    return done


def _replay_decoded(capture: Any, settings: ReplaySettings, stop: Event, report: Report) -> Replayed:
    """The flows of a capture to a target that takes no datagrams, when their datagrams are due."""
    done, pace, decoder = Replayed("flows"), Pace(settings.speed, stop), Decoder()
    with open_target(settings.sink) as target:
        for datagrams in _together(capture, settings.speed):
            if not pace.wait(datagrams[0].time_us):
                break
            _send_decoded(decoder, datagrams, target, done)
            report("replaying", done.sent, 0, f"{done.sent:,} flows out")
        _send_decoded(decoder, [], target, done, last=True)
    done.exporters, done.behind_s = len(decoder.tally.by_address()), pace.behind_s
    done.left_out += capture.skipped
    return done


def _together(capture: Iterable[Any], speed: float) -> Iterator[list[Any]]:
    """Consecutive datagrams that are due within one slice of time, a bounded number at once."""
    step_us = max(1, round(_SLICE_S * speed * 1e6)) if speed else 0
    some: list[Any] = []
    for datagram in capture:
        if some and (len(some) >= _AT_ONCE or (step_us and datagram.time_us - some[0].time_us >= step_us)):
            yield some
            some = []
        some.append(datagram)
    if some:
        yield some


def _send_decoded(decoder: Decoder, datagrams: list[Any], target: Target, done: Replayed, last: bool = False) -> None:
    batch = decoder.decode([(one.exporter, one.payload) for one in datagrams], last=last)
    if len(batch):
        done.sent += target.send(batch.table)
    count_reasons(batch.rejected, done.left_out)


class Gate:
    """Spaces datagrams so that a local collector keeps up with a replay that does not wait for time."""

    def __init__(self, per_second: float) -> None:
        self._gap_s, self._due_s = 1 / per_second, 0.0

    def wait(self) -> None:
        """Block while the rate asks for it, a few datagrams at a time."""
        now = time.monotonic()
        self._due_s = max(self._due_s, now - _BURST * self._gap_s) + self._gap_s
        if self._due_s > now:
            time.sleep(self._due_s - now)


def _replay_flows(
    tables: Iterator[pa.Table], target: Target, settings: ReplaySettings, stop: Event, report: Report
) -> Replayed:
    done, pace = Replayed("flows"), Pace(settings.speed, stop)
    for table in tables:
        for part, time_us in _slices(table, settings.speed):
            if stop.is_set() or (time_us is not None and not pace.wait(time_us)):
                break
            sent = target.send(part)
            done.sent += sent
            done.left_out["cannot be said in this version of NetFlow"] += part.num_rows - sent
        report("replaying", done.sent, 0, f"{done.sent:,} flows out")
    done.left_out, done.behind_s = +done.left_out, pace.behind_s
    return done


def _slices(table: pa.Table, speed: float) -> Iterator[tuple[pa.Table, int | None]]:
    """Consecutive flows that end within one slice of time, and when the first does; None where nothing is to wait for.

    Flows without a time leave with the one before them.
    """
    ends = pc.fill_null_backward(pc.fill_null_forward(table["ts_end"].cast(pa.int64()).combine_chunks()))
    if not speed or ends.null_count:
        yield table, None
    elif table.num_rows:
        steps = ends.to_numpy() // max(1, round(_SLICE_S * speed * 1e6))
        for first, last in pairwise([0, *(np.flatnonzero(np.diff(steps)) + 1).tolist(), table.num_rows]):
            yield table.slice(first, last - first), ends[first].as_py()


def _collector(url: str) -> tuple[str, int]:
    """Host and port of a netflow:// sink; a capture goes nowhere else, for only the wire takes datagrams."""
    try:
        parts = urlsplit(url)
        port = 2055 if parts.port is None else parts.port
    except ValueError as error:
        raise ConfigError(f"replay: {url!r}: {error}; write netflow://HOST:PORT") from error
    if parts.scheme != "netflow" or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise ConfigError(
            "replay: a capture is sent as it is, to netflow://HOST:PORT without options, or as flows to kafka://; "
            f"`{url}` is not of this form"
        )
    return parts.hostname, port
