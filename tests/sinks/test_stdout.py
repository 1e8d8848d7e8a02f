"""stdout: cards for people on a terminal, JSON lines in a pipe."""

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.errors import ConfigError, SinkError
from eddyline.flows import REJECTED_SCHEMA, flow_table
from eddyline.sinks import open_sink
from eddyline.sinks.alert_json import severity, utc
from eddyline.sinks.stdout import StdoutSink
from eddyline.windows import Window

START = 1_678_443_300_000_000  # 2023-03-10T10:15:00Z
IPV6 = "2001:db8:1111:2222:3333:4444:5555:6666"
PEERS = tuple(f"2001:db8:aaaa:bbbb:cccc:dddd:eeee:{n}" for n in range(1, 6))

WINDOW = ScoredFlows(
    Window("default", START, START + 60_000_000, 0, False, flow_table({"src_addr": ["a"], "dst_addr": ["b"]}, 1)),
    {}, {}, np.array([1e-7]), "model",
)  # fmt: skip


def alert(**changes: object) -> Alert:
    fields: dict = {
        "id": "a1b2c3d4e5f6", "site": "default", "host": IPV6, "role": "source", "service": "22/tcp",
        "reason": "bytes", "reasons": ("bytes 4.2 MB, usual 3.0 kB", "packets 900 packets"), "p": 3.2e-7,
        "first_seen_us": START, "last_seen_us": START + 95_000_000, "count": 12, "peers": PEERS, "peer_count": 412,
        "total_bytes": 4_200_000, "update": 0, "truth": (),
    }  # fmt: skip
    return Alert(**{**fields, **changes})


def rejected(*reasons: str) -> pa.Table:
    rows = [{"reason": reason, "origin": "x", "source_row": None, "raw": b"?"} for reason in reasons]
    return pa.Table.from_pylist(rows, REJECTED_SCHEMA)


def told(*updates: Alert, width: int = 100, colour: bool = False, close: bool = False) -> str:
    """What a person sees."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    sink = StdoutSink(out, cards=True, console=console)
    for update in updates:
        sink.write(WINDOW, [update])
    if close:
        sink.close()
    return out.getvalue()


def piped(*updates: Alert) -> list[dict]:
    """What a program reads."""
    out = io.StringIO()
    sink = StdoutSink(out)  # not a terminal
    for update in updates:
        sink.write(WINDOW, [update])
    sink.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_card_says_how_rare_who_what_why_how_much_with_whom_and_when() -> None:
    lines = [line.strip("│ ") for line in told(alert()).splitlines()]
    assert re.fullmatch(r"╭─  CRITICAL   p 3.2e-07  ─+╮", lines[0])
    assert lines[1:6] == [
        f"host     {IPV6} (source)",
        "service  22/tcp",
        "why      bytes 4.2 MB, usual 3.0 kB",
        "packets 900 packets",
        "flows    12, 4.2 MB",
    ]
    assert lines[-2] == "seen     2023-03-10 10:15:00 to 10:16:35 UTC"
    assert lines[-1].endswith("─ alert a1b2c3d4e5f6 ─╯")


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_address_is_cut_or_broken_and_no_line_is_wider_than_the_terminal(width: int) -> None:
    text = told(alert(), alert(count=13, update=1), width=width, close=True)
    assert max(map(len, text.splitlines())) <= width
    card, table = text.split("Alerts that grew")
    assert IPV6 in card
    assert IPV6 in table
    assert all(peer in card for peer in PEERS)
    assert "…" not in text
    assert "407 more" in " ".join(card.replace("│", " ").split())


def test_an_alert_is_shown_when_it_opens_and_again_at_ten_times_as_many_flows() -> None:
    counts = [12, 13, 119, 120, 121, 1_199, 1_200]
    shown = told(*(alert(count=count, update=n) for n, count in enumerate(counts)))
    assert shown.count("╭") == 3
    assert "grew from 12 to 120 flows" in shown
    assert "grew from 120 to 1,200 flows" in shown


def test_what_grew_since_it_was_shown_is_told_at_the_end_once() -> None:
    quiet = alert(id="quiet", host="192.0.2.9")
    end = told(alert(), quiet, alert(count=77, update=1), close=True).split("Alerts that grew")[1]
    assert IPV6 in end
    assert "77" in end
    assert "192.0.2.9" not in end


def test_flows_without_a_time_and_other_sites_and_labels_have_their_words() -> None:
    text = told(alert(first_seen_us=None, last_seen_us=None, site="plant-7", truth=("DDoS", "scan"), peer_count=5))
    for words in ("seen      at no known time", "site      plant-7", "labelled  DDoS, scan"):
        assert words in text
    assert "more" not in text


def test_days_are_named_where_a_story_spans_two() -> None:
    assert "seen     2023-03-10 10:15:00 to 2023-03-11 10:15:00 UTC" in told(alert(last_seen_us=START + 86_400_000_000))
    assert "seen     2023-03-10 10:15:00 UTC" in told(alert(last_seen_us=START + 900))


def test_text_from_the_network_can_neither_steer_the_terminal_nor_style_it() -> None:
    text = told(alert(site="\x1b[2J[red]x[/red]", reasons=("\x07bell\n",)))
    assert "\x1b" not in text
    assert "\\x1b[2J[red]x[/red]" in text
    assert "\\x07bell\\n" in text


def test_colours_are_for_terminals_and_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;37;41m CRITICAL" in told(alert(), colour=True)
    assert "\x1b[" not in told(alert())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", told(alert(), colour=True))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    raw = io.BytesIO()
    sink = StdoutSink(io.TextIOWrapper(raw, "ascii"), cards=True)
    sink.write(WINDOW, [alert(site="zürich")])
    sink.close()
    assert b"z\\xfcrich" in raw.getvalue()


def test_a_pipe_gets_one_json_line_per_update() -> None:
    first, second = piped(alert(), alert(count=13, update=1))
    assert first == {
        "id": "a1b2c3d4e5f6", "update": 0, "severity": "critical", "p": 3.2e-7, "site": "default", "host": IPV6,
        "role": "source", "service": "22/tcp", "reason": "bytes",
        "reasons": ["bytes 4.2 MB, usual 3.0 kB", "packets 900 packets"], "first_seen": "2023-03-10T10:15:00.000000Z",
        "last_seen": "2023-03-10T10:16:35.000000Z", "count": 12, "total_bytes": 4_200_000, "peer_count": 412,
        "peers": list(PEERS), "truth": [],
    }  # fmt: skip
    assert second == {**first, "update": 1, "count": 13}


def test_the_same_update_twice_is_told_once() -> None:
    assert len(piped(alert(), alert(), alert(count=13, update=1))) == 2
    assert told(alert(), alert()).count("╭") == 1


def test_null_times_stay_null_and_odd_letters_stay_in_their_line() -> None:
    (record,) = piped(alert(first_seen_us=None, last_seen_us=None, site="a\u2028b\nü"))
    assert (record["first_seen"], record["last_seen"], record["site"]) == (None, None, "a\u2028b\nü")


def test_a_live_run_sends_each_update_at_once_and_a_file_run_at_flush() -> None:
    for live, seen in ((True, True), (False, False)):
        raw = io.BytesIO()
        sink = StdoutSink(io.TextIOWrapper(raw, "utf-8"), live=live)
        sink.write(WINDOW, [alert()])
        assert bool(raw.getvalue()) is seen
        sink.flush()
        assert raw.getvalue().count(b"\n") == 1


def test_rejected_records_are_counted_by_reason_at_the_end_with_the_remedy() -> None:
    out, people = io.StringIO(), io.StringIO()
    sink = StdoutSink(out, console=Console(file=people, width=40))
    sink.reject(rejected("truncated header", "unknown version", "truncated header"))
    sink.close()
    sink.close()
    assert out.getvalue() == ""
    assert people.getvalue() == (
        "3 records could not be read: 2 truncated header, 1 unknown version; --sink file://DIR keeps them\n"
    )


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
    yield ours, theirs
    os.close(ours)


PROGRAM = """
import pyarrow as pa
from eddyline.sinks import open_sink
from tests.sinks.test_stdout import WINDOW, alert, rejected
sink = open_sink("stdout:")
sink.write(WINDOW, [alert()])
sink.reject(rejected("unknown version"))
sink.close()
"""


def read_all(number: int) -> str:
    pieces = []
    try:
        while piece := os.read(number, 65_536):
            pieces.append(piece)
    except OSError:  # a terminal's end of file on Linux
        pass
    return b"".join(pieces).decode()


def test_a_real_terminal_gets_cards_in_colour_and_its_own_width(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**known, "TERM": "xterm-256color"},
    ) as running:  # fmt: skip
        os.close(theirs)
        seen = read_all(ours)
    assert running.returncode == 0, seen
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen).splitlines()
    assert "\x1b[" in seen
    assert max(map(len, plain)) == 90
    assert any(IPV6 in line for line in plain)
    assert plain[-2:] == ["1 record could not be read: 1 unknown version;", "--sink file://DIR keeps them"]


def test_a_real_pipe_gets_json_alone_and_people_read_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["host"] == IPV6
    assert done.stderr == "1 record could not be read: 1 unknown version; --sink file://DIR keeps them\n"


def test_a_reader_that_went_away_is_a_sink_error_and_nothing_else() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    program = f"""
import sys
from eddyline.errors import SinkError
try:
    {PROGRAM.strip().replace(chr(10), chr(10) + "    ")}
except SinkError as error:
    sys.stderr.write(str(error))
    sys.exit(1)
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    assert done.returncode == 1
    assert done.stderr == (
        "sink: cannot write to standard output: Broken pipe; not written: up to 1 alert updates; "
        "run it again with something that reads"
    )


def test_a_full_device_is_a_sink_error() -> None:
    sink = StdoutSink(open("/dev/full", "w"))
    sink.write(WINDOW, [alert()])
    with pytest.raises(SinkError, match="No space left on device; not written: up to 1 alert updates"):
        sink.flush()
    sink._out.close()


@pytest.mark.parametrize("url", ["stdout", "stdout://x", "stdout:?x=1", "kafak://b:9092/t", "out", ""])
def test_a_url_that_no_sink_knows_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(ConfigError, match="stdout:"):
        open_sink(url)


def test_severity_and_time_have_exact_bounds() -> None:
    assert [severity(p) for p in (1e-7, 1e-6, 1.1e-6, 1e-5, 1e-4, 1.1e-4, 1.0)] == [
        "critical", "critical", "high", "high", "medium", "low", "low",
    ]  # fmt: skip
    assert utc(None) is None
    assert utc(-1) == "1969-12-31T23:59:59.999999Z"
    assert utc(2**62) == "148108-07-06T14:00:27.387904Z"
