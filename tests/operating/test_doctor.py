"""`eddyline doctor`, with real sockets, folders and the model that comes with Eddyline."""

import socket
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from eddyline.config import DoctorSettings, load
from eddyline.metrics import Counts
from eddyline.operating.doctor import examine
from eddyline.operating.findings import Finding
from eddyline.operating.running import running
from eddyline.operating.status import Status, StatusServer
from tests.captures_bytes import collector
from tests.operating.test_status import taken
from tests.sources.netflow_bytes import v5, v5_record
from tests.test_end_to_end import eddyline
from tests.test_end_to_end_service import free_port, send


def findings(**settings: object) -> list[Finding]:
    flags = {"source": "netflow://127.0.0.1:0", "seconds": 0, **settings}
    return list(examine(load(DoctorSettings, flags), threading.Event(), lambda what, done, of, words: None))


def about(found: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in found if finding.about == name]


def test_an_installation_that_is_fine_has_nothing_wrong(tmp_path: Path) -> None:
    found = findings(sink=[f"file://{tmp_path}/new/out", "stdout:"], metrics="127.0.0.1:0")
    assert [finding for finding in found if finding.level == "wrong"] == []
    assert {finding.about for finding in found} == {"source", "socket", "model", "sink", "metrics"}
    assert not (tmp_path / "new").exists()


def test_exporters_are_heard_on_the_wire(capsys: pytest.CaptureFixture[str]) -> None:
    port, now = free_port(), int(time.time())
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 100_000, 100_000)
    ended = threading.Event()

    def export() -> None:
        sequence = 0
        while not ended.wait(0.1):
            send(port, v5([record] * 2, sequence=sequence, secs=now - 7_200))
            sequence += 2

    thread = threading.Thread(target=export)
    thread.start()
    try:
        code = eddyline("doctor", "--source", f"netflow://127.0.0.1:{port}", "--seconds", 1)
    finally:
        ended.set()
        thread.join()
    said = capsys.readouterr()
    assert code == 1
    assert "exporter 127.0.0.1: v5, " in said.out
    assert "wrong  exporter 127.0.0.1: its clock is 7,2" in said.out
    assert said.err.splitlines()[-1] == "eddyline: doctor: 1 of these are wrong; what to do stands beside them"


def test_a_port_that_is_taken_is_wrong_and_says_what_to_do() -> None:
    with collector() as listening:
        port = listening.getsockname()[1]
        (only,) = about(findings(source=f"netflow://127.0.0.1:{port}"), "source")
    assert only.level == "wrong"
    assert f"cannot listen on 127.0.0.1:{port}" in only.says


def test_a_small_receive_buffer_is_noted_with_the_command_that_enlarges_it() -> None:
    (only,) = about(findings(source="netflow://127.0.0.1:0?recv_buffer=65536"), "socket")
    assert only.level == "note"
    assert "the kernel grants 0.1 MiB of receive buffer, 32 MiB are asked for" in only.says
    assert only.do.endswith("`sysctl -w net.core.rmem_max=33554432`")


def test_a_model_that_is_missing_or_cut_otherwise_is_wrong(tmp_path: Path) -> None:
    (missing,) = about(findings(model=[str(tmp_path)]), "model")
    assert (missing.level, missing.do) == ("wrong", "train one with `eddyline train`")
    unlike = [finding for finding in findings(windows={"length_s": 300.0}) if finding.about.startswith("model ")]
    assert [(finding.level, "`--windows.length-s` is 300.0" in finding.says) for finding in unlike] == [("wrong", True)]


def test_a_sink_that_cannot_be_written_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (only,) = about(findings(sink=[f"file://{tmp_path}/file/out"]), "sink")
    assert only.level == "wrong"
    assert "cannot write in" in only.says
    (only,) = about(findings(sink=["ftp://x"]), "sink")
    assert (only.level, only.do) == ("wrong", "give stdout: or file://FOLDER")


def test_a_metrics_port_that_is_taken_is_wrong_if_asked_for() -> None:
    with taken(0) as port:
        (only,) = about(findings(metrics=f"127.0.0.1:{port}"), "metrics")
    assert only.level == "wrong"
    assert about(findings(metrics=""), "metrics")[0].level == "note"


def test_brokers_are_reached_for_real_and_passwords_never_said() -> None:
    pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        (only,) = about(findings(source=f"kafka://127.0.0.1:{port}/flows?sasl.password=secret"), "kafka")
    assert (only.level, only.says) == ("wrong", f"127.0.0.1:{port} cannot be reached: Connection refused")
    (malformed,) = about(findings(source="kafka://user:secret@127.0.0.1:1/flows"), "kafka")
    assert (malformed.level, "a user name is sasl.username=NAME" in malformed.says) == ("wrong", True)
    assert "secret" not in only.line() + malformed.line()


def test_a_kafka_url_without_the_extra_says_what_to_install() -> None:
    if find_spec("confluent_kafka") is not None:
        pytest.skip("confluent-kafka is installed")
    (only,) = about(findings(source="kafka://user:secret@127.0.0.1:1/flows"), "kafka")
    assert (only.level, only.do) == ("wrong", "install eddyline[kafka]")
    assert "secret" not in only.line()


def test_a_file_that_is_not_there_is_wrong(tmp_path: Path) -> None:
    (only,) = about(findings(source=f"file://{tmp_path}/none.csv"), "source")
    assert only.level == "wrong"
    assert "no such file" in only.says


def test_a_service_that_runs_already_is_asked_what_it_counts() -> None:
    status = Status()
    status.heard(
        Counts(flows=21, late=1, rejected=Counter({"x": 2, "y": 1}), source={"missing_datagrams": 4, "datagrams": 9},
               queues={"read": (4, 4), "scored": (0, 4)}, levels={"default": 6.5})
    )  # fmt: skip
    with StatusServer("127.0.0.1:0", status) as server, collector() as listening:
        port = listening.getsockname()[1]
        found = findings(source=f"netflow://127.0.0.1:{port}", metrics=f"127.0.0.1:{server.port}")
    told = about(found, "service")
    assert [finding.level for finding in told] == ["ok", "note", "note", "note", "note", "note"]
    assert told[0].says == f"an Eddyline runs and answers on 127.0.0.1:{server.port}: 21 flows so far"
    assert told[1].says == "4 datagrams were lost on the way"
    assert told[2].says == "1 flows came after their window had closed"
    assert told[3].says == "3 records could not be read"
    assert "does not keep up" in told[4].says
    assert "calibrate" in told[5].do
    assert about(found, "source")[0].level == "note"
    assert about(found, "metrics") == []


def test_another_program_on_the_metrics_port_is_no_service() -> None:
    with taken(0) as port:
        assert running(f"127.0.0.1:{port}") is None
    assert running(f"127.0.0.1:{free_port()}") is None
    assert running("127.0.0.1:nonsense") is None
