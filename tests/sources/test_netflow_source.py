"""netflow:// on real sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from eddyline.errors import ConfigError
from eddyline.flows import FlowBatch
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.udp import DEFAULT_PORT, NetflowSource, open_netflow
from eddyline.windows import Windower, WindowSettings
from tests.programs import free_udp_port
from tests.sources.netflow_bytes import data_set, template_set, v5, v5_record, v9

NOW_US = 1_700_000_123_000_000
ENDS = [(8, 4), (12, 4), (7, 2)]


@pytest.fixture
def source() -> Iterator[NetflowSource]:
    opened = NetflowSource("127.0.0.1", 0, clock=lambda: NOW_US)
    yield opened
    opened.close()


def send(port: int, datagrams: list[bytes], host: str = "127.0.0.1") -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for raw in datagrams:
            sender.sendto(raw, (host, port))


def flow(port: int) -> bytes:
    return v5([v5_record("10.0.0.1", "10.0.0.2", port, 53, 17, 1, 60, 1_000, 2_000)], sequence=port)


def all_of(batches: list[FlowBatch]) -> pa.Table:
    return pa.concat_tables([batch.table for batch in batches])


def test_all_flows_arrive_and_noise_between_them_is_kept_with_its_bytes(source: NetflowSource) -> None:
    nine = [v9(template_set(256, ENDS))]
    nine += [v9(data_set(256, bytes([10, 0, 0, 1, 10, 0, 0, 2, n >> 8, n & 255])), sequence=1 + n) for n in range(300)]
    noise = [b"", b"GET / HTTP/1.1", flow(1)[:-1], nine[1][:-1]]
    sent = [raw for n in range(300) for raw in (flow(n), noise[n % 4], nine[0], nine[n + 1])]
    batches: list[FlowBatch] = []

    def feed() -> None:
        for start in range(0, len(sent), 40):
            send(source.port, sent[start : start + 40])
            time.sleep(0.002)
        source.close()

    thread = threading.Thread(target=feed)
    thread.start()
    batches = list(source)
    thread.join()
    table = all_of(batches)
    ports = [
        table.filter(pa.compute.equal(table["proto"], 17))["src_port"],
        table.filter(table["proto"].is_null())["src_port"],
    ]
    assert [column.to_pylist() for column in ports] == [list(range(300)), list(range(300))]
    rejected = pa.concat_tables([batch.rejected for batch in batches])
    assert rejected["raw"].to_pylist() == [noise[n % 4] for n in range(300)]
    assert set(rejected["origin"].to_pylist()) == {"127.0.0.1"}
    assert set(table["exporter"].to_pylist()) == {"127.0.0.1/0", "127.0.0.1/7"}
    assert {batch.now_us for batch in batches} == {NOW_US}
    assert (source.counters["datagrams"], source.counters["flows"], source.counters["rejected"]) == (1200, 600, 300)


def test_silence_gives_an_empty_batch_with_the_clock_within_about_a_second(source: NetflowSource) -> None:
    began = time.monotonic()
    batch = next(iter(source))
    assert 0.8 < time.monotonic() - began < 2.0
    assert (len(batch), batch.now_us, batch.rejected.num_rows) == (0, NOW_US, 0)


def test_a_batch_gathers_many_datagrams_and_is_never_old(source: NetflowSource) -> None:
    send(source.port, [flow(n) for n in range(50)])
    began = time.monotonic()
    assert len(next(iter(source))) == 50
    assert time.monotonic() - began < 0.6


def test_a_batch_ends_at_its_number_of_datagrams() -> None:
    source = NetflowSource("127.0.0.1", 0, gather_datagrams=3)
    send(source.port, [flow(n) for n in range(7)])
    batches = iter(source)
    assert [len(next(batches)) for _ in range(3)] == [3, 3, 1]
    batches.close()  # type: ignore[attr-defined]


def test_closing_from_another_thread_ends_a_blocked_iteration_at_once(source: NetflowSource) -> None:
    timer = threading.Timer(0.1, source.close)
    timer.start()
    began = time.monotonic()
    assert sum(len(batch) for batch in source) == 0
    assert time.monotonic() - began < 0.8
    source.close()  # twice is once
    assert list(source) == []


def test_what_lies_in_the_socket_at_the_stop_is_still_read() -> None:
    source = NetflowSource("127.0.0.1", 0, gather_datagrams=4)
    batches = iter(source)
    send(source.port, [flow(0)])
    assert len(next(batches)) == 1
    send(source.port, [flow(n) for n in range(1, 20)])
    source.close()
    assert all_of(list(batches))["src_port"].to_pylist() == list(range(1, 20))


def test_flows_that_wait_for_a_template_at_the_stop_are_rejected_not_lost(source: NetflowSource) -> None:
    raw = v9(data_set(256, bytes(12)))
    send(source.port, [raw])
    batches = iter(source)
    assert next(batches).rejected.num_rows == 0
    source.close()
    assert [raw for batch in batches for raw in batch.rejected["raw"].to_pylist()] == [raw]


def test_a_closed_source_releases_its_port_without_an_iteration() -> None:
    first = NetflowSource("127.0.0.1", 0)
    first.close()
    NetflowSource("127.0.0.1", first.port).close()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_ipv6_and_ipv4_exporters_reach_the_same_port() -> None:
    source = open_netflow("netflow://[::]:0")
    send(source.port, [flow(1)], "::1")
    send(source.port, [flow(2)], "127.0.0.1")
    assert next(iter(source)).table["exporter"].to_pylist() == ["::1/0", "127.0.0.1/0"]
    source.close()


def test_the_url_says_everything() -> None:
    source = open_netflow("netflow://127.0.0.1:0?recv_buffer=65536&out_counters=ignore")
    assert source.recv_buffer_bytes == 65_536
    raw = v9(template_set(256, [(8, 4), (12, 4), (23, 4)]), data_set(256, bytes(12)))
    send(source.port, [raw])
    assert next(iter(source)).table["rev_bytes"].to_pylist() == [None]
    source.close()
    assert DEFAULT_PORT == 2055


def test_a_clock_that_is_years_ahead_makes_nobody_else_late() -> None:
    def second(i: int, secs: int, origin: str = "10.0.0.9") -> tuple[str, bytes]:
        return origin, v5([v5_record("10.0.0.1", "10.0.0.2", i, 53, 17, 1, 60, 95_000, 100_000)], secs=secs)

    decoder, windower = Decoder(checked=True), Windower(WindowSettings())
    late, scored, now_s = 0, 0, 1_700_000_000
    for i in range(600):
        datagrams = [second(i, now_s + i)] + [second(i, 4_000_000_000, "10.9.9.9")] * (i == 100)
        batch = decoder.decode(datagrams, (now_s + i) * 1_000_000)
        step = windower.add(batch)
        late, scored = late + step.late, scored + sum(map(len, step.closed))
        if i == 100:
            starts, ends = (batch.table[name].cast(pa.int64()).to_pylist() for name in ("ts_start", "ts_end"))
            assert ends == [(now_s + 100) * 1_000_000] * 2
            assert starts == [(now_s + 95) * 1_000_000] * 2
    assert (late, decoder.counters["clocks_ahead"]) == (0, 1)
    assert scored > 500
    believed = Decoder().decode([second(1, 4_000_000_000)], now_s * 1_000_000)
    assert believed.table["ts_end"].cast(pa.int64()).to_pylist() == [4_000_000_000_000_000]


@pytest.mark.parametrize(("skew_s", "late", "ahead"), [(4, 0, 0), (50, 0, 300), (-4, 0, 0), (-50, 195, 0)])
def test_an_exporter_whose_clock_is_wrong_makes_at_most_its_own_flows_late(skew_s: int, late: int, ahead: int) -> None:
    decoder, windower = Decoder(checked=True), Windower(WindowSettings())
    skewed, late_flows = v5_record("10.0.0.1", "10.0.0.2", 9, 53, 17, 1, 60, 95_000, 100_000), 0
    right = v5_record("10.0.0.3", "10.0.0.2", 9, 53, 17, 1, 60, 95_000, 100_000)
    windows = []
    for now_s in range(1_700_000_000 // 60 * 60, 1_700_000_000 // 60 * 60 + 300):
        datagrams = [("10.9.9.9", v5([skewed], secs=now_s + skew_s)), ("10.0.0.9", v5([right], secs=now_s))]
        step = windower.add(decoder.decode(datagrams, now_s * 1_000_000))
        windows += step.closed
        late_flows += step.late
    windows += windower.finish().closed
    assert (late_flows, decoder.counters["clocks_ahead"]) == (late, ahead)
    assert sum(map(len, windows)) == 600
    for window in windows:
        assert not window.late or set(window.flows["src_addr"].to_pylist()) == {"10.0.0.1"}


def test_what_the_kernel_dropped_is_counted_to_the_datagram() -> None:
    source = NetflowSource("127.0.0.1", 0, recv_buffer_bytes=4096)
    send(source.port, [flow(n) for n in range(2_000)])
    batches = iter(source)
    received = len(next(batches))
    source.close()
    received += sum(map(len, batches))
    assert 0 < received < 2_000
    assert received + source.counters["kernel_drops"] == 2_000


def test_at_the_stop_a_full_buffer_is_read_to_its_last_datagram() -> None:
    source = NetflowSource("127.0.0.1", 0, recv_buffer_bytes=1 << 18, gather_datagrams=16)
    batches = iter(source)
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 1_000, 2_000)
    send(source.port, [flow(0)])
    received = next(batches).table.num_rows
    send(source.port, [v5([record] * 30, sequence=30 * n) for n in range(2_000)])
    source.close()
    received += sum(map(len, batches))
    assert source.counters["kernel_drops"] > 0
    assert received == 1 + 30 * (2_000 - source.counters["kernel_drops"])


def test_a_source_that_kept_up_has_no_kernel_drops(source: NetflowSource) -> None:
    send(source.port, [flow(1)])
    assert len(next(iter(source))) == 1
    assert "kernel_drops" not in source.counters


COUNT = """
import sys
from eddyline.sources.netflow.udp import open_netflow
source = open_netflow(f"netflow://127.0.0.1:{sys.argv[1]}?share=yes")
print("listening", flush=True)
flows = [0]
for batch in source:
    flows.append(flows[-1] + len(batch))
    if len(batch) == 0 and flows[-1]:
        source.close()
print(flows[-1], dict(source.counters).get("sequence_gaps", 0), flush=True)
"""


@pytest.mark.slow
def test_two_processes_share_a_port_and_every_exporter_stays_with_one() -> None:
    port = free_udp_port()
    listening = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(port)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [process.stdout.readline() for process in listening if process.stdout] == ["listening\n"] * 2
    for exporter in range(16):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            for n in range(20):
                record = v5_record("10.0.0.1", "10.0.0.2", n, 53, 17, 1, 60, 1_000, 2_000)
                end.sendto(v5([record], sequence=n, engine=exporter), ("127.0.0.1", port))
    counted = [process.communicate(timeout=20)[0].split() for process in listening]
    flows, gaps = zip(*counted, strict=True)
    assert sum(map(int, flows)) == 320
    assert all(0 < int(each) < 320 for each in flows)  # 1 in 32,768 that the kernel gives all 16 to one of them
    assert gaps == ("0", "0")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("netflow://127.0.0.1:0?buffer=5", "buffer"),
        ("netflow://127.0.0.1:0?recv_buffer=lots", "lots"),
        ("netflow://127.0.0.1:0?recv_buffer=0", "recv_buffer"),
        ("netflow://127.0.0.1:0?out_counters=both", "both"),
        ("netflow://127.0.0.1:0?times=mine", "mine"),
        ("netflow://127.0.0.1:0?share=maybe", "maybe"),
        ("netflow://127.0.0.1:0?recv_buffer", "netflow://HOST:PORT"),
        ("netflow://127.0.0.1:70000", "70000"),
        ("netflow://127.0.0.1:ten", "ten"),
        ("netflow://127.0.0.1:0/path", "path"),
        ("netflow://user@127.0.0.1:0", "***@127.0.0.1"),
        ("udp://127.0.0.1:0", "udp"),
        ("netflow://[::1", "[::1"),
        ("netflow://no-such-host.invalid:0", "no-such-host.invalid"),
        ("netflow://203.0.113.77:0", "203.0.113.77"),
    ],
)
def test_a_url_that_cannot_work_is_a_wrong_configuration(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match="netflow source") as error:
        open_netflow(url)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_port_in_use_is_named_with_its_remedy(source: NetflowSource) -> None:
    with pytest.raises(ConfigError, match=f"127.0.0.1:{source.port}.*choose another"):
        open_netflow(f"netflow://127.0.0.1:{source.port}")
