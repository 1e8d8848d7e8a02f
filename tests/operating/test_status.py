"""/metrics, /live and /ready, asked over HTTP of a real server and of a running service."""

import http.client
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eddyline.config import METRICS
from eddyline.errors import ConfigError
from eddyline.metrics import Counts
from eddyline.operating.status import Status, StatusServer, status_of
from tests.sources.netflow_bytes import EXPORT_S, v5, v5_record
from tests.test_end_to_end_service import ended, free_port, send, send_until_taken, service


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"] or "", answer.read().decode()
    finally:
        connection.close()


def test_the_endpoints_follow_a_run_from_start_to_silence() -> None:
    now = [0.0]
    stop = threading.Event()
    status = Status(stop, lambda: now[0])
    with StatusServer("127.0.0.1:0", status) as server:
        assert ask(server.port, "/live")[0] == 200
        assert ask(server.port, "/ready")[0] == 503
        assert ask(server.port, "/metrics")[0] == 200  # a scrape during the start is no failure
        now[0] = 1000.0  # a model takes its time to load
        assert ask(server.port, "/live")[0] == 200
        status.heard(Counts(flows=7))
        assert ask(server.port, "/ready") == (200, "text/plain; charset=utf-8", "ok\n")
        code, kind, text = ask(server.port, "/metrics?name=x")
        assert (code, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert "\neddyline_flows_total 7\n" in text
        stop.set()
        assert [ask(server.port, path)[0] for path in ("/live", "/ready", "/metrics")] == [200, 503, 200]
        now[0] = 1031.0
        assert [ask(server.port, path)[0] for path in ("/live", "/ready", "/metrics")] == [503, 503, 200]


def test_anything_else_is_refused() -> None:
    with StatusServer("127.0.0.1:0", Status()) as server:
        assert ask(server.port, "/")[0] == 404
        assert ask(server.port, "/../../etc/passwd")[0] == 404
        assert ask(server.port, "/metrics", "POST")[0] == 501
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(b"\x00\xff" * 100 + b"\r\n\r\n")
            assert b" 400 " in raw.recv(1000)
        assert ask(server.port, "/live")[0] == 200


def test_clients_that_say_nothing_cannot_keep_others_out_for_long_or_pile_up() -> None:
    with StatusServer("127.0.0.1:0", Status()) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(12)]
        try:
            turned_away = [one.recv(1) for one in silent[8:]]  # at once, not after five seconds
            assert turned_away == [b""] * 4
            silent[0].close()
            deadline = time.monotonic() + 3
            while time.monotonic() < deadline:
                try:
                    assert ask(server.port, "/live")[0] == 200
                    break
                except (http.client.RemoteDisconnected, ConnectionResetError):
                    time.sleep(0.05)
            else:
                pytest.fail("a place that was free again was not given to the next client")
        finally:
            for one in silent:
                one.close()


@pytest.mark.parametrize("address", ["9108", ":9108", "127.0.0.1:", "127.0.0.1:66000", "127.0.0.1:x"])
def test_a_wrong_address_stops_at_once(address: str) -> None:
    with pytest.raises(ConfigError, match="is no HOST:PORT; give one as 127"), status_of(address, lambda counts: None):
        pass


@contextmanager
def taken(port: int) -> Iterator[int]:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", port))
            other.listen()
        except OSError:
            assert port  # then it is taken already, which is all that is wanted
        yield int(other.getsockname()[1]) if not port else port


def test_an_address_that_was_asked_for_and_is_taken_stops_at_once() -> None:
    with taken(0) as port, pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: .*--metrics ''"):
        with status_of(f"127.0.0.1:{port}", lambda counts: None):
            pass


def test_the_second_run_of_a_machine_goes_on_without_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Counts] = []
    with taken(int(METRICS.rpartition(":")[2])), status_of(METRICS, heard.append) as report:
        report(Counts(flows=1))
    assert [counts.flows for counts in heard] == [1]
    assert "going on without it" in caplog.text


@pytest.mark.slow
def test_a_running_service_tells_what_it_counts() -> None:
    port, status = free_port(), free_port()
    record = v5_record("10.0.0.1", "10.0.0.2", 40_000, 53, 17, 1, 60, 100_000, 100_000)
    with service("run", "--source", f"netflow://127.0.0.1:{port}?times=exporter", "--sink", "stdout:", "--metrics",
                 f"127.0.0.1:{status}") as started:  # fmt: skip
        send_until_taken(port, v5([record] * 20))
        send(port, b"?", v5([record], sequence=20, secs=EXPORT_S + 200))  # which closes the minute before
        wait_for_line(status, "eddyline_scored_flows_total 20")
        text = ask(status, "/metrics")[2]
        assert ask(status, "/live")[0] == ask(status, "/ready")[0] == 200
        code, said = ended(started, signal.SIGTERM)
    assert code == 0, said
    for line in ("eddyline_flows_total 21", "eddyline_bytes_total 1200", "eddyline_windows_total 1",
                 "eddyline_flow_p_count 20", "eddyline_window_to_sink_seconds_count 1",
                 'eddyline_rejected_records_total{reason="not NetFlow vN or vN, nor IPFIX"} 1',
                 'eddyline_exporter_total{exporter="1",what="bad_datagrams"} 1.0',
                 'eddyline_queue_size_batches{queue="read"} 4.0'):  # fmt: skip
        assert f"\n{line}\n" in text, text
    lag = re.search(r"\neddyline_lag_seconds (\S+)\n", text)
    assert lag is not None
    newest = (EXPORT_S // 60 + 1) * 60
    assert abs(time.time() - newest - float(lag[1])) < 60
    assert "10.0.0." not in text
    with pytest.raises(ConnectionRefusedError):
        ask(status, "/live")


def wait_for_line(port: int, line: str) -> None:
    deadline = time.monotonic() + 30
    text = ""
    while time.monotonic() < deadline:
        try:
            text = ask(port, "/metrics")[2]
        except ConnectionRefusedError:
            text = ""
        if f"\n{line}\n" in text:
            return
        time.sleep(0.1)
    pytest.fail(f"no line `{line}` within 30 s in: {text}")
