"""The real pipeline of Morpheus 25.06 on a stand-in of its C++ parts: the table, signals, a full disk, its CLI."""

import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.forks import Forks
from tests.programs import free_udp_port
from tests.runtimes.morpheus.standin import why_not
from tests.sources.netflow_bytes import v5, v5_record
from tests.test_end_to_end import eddyline, plain, scored, tiny_model
from tests.test_end_to_end_service import send_until_taken

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]
MORPHEUS = ("--runtime", "morpheus")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    model = tiny_model(tmp_path_factory)
    started = Forks(model, tmp_path_factory.mktemp("morpheus"), "tests.runtimes.morpheus.standin")
    yield started
    started.close()


@pytest.fixture(scope="module")
def flows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of flows with attacks in it."""
    file = tmp_path_factory.mktemp("flows") / "flows.parquet"
    assert eddyline("simulate", "--sink", f"file://{file}", "--hosts", 60, "--seconds", 600, "--traffic", 3) == 0
    return file


@pytest.fixture(scope="module")
def expected(services: Forks, flows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the embedded runtime makes of them."""
    out = tmp_path_factory.mktemp("embedded") / "out"
    assert services.wait(services.start("--source", f"file://{flows}", "--sink", f"file://{out}")) == 0
    return out


def same(one: Path, other: Path) -> None:
    assert scored(one).num_rows > 0
    assert plain(scored(one)).equals(plain(scored(other)))
    assert (one / "alerts.jsonl").read_text() == (other / "alerts.jsonl").read_text()


def test_the_same_file_gives_the_same_table_as_the_embedded_runtime(
    services: Forks, flows: Path, expected: Path, tmp_path: Path
) -> None:
    run = services.start("--source", f"file://{flows}", "--sink", f"file://{tmp_path / 'out'}", *MORPHEUS)
    assert services.wait(run) == 0, services.log.read_text()[-3000:]
    same(tmp_path / "out", expected)


def test_a_sink_that_fails_loses_nothing_after_a_restart(
    services: Forks, flows: Path, expected: Path, tmp_path: Path
) -> None:
    ends = ("--source", f"file://{flows}", "--sink", f"file://{tmp_path / 'out'}", *MORPHEUS)
    run = services.start(*ends)
    resource.prlimit(run, resource.RLIMIT_FSIZE, (65_536, 65_536))  # as if the disk were full
    assert services.wait(run) == 1
    assert "make room and run it again" in services.log.read_text()
    assert services.wait(services.start(*ends)) == 0
    same(tmp_path / "out", expected)


def test_a_sink_that_fails_ends_a_live_run(services: Forks, tmp_path: Path) -> None:
    port, out = free_udp_port(), tmp_path / "out"
    live = ("--source", f"netflow://127.0.0.1:{port}", "--sink", f"file://{out}", "--flush-s", 0.3)
    run = services.start(*live, *MORPHEUS)
    send_until_taken(port, bytes(1400))
    resource.prlimit(run, resource.RLIMIT_FSIZE, (65_536, 65_536))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for each in range(100):
            end.sendto(bytes([each]) * 1400, ("127.0.0.1", port))
    assert services.wait(run, 30) == 1
    assert "rejected records; make room" in services.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_live_run_and_what_was_read_is_written(services: Forks, tmp_path: Path, number: int) -> None:
    port, out = free_udp_port(), tmp_path / "out"
    run = services.start("--source", f"netflow://127.0.0.1:{port}", "--sink", f"file://{out}", *MORPHEUS)
    sent = [v5([v5_record("10.0.0.1", "10.0.0.2", 1000 + each, 53, 17, 1, 60, 1_000, 2_000)]) for each in range(50)]
    send_until_taken(port, sent[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        for datagram in sent[1:]:
            end.sendto(datagram, ("127.0.0.1", port))
    time.sleep(0.5)
    services.signal(run, number)
    assert services.wait(run, 30) == 0, services.log.read_text()[-3000:]
    assert set(scored(out)["src_port"].to_pylist()) == {1000 + each for each in range(50)}


def test_a_wrong_configuration_stops_before_anything_is_read(services: Forks, tmp_path: Path) -> None:
    absent = ("--source", f"file://{tmp_path}/absent.parquet", "--sink", f"file://{tmp_path / 'out'}", *MORPHEUS)
    assert services.wait(services.start(*absent)) == 2
    gpu = ("--source", "simulate://office?seconds=60", "--sink", f"file://{tmp_path / 'out'}", "--device", "cuda")
    assert services.wait(services.start(*gpu, *MORPHEUS)) == 2
    assert "nvidia-smi finds no GPU" in services.log.read_text()


def test_the_command_line_of_morpheus_finds_the_stages_and_its_log_hides_secrets(
    services: Forks, expected: Path, flows: Path, tmp_path: Path
) -> None:
    said = said_by(services, "--help")
    for command in ("from-flows", "flow-windows", "graph-construction", "gae-inference", "combine-predictions"):
        assert re.search(rf"^\s+{command} ", said, re.M)
    line = ("from-flows", "--source", f"file://{flows}", "flow-windows", "graph-construction", "gae-inference")
    out = tmp_path / "password=hunter2"
    said = said_by(
        services, *line, "--model", services.model, "combine-predictions", "to-sinks", "--sink", f"file://{out}"
    )
    assert "SinkStage(sink=" in said
    assert "hunter2" not in said
    same(out, expected)


def said_by(services: Forks, *words: object) -> str:
    """What `morpheus run pipeline-other` with these words writes; it must end well."""
    before = len(services.log.read_text())
    run = services.command("morpheus", "--log_level=INFO", "run", "--use_cpu_only", "pipeline-other", *words)
    assert services.wait(run) == 0, services.log.read_text()[before:]
    return services.log.read_text()[before:]
