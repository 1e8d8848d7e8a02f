"""Replaying captures and files of flows onto a real socket."""

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from eddyline.config import ReplaySettings, load
from eddyline.errors import ConfigError
from eddyline.flows import FlowBatch
from eddyline.replay import Pace, Replayed, replay
from eddyline.sources.netflow.udp import Decoder, NetflowSource
from tests.captures_bytes import collector, ethernet, pcap, received, udp
from tests.sources.netflow_bytes import EXPORTS, v5, v5_record
from tests.test_end_to_end import eddyline
from tests.test_end_to_end_service import wire_columns

pytest.importorskip("dpkt", reason="dpkt is not installed")

AT = 1_700_000_000_000_000
A, B = v5([v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 1, 2)]), v5([], sequence=7)


def play(source: Path | str, sink: str, speed: float = 0.0, **more: object) -> Replayed:
    settings = load(ReplaySettings, {"source": str(source), "sink": sink, "speed": speed, **more})
    return replay(settings, threading.Event(), lambda what, done, of, words: None)


@contextmanager
def collected(flows: int) -> Iterator[tuple[int, list[FlowBatch]]]:
    """The port of a collector, and what it has taken once the block ends: so many flows, or those of ten seconds."""
    source, batches, enough = NetflowSource("127.0.0.1", 0, times="exporter"), list[FlowBatch](), threading.Event()

    def collect() -> None:
        for batch in source:
            batches.append(batch)
            if sum(map(len, batches)) >= flows:
                enough.set()

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        yield source.port, batches
        enough.wait(10)
    finally:
        source.close()
        thread.join(10)


def capture(path: Path, *frames: tuple[int, bytes]) -> Path:
    path.write_bytes(pcap(frames))
    return path


def test_datagrams_leave_as_they_were_and_every_exporter_has_an_address(tmp_path: Path) -> None:
    file = capture(
        tmp_path / "x.pcap", (AT, ethernet(udp("192.0.2.1", "192.0.2.9", A))),
        (AT + 1, ethernet(udp("2001:db8::1", "2001:db8::9", B), vlan=7)),
        (AT + 2, ethernet(udp("192.0.2.1", "192.0.2.9", B))),
        (AT + 3, ethernet(udp("192.0.2.1", "192.0.2.9", b"\\0\\x35dns"))),
    )  # fmt: skip
    with collector() as listening:
        done = play(file, f"netflow://127.0.0.1:{listening.getsockname()[1]}")
        found = received(listening, 3)
    assert [raw for _, raw in found] == [A, B, B]
    assert found[0][0] == found[2][0] != found[1][0]
    assert (done.sent, done.exporters, done.apart) == (3, 2, True)
    assert dict(done.left_out) == {"not NetFlow v5, v9 or IPFIX": 1}


def test_one_port_of_a_capture_can_be_chosen(tmp_path: Path) -> None:
    frames = [(AT, ethernet(udp("192.0.2.1", "192.0.2.9", raw, port))) for raw, port in ((A, 2055), (B, 4739))]
    file = capture(tmp_path / "x.pcap", *frames)
    with collector() as listening:
        done = play(file, f"netflow://127.0.0.1:{listening.getsockname()[1]}", port=4739)
        assert received(listening, 1)[0][1] == B
    assert dict(done.left_out) == {"sent to another port": 1}


def test_ten_times_faster_is_ten_times_faster(tmp_path: Path) -> None:
    frames = [(AT + gap, ethernet(udp("192.0.2.1", "192.0.2.9", B))) for gap in (0, 2_000_000, 5_000_000)]
    file = capture(tmp_path / "x.pcap", *frames)
    with collector() as listening:
        began = time.monotonic()
        done = play(file, f"netflow://127.0.0.1:{listening.getsockname()[1]}", speed=10.0)
        took = time.monotonic() - began
        received(listening, 3)
    assert 0.5 <= took < 2
    assert done.behind_s < 1


def test_pace_counts_from_the_first_and_does_not_wait_for_what_is_overdue() -> None:
    now = [100.0]
    stop = threading.Event()
    pace = Pace(2.0, stop, lambda: now[0])
    assert pace.wait(7_000_000)
    now[0] = 103.0
    assert pace.wait(10_000_000)  # due at 101.5
    assert pace.behind_s == 1.5
    assert pace.wait(5_000_000)  # before the first, as captures of several queues have them
    stop.set()
    assert not pace.wait(10**15)


def test_a_stop_ends_a_wait_at_once(tmp_path: Path) -> None:
    frames = [(AT + gap, ethernet(udp("192.0.2.1", "192.0.2.9", B))) for gap in (0, 3_600_000_000)]
    file, stop = capture(tmp_path / "x.pcap", *frames), threading.Event()
    settings = load(ReplaySettings, {"source": str(file), "sink": "netflow://127.0.0.1:9"})
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    done = replay(settings, stop, lambda what, done, of, words: None)
    assert (done.sent, time.monotonic() - began < 3) == (1, True)


def test_a_stop_ends_a_replay_of_flows_without_reading_on(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ts,src,dst\n" + "1700000000,10.0.0.1,10.0.0.2\n" * 9)
    source, stop, told = f"file://{tmp_path}/x.csv?order=source&batch=3", threading.Event(), list[int]()
    settings = load(ReplaySettings, {"source": source, "sink": "netflow://127.0.0.1:9", "speed": 0.0})

    def report(what: str, done: int, of: int, words: str) -> None:
        told.append(done)
        stop.set()

    assert replay(settings, stop, report).sent == 3
    assert told == [3]


def test_a_real_capture_gives_a_collector_what_its_datagrams_hold(tmp_path: Path) -> None:
    if not EXPORTS.exists():
        pytest.skip("the shared export fixtures are not beside this checkout")
    from eddyline.sources.captures import Capture

    file = EXPORTS / "graylog-plugin" / "nprobe-netflow9-3.pcap"
    packed = tmp_path / "x.pcap.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    inside = [("x", datagram.payload) for datagram in Capture(file)]
    expected = Decoder().decode(inside, last=True)
    with collected(len(expected)) as (port, got):
        sent = play(packed, f"netflow://127.0.0.1:{port}", packets_per_second=2_000).sent
    assert sent == len(inside) == 72
    assert sum(map(len, got)) == len(expected) > 800
    assert sum(batch.table["bytes"].to_numpy().sum() for batch in got) == expected.table["bytes"].to_numpy().sum()


def test_flows_of_a_file_arrive_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "sent.parquet"
    assert eddyline("simulate", "--sink", f"file://{file}", "--hosts", 60, "--seconds", 60, "--seed", 5) == 0
    flows = pq.read_table(file)
    with collected(flows.num_rows) as (port, got):
        assert eddyline("replay", file, "--sink", f"netflow://127.0.0.1:{port}", "--speed", 60) == 0
    rows = [row for batch in got for row in wire_columns(batch.table)]
    assert sorted(rows, key=repr) == wire_columns(flows)
    assert flows.num_rows > 100


def test_a_wrong_sink_file_or_flag_stops_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = capture(tmp_path / "x.pcap", (AT, ethernet(udp("192.0.2.1", "192.0.2.9", B))))
    for sink in ("file://x.parquet", "netflow://127.0.0.1:9?version=9", "netflow://:9", "netflow://x:99999"):
        with pytest.raises(ConfigError, match=r"write netflow://HOST:PORT|netflow://HOST:PORT without options"):
            play(file, sink)
    with pytest.raises(ConfigError, match="no such file"):
        play(tmp_path / "none.pcap", "netflow://127.0.0.1:9")
    (tmp_path / "x.csv").write_text("src,dst\na,b\n")
    with pytest.raises(ConfigError, match="`--port` chooses among"):
        play(tmp_path / "x.csv", "netflow://127.0.0.1:9", port=1)
    assert eddyline("replay", "--sink", "netflow://127.0.0.1:9") == 2
    assert "`source` is missing" in capsys.readouterr().err


def test_the_command_says_what_went_out_and_what_did_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [(AT, ethernet(udp("192.0.2.1", "192.0.2.9", raw))) for raw in (A, b"x", B)]
    file = capture(tmp_path / "x.pcap", *frames)
    with collector() as listening:
        sink = f"netflow://127.0.0.1:{listening.getsockname()[1]}"
        assert eddyline("replay", file, "--sink", sink) == 0
        assert [raw for _, raw in received(listening, 2)] == [A, B]
    said = capsys.readouterr().err
    assert f"2 datagrams sent to {sink}\n1 left out: not NetFlow v5, v9 or IPFIX\n" in said
