"""Alerts on standard output: a card per alert for people on a terminal, a JSON line per update in a pipe. URL stdout:.

On a terminal an alert is shown when it opens and again whenever its flows have grown tenfold; what grew since is told
at the end. Flows are not written. Lines are described in `alert_json.py`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, TextIO

import pyarrow as pa
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.errors import ConfigError, SinkError
from eddyline.explanations import quantity
from eddyline.metrics import count_reasons
from eddyline.sinks.alert_json import alert_record, json_line, severity, utc

_STYLES: Final = {"critical": "bold white on red", "high": "bold red", "medium": "bold yellow", "low": "bold cyan"}
_GROWTH: Final = 10  # times as many flows as when last shown make an alert worth showing again
_KEPT: Final = 10_000  # alerts whose last state is remembered, the latest ones
_REASONS: Final = 5  # reasons of rejected records that are told by name
_MAX_WIDTH: Final = 110  # of a card: longer lines are harder to read


def open_stdout(url: str, *, live: bool = False, replays: bool = True) -> StdoutSink:
    """Write to this program's standard output; cards where it is a terminal. Raises ConfigError for any option."""
    if url != "stdout:":
        raise ConfigError(f"sink: `{url}` has options that standard output does not know; give stdout:")
    return StdoutSink(live=live)


class StdoutSink:
    """Tells alerts, and at the end how many records could not be read. Writing an update twice tells it once.

    Args:
        out: where to write; this program's standard output when not given.
        cards: whether people read it; when not given, whether `out` is a terminal.
        live: whether every line leaves at once rather than at the next flush.
        console: says what belongs to people only, and decides colours and width of cards; standard error in a pipe.
    """

    def __init__(
        self, out: TextIO | None = None, *, cards: bool | None = None, live: bool = False,
        console: Console | None = None,
    ) -> None:  # fmt: skip
        self._given, self._live = out, live
        self._cards = self._out.isatty() if cards is None else cards
        self._console = console or Console(file=out if self._cards else None, stderr=not self._cards)
        self._last: dict[str, Alert] = {}
        self._shown: dict[str, Alert] = {}
        self._unflushed = 0  # alert updates that may not have left yet
        self._rejected: Counter[str] = Counter()
        self._closed = False

    @property
    def _out(self) -> TextIO:
        # Looked up each time: while a progress line is on the terminal, rich stands in for sys.stdout.
        return self._given or sys.stdout

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        """Tell the alerts of one window; raises SinkError when nobody reads any more."""
        fresh = [alert for alert in alerts if self._last.get(alert.id) != alert]
        for alert in fresh:
            self._remember(alert)
        self._unflushed += len(fresh)
        if self._cards:
            self._show(fresh)
        else:
            with self._safely():
                _plain(self._out).writelines(json_line(alert_record(alert)).decode() for alert in fresh)
        if self._live and fresh:
            self.flush()

    def reject(self, rejected: pa.Table) -> None:
        """Count records that could not be read, by reason."""
        count_reasons(rejected, self._rejected)

    def flush(self) -> None:
        """Return when everything has left for the terminal or the pipe; raises SinkError when nobody reads it."""
        with self._safely():
            self._out.flush()
            _plain(self._out).flush()
        self._unflushed = 0

    def close(self) -> None:
        """Tell what grew since it was shown and what could not be read, once; standard output stays open."""
        if self._closed:
            return
        self._closed = True
        grown = [alert for name, alert in self._last.items() if self._cards and self._shown.get(name) != alert]
        if grown:
            self._print(_table(grown))
        self.flush()
        if self._rejected:
            self._say_rejected()

    def _say_rejected(self) -> None:
        between = ";\n" if self._cards else "; "  # one line for a log; a terminal must not break the remedy
        words = Text(f"{_rejected_words(self._rejected)}{between}--sink file://DIR keeps them", "yellow")
        if self._cards:
            self._print(words)
        else:
            self._console.print(words, soft_wrap=True)

    def _remember(self, alert: Alert) -> None:
        self._last.pop(alert.id, None)
        self._last[alert.id] = alert
        if len(self._last) > _KEPT:
            oldest = next(iter(self._last))
            del self._last[oldest]
            self._shown.pop(oldest, None)

    def _show(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            before = self._shown.get(alert.id)
            if before is None or alert.count >= _GROWTH * before.count:
                self._shown[alert.id] = alert
                self._print(_card(alert, before))

    def _print(self, what: RenderableType) -> None:
        # Through `_out`, not by the console: so a progress line that rich keeps on the terminal moves out of the way.
        with self._console.capture() as captured:
            self._console.print(what, width=min(self._console.width, _MAX_WIDTH))
        letters = self._out.encoding or "utf-8"
        with self._safely():
            self._out.write(captured.get().encode(letters, "backslashreplace").decode(letters))

    @contextmanager
    def _safely(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _abandon(self._out)
            raise SinkError(
                f"sink: cannot write to standard output: {error.strerror}; not written: up to {self._unflushed:,} "
                "alert updates; run it again with something that reads"
            ) from error


def _plain(out: TextIO) -> TextIO:
    """The stream itself where rich stands in for it, so that lines for programs never go to the progress display."""
    plain: TextIO = getattr(out, "rich_proxied_file", out)
    return plain


def _abandon(out: TextIO) -> None:
    """Let what is left in a broken stream's buffer go nowhere, or Python complains again when it exits."""
    with suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)


def _card(alert: Alert, before: Alert | None) -> Panel:
    level = severity(alert.p)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _lines(alert):
        grid.add_row(name, value)
    title = Text.assemble((f" {level.upper()} ", _STYLES[level]), f"  p {alert.p:.1e} ")
    if before is not None:
        title.append(f" grew from {before.count:,} to {alert.count:,} flows ")
    colour = _STYLES[level].split()[-1]
    return Panel(grid, title=title, title_align="left", subtitle=f"alert {alert.id}", subtitle_align="right",
                 border_style=colour)  # fmt: skip


def _lines(alert: Alert) -> Iterator[tuple[str, Text]]:
    yield "host", Text.assemble((_printable(alert.host), "bold"), f" ({alert.role})")
    yield "service", Text(_printable(alert.service), "bold")
    for number, reason in enumerate(alert.reasons or (alert.reason,)):
        yield "" if number else "why", Text(_printable(reason))
    yield "flows", Text(f"{alert.count:,}, {quantity(alert.total_bytes, 'B')}")
    yield "peers", Text(_peers(alert))
    yield "seen", Text(_seen(alert))
    if alert.site != "default":
        yield "site", Text(_printable(alert.site))
    if alert.truth:
        yield "labelled", Text(_printable(", ".join(alert.truth)))


def _peers(alert: Alert) -> str:
    more = alert.peer_count - len(alert.peers)
    return _printable(", ".join(alert.peers)) + (f" and {more:,} more" if more > 0 else "")


def _seen(alert: Alert) -> str:
    """Event times to the second, UTC; the day of the last one only where it is another."""
    seen = [time for time in (alert.first_seen_us, alert.last_seen_us) if time is not None]
    days_and_times = [str(utc(time // 1_000_000 * 1_000_000)).partition(".")[0].split("T") for time in seen]
    if not days_and_times:
        return "at no known time"
    (day, first), (other_day, last) = days_and_times[0], days_and_times[-1]
    if (day, first) == (other_day, last):
        return f"{day} {first} UTC"
    return f"{day} {first} to {last if day == other_day else f'{other_day} {last}'} UTC"


def _table(alerts: Sequence[Alert]) -> Table:
    table = Table(title="Alerts that grew since they were shown", title_justify="left", title_style="bold", box=None,
                  pad_edge=False, header_style="dim")  # fmt: skip
    for name, right in (("severity", False), ("host", False), ("service", False), ("flows", True), ("peers", True)):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for alert in sorted(alerts, key=lambda alert: alert.p):
        level = severity(alert.p)
        host, service = Text(_printable(alert.host)), Text(_printable(alert.service))
        table.add_row(Text(level, _STYLES[level]), host, service, f"{alert.count:,}", f"{alert.peer_count:,}")
    return table


def _rejected_words(rejected: Counter[str]) -> str:
    told = rejected.most_common(_REASONS)
    words = [f"{count:,} {_printable(reason)}" for reason, count in told]
    rest = rejected.total() - sum(count for _, count in told)
    return (f"{rejected.total():,} record{'s' * (rejected.total() != 1)} could not be read: {', '.join(words)}"
            f"{f', {rest:,} for other reasons' if rest else ''}")  # fmt: skip


def _printable(text: str) -> str:
    """Text from the network, with what could steer a terminal written out as escapes."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
