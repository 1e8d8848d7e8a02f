"""The command line as a service: signals, full disks, memory, kills; and the other commands around `run`."""

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
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.test_end_to_end import (
    SIMULATED,
    dead_letters,
    eddyline,
    plain,
    run,
    said_bad,
    same_scores,
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
    with service("run", "--source", f"netflow://127.0.0.1:{port}", "--model", model, "--sink",
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
def test_a_full_disk_is_one_line_and_the_next_run_completes_the_output(model: Path, tmp_path: Path) -> None:
    source = f"{SIMULATED}&seconds=1800&traffic=3"
    arguments = ("run", "--source", source, "--model", model, "--sink", f"file://{tmp_path}/out", "--flush-flows", 500)
    with service(
        *arguments, limit="ulimit -f 20"
    ) as started:  # a file ends at 10 or 20 KB, as a full disk would end it
        code, said = ended(started)
    assert code == 1
    assert re.fullmatch(r"eddyline: sink: cannot write `.*\.parquet`: .*; not written: [\d,]+ flows of .*\n", said)
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


def test_calibration_makes_p_a_share_again_on_another_network(model: Path, tmp_path: Path) -> None:
    office = "simulate://office?hosts=60&campaigns=none&seed=8"
    assert eddyline("calibrate", "--source", f"{office}&seconds=7200&traffic=11", "--model", model, "--out",
                    tmp_path / "own") == 0  # fmt: skip
    fresh = f"{office}&seconds=3600&traffic=12"
    foreign = run(fresh, model, tmp_path / "foreign")["p"].to_numpy()
    own = run(fresh, tmp_path / "own", tmp_path / "here")["p"].to_numpy()
    for share in (0.1, 0.2, 0.5):
        assert abs((own <= share).mean() - share) < abs((foreign <= share).mean() - share)
        assert share / 2 < (own <= share).mean() < 2 * share


def test_show_explains_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eddyline("show", model) == 0
    said = capsys.readouterr().out
    assert re.search(r"gae: calibrated on [\d,]+ benign flows", said)
    for key in ("windows.length_s", "training.hidden", "metrics.gae_held_out_auc", "libraries.torch"):
        assert key in said


def test_training_without_a_benign_flow_is_a_wrong_configuration(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert eddyline("simulate", "--sink", f"file://{tmp_path}/some.parquet", "--hosts", 60, "--seconds", 900) == 0
    flows = pq.read_table(tmp_path / "some.parquet")
    bad = flows.filter(pc.equal(flows["label"].cast(pa.utf8()), "malicious"))
    assert len(bad) > 0
    pq.write_table(bad, tmp_path / "bad.parquet")
    capsys.readouterr()
    assert eddyline("train", "--source", f"file://{tmp_path}/bad.parquet", "--model", tmp_path / "none") == 2
    said = capsys.readouterr().err
    assert re.fullmatch(r"eddyline: train: no benign flow in `.*` \(\d+ flows read\).*\n", said)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--source", f"{SIMULATED}&seconds=900&traffic=1", "--hidden", 8, "--epochs", 6, "--patience", 6)
    with service("train", "--model", tmp_path / "killed", *more) as started:
        assert started.stderr is not None
        for line in started.stderr:
            if line.startswith("training gae 2/"):
                started.kill()
                break
    assert not (tmp_path / "killed").exists()
    assert eddyline("train", "--model", tmp_path / "killed", *more) == 0
    epochs = [int(epoch) for epoch in re.findall(r"^training gae (\d+)/6", capsys.readouterr().err, re.MULTILINE)]
    assert epochs == list(range(epochs[0], 7))
    assert epochs[0] > 2
    assert eddyline("train", "--model", tmp_path / "whole", *more) == 0
    for name in ("weights", "calibration"):
        weights = [(tmp_path / each / "gae" / f"{name}.safetensors").read_bytes() for each in ("killed", "whole")]
        assert weights[0] == weights[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.parametrize("command", ["", "run", "train", "calibrate", "simulate", "show", "demo"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        eddyline(*command.split(), "--help")
    assert left.value.code == 0
    assert "usage: eddyline" in capsys.readouterr().out


def test_the_pipeline_script_runs_the_settings_of_a_file(model: Path, tmp_path: Path) -> None:
    source = f"{SIMULATED}&seconds=600&traffic=3"
    (tmp_path / "settings.yaml").write_text(
        f"source: {source}\nmodel: [{model}]\nsink: ['file://{tmp_path}/out']\nwindows: {{length_s: 120}}\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "pipeline.py", tmp_path / "settings.yaml"],
        capture_output=True, text=True, env=ONE_THREAD, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = scored(tmp_path / "out")
    assert same_scores(found, run(source, model, tmp_path / "cli", "--windows.length-s", 120))
    starts, ends = (found[edge].cast(pa.int64()).to_numpy() for edge in ("window_start", "window_end"))
    assert set((ends - starts).tolist()) == {120_000_000}
