"""The command line as a service: signals, full disks, memory, kills."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.sources.netflow_bytes import v5, v5_record
from tests.test_end_to_end import (
    SIMULATED,
    dead_letters,
    eddyline,
    plain,
    run,
    said_bad,
    scored,
    tiny_model,
)

ROOT = Path(__file__).parents[1]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this interpreter: weights must come out the same
NOISE = [b"?", b"\0\x05", b"\0\x09" + bytes(3), b"\0\x0a" + bytes(14), os.urandom(900), bytes(1400)]
GROWTH_MB = 32  # what a stream of 10 s may add once everything is loaded; about 200,000 flows


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


@contextmanager
def service(*arguments: object, limit: str = "ulimit -c 0") -> Iterator[subprocess.Popen[str]]:
    """The same command in a process of its own, after the shell's `limit`; killed if a test leaves it behind."""
    command = [sys.executable, "-m", "eddyline.cli", *map(str, arguments)]
    started = subprocess.Popen(
        ["sh", "-c", f'{limit}; exec "$@"', "sh", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ONE_THREAD,
    )  # fmt: skip
    with started:
        try:
            yield started
        finally:
            started.kill()


def ended(started: subprocess.Popen[str], with_signal: int | None = None) -> tuple[int, str]:
    """Exit status and standard error of a service, after a signal if one is given."""
    if with_signal is not None:
        started.send_signal(with_signal)
    _, error = started.communicate(timeout=60)
    return started.returncode, error


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send_until_taken(port: int, datagram: bytes) -> None:
    """Send `datagram` until somebody listens: as long as nobody does, the kernel refuses it, and says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("127.0.0.1", port))
        out.settimeout(0.2)
        for _ in range(300):
            try:
                out.send(datagram)
                out.recv(1)
            except ConnectionRefusedError:
                time.sleep(0.1)
            except TimeoutError:
                return
    pytest.fail(f"nobody listens on {port} after 30 s")


def send(port: int, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        for datagram in datagrams:
            out.sendto(datagram, ("127.0.0.1", port))


def wire_columns(flows: pa.Table) -> list[tuple[object, ...]]:
    """What NetFlow v9 carries of each flow, sorted; times in milliseconds."""
    names = ["src_addr", "dst_addr", "src_port", "dst_port", "proto", "bytes", "packets", "rev_bytes", "rev_packets"]
    ends = (flows["ts_end"].cast(pa.int64()).to_numpy() // 1000).tolist()
    return sorted(zip(ends, *(flows[name].to_pylist() for name in names), strict=True), key=repr)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_collector_that_is_stopped_has_scored_every_flow_on_the_wire_once(
    model: Path, tmp_path: Path, number: int
) -> None:
    port, office = free_port(), ("--hosts", 60, "--seconds", 300, "--seed", 5)
    assert eddyline("simulate", "--sink", f"file://{tmp_path}/sent.parquet", *office) == 0
    with service("run", "--source", f"netflow://127.0.0.1:{port}?times=exporter", "--model", model, "--sink",
                 f"file://{tmp_path}/out") as started:  # fmt: skip
        send_until_taken(port, NOISE[0])
        send(port, *NOISE[1:3])
        exporter = f"netflow://127.0.0.1:{port}?packets_per_second=1000"
        assert eddyline("simulate", "--sink", exporter, *office) == 0
        send(port, *NOISE[3:])
        code, said = ended(started, number)
    sent = pq.read_table(tmp_path / "sent.parquet")
    assert code == 0, said
    assert len(sent) > 1000
    assert wire_columns(scored(tmp_path / "out")) == wire_columns(sent)
    assert [letter["raw"] for letter in dead_letters(tmp_path / "out")] == NOISE
    assert re.search(rf"^scored +{len(sent):,}\b", said, re.MULTILINE), said
    assert said_bad(said) == len(NOISE)


@pytest.mark.slow
def test_a_collector_that_is_started_again_loses_nothing_of_the_minute(model: Path, tmp_path: Path) -> None:
    port = free_port()
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 100_000, 100_000)
    for life in range(2):
        with service("run", "--source", f"netflow://127.0.0.1:{port}", "--model", model, "--sink",
                     f"file://{tmp_path}/out") as started:  # fmt: skip
            send_until_taken(port, v5([record] * 20, sequence=20 * life))
            code, said = ended(started, signal.SIGTERM)
        assert code == 0, said
    assert scored(tmp_path / "out").num_rows == 40


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_next_run_completes_the_output(model: Path, tmp_path: Path) -> None:
    source = f"{SIMULATED}&seconds=1800&traffic=3"
    arguments = ("run", "--source", source, "--model", model, "--sink", f"file://{tmp_path}/out", "--flush-flows", 500)
    with service(
        *arguments, limit="ulimit -f 20"
    ) as started:  # a file ends at 10 or 20 KB, as a full disk would end it
        code, said = ended(started)
    assert code == 1
    last = said.splitlines()[-1]  # after a warning that so short a training gives few pair-minutes
    assert re.fullmatch(r"eddyline: sink: cannot write `.*\.parquet`: .*; not written: [\d,]+ flows of .*", last), said
    assert not list((tmp_path / "out" / "flows").glob(".*"))
    whole = run(source, model, tmp_path / "whole")
    assert scored(tmp_path / "out").num_rows < whole.num_rows
    assert eddyline(*arguments) == 0
    assert plain(scored(tmp_path / "out")).equals(plain(whole))


def test_alerts_that_cannot_be_written_end_the_run_and_come_with_the_next(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    arguments = ("run", "--source", f"{SIMULATED}&seconds=1800&traffic=3", "--model", model, "--sink",
                 f"file://{tmp_path}/out", "--alerts.p", 0.01)  # fmt: skip
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "alerts.jsonl").symlink_to("/dev/full")
    assert eddyline(*arguments) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"eddyline: sink: cannot write `.*/alerts\.jsonl`: .* [1-9]\d* alert updates.*\n", said)
    (tmp_path / "out" / "alerts.jsonl").unlink()
    assert eddyline(*arguments) == 0
    told = set(scored(tmp_path / "out")["alert_id"].to_pylist()) - {None}
    lines = (tmp_path / "out" / "alerts.jsonl").read_text().splitlines()
    assert len(told) == len(lines) > 0


@pytest.mark.slow
def test_a_run_that_was_killed_is_completed_by_the_next(model: Path, tmp_path: Path) -> None:
    source = f"{SIMULATED}&seconds=7200&traffic=3"
    arguments = ("run", "--source", source, "--model", model, "--sink", f"file://{tmp_path}/out", "--flush-flows", 300)
    with service(*arguments) as started:
        wait_for(lambda: len(list(tmp_path.glob("out/flows/*.parquet"))) > 2)
        started.kill()
    whole = run(source, model, tmp_path / "whole")
    assert 0 < scored(tmp_path / "out").num_rows < whole.num_rows
    again = run(source, model, tmp_path / "out", "--flush-flows", 700)
    assert again.drop_columns("source_row").sort_by("ts_end").equals(whole.drop_columns("source_row").sort_by("ts_end"))


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def rss_mb(number: int) -> float:
    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_memory_stays_flat_on_an_endless_stream(model: Path, tmp_path: Path) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc on this system")
    with service("run", "--source", "simulate://office?hosts=60&seconds=0", "--model", model, "--sink",
                 f"file://{tmp_path}/out", "--flush-flows", 5000) as started:  # fmt: skip
        wait_for(lambda: len(list(tmp_path.glob("out/flows/*.parquet"))) > 4)
        before = rss_mb(started.pid)
        time.sleep(10)
        grown = rss_mb(started.pid) - before
        code, said = ended(started, signal.SIGTERM)
    assert code == 0, said
    assert re.search(r"^scored +\d{2,3},\d{3}\b", said, re.MULTILINE), said
    assert grown < GROWTH_MB, f"{grown:.0f} MB more after 10 s; {said}"
