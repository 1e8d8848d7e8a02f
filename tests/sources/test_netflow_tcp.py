"""netflow+tcp:// on real connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eddyline.errors import ConfigError
from eddyline.sources import open_source
from eddyline.sources.netflow import tcp
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.tcp import NetflowTcpSource, cut_messages, open_netflow_tcp
from tests.programs import softflowd
from tests.sources.netflow_bytes import address, data_set, export, ipfix, ipfix_template
from tests.sources.test_netflow_programs import PCAPS, exported, ours

NOW_US = 1_700_000_123_000_000
TEMPLATE = ipfix(ipfix_template(256, [(8, 4), (12, 4), (7, 2)]))


def flow(n: int) -> bytes:
    return ipfix(data_set(256, address("10.0.0.1") + address("10.0.0.2") + n.to_bytes(2, "big")), sequence=n)


@pytest.fixture
def source() -> Iterator[NetflowTcpSource]:
    opened = NetflowTcpSource("127.0.0.1", 0, clock=lambda: NOW_US)
    yield opened
    opened.close()


def connected(source: NetflowTcpSource) -> socket.socket:
    return socket.create_connection(("127.0.0.1", source.port))


def until(source: NetflowTcpSource, flows: int, rejected: int = 0) -> tuple[pa.Table, pa.Table]:
    """All batches until so many flows and bad records were there, or 5 s passed; and closes."""
    tables, bad = [], []
    deadline = time.monotonic() + 5
    for batch in source:
        tables.append(batch.table)
        bad.append(batch.rejected)
        if (sum(map(len, tables)) >= flows and sum(map(len, bad)) >= rejected) or time.monotonic() > deadline:
            source.close()
    return pa.concat_tables(tables), pa.concat_tables(bad)


@given(st.lists(st.integers(0, 60_000), max_size=6), st.lists(st.integers(1, 400), max_size=30))
def test_a_stream_is_cut_into_its_messages_wherever_it_is_broken(ports: list[int], sizes: list[int]) -> None:
    messages = [TEMPLATE, *(flow(port) for port in ports)]
    stream = b"".join(messages)
    found: list[bytes] = []
    rest = b""
    for size in [*sizes, len(stream)]:
        piece, stream = stream[:size], stream[size:]
        more, rest, fits = cut_messages(rest + piece)
        found += more
        assert fits
    assert (found, rest) == (messages, b"")


@given(st.binary(max_size=200))
def test_any_stream_is_cut_without_losing_a_byte(stream: bytes) -> None:
    found, rest, _ = cut_messages(stream)
    assert b"".join(found) + rest == stream
    assert all(int.from_bytes(message[2:4], "big") == len(message) >= 16 for message in found)


def test_flows_of_a_slow_connection_arrive_in_order(source: NetflowTcpSource) -> None:
    stream = TEMPLATE + b"".join(flow(n) for n in range(200))

    def feed() -> None:
        with connected(source) as end:
            for start in range(0, len(stream), 333):
                end.sendall(stream[start : start + 333])
                time.sleep(0.001)

    thread = threading.Thread(target=feed)
    thread.start()
    table, rejected = until(source, 200)
    thread.join()
    assert table["src_port"].to_pylist() == list(range(200))
    assert set(table["exporter"].to_pylist()) == {"127.0.0.1/7"}
    assert rejected.num_rows == 0
    assert source.counters["sequence_gaps"] == 0
    assert (source.counters["sessions"], source.counters["flows"]) == (1, 200)


def test_two_connections_of_one_address_keep_their_own_templates(source: NetflowTcpSource) -> None:
    other = ipfix(ipfix_template(256, [(12, 4), (8, 4), (7, 2)]))
    with connected(source) as one, connected(source) as two:
        one.sendall(TEMPLATE)
        two.sendall(other)
        one.sendall(flow(1))
        two.sendall(flow(2))
        table, _ = until(source, 2)
    found = {row["src_port"]: row["src_addr"] for row in table.to_pylist()}
    assert found == {1: "10.0.0.1", 2: "10.0.0.2"}


def test_a_template_ends_with_its_connection(source: NetflowTcpSource) -> None:
    with connected(source) as end:
        end.sendall(TEMPLATE + flow(1))
    with connected(source) as end:
        end.sendall(flow(2))
    table, rejected = until(source, 1, 1)
    assert table["src_port"].to_pylist() == [1]
    assert rejected["raw"].to_pylist() == [flow(2)]


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\0\x09\0\1" + bytes(40), b"\0\x0a\0\x0f" + bytes(30)])
def test_what_is_no_ipfix_is_kept_and_ends_its_connection_alone(noise: bytes, source: NetflowTcpSource) -> None:
    with connected(source) as good, connected(source) as bad:
        good.sendall(TEMPLATE)
        bad.sendall(TEMPLATE + flow(5) + noise)
        good.sendall(flow(6))
        table, rejected = until(source, 2, 1)
        bad.settimeout(2)
        assert bad.recv(1) == b""  # closed by the collector
    assert sorted(table["src_port"].to_pylist()) == [5, 6]
    assert rejected["raw"].to_pylist() == [noise]
    assert source.counters["rejected"] == 1


def test_a_message_cut_by_the_end_of_its_connection_is_kept(source: NetflowTcpSource) -> None:
    with connected(source) as end:
        end.sendall(TEMPLATE + flow(1)[:-3])
    _, rejected = until(source, 0, 1)
    assert rejected["raw"].to_pylist() == [flow(1)[:-3]]


def test_connections_beyond_the_limit_are_refused_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "MAX_SESSIONS", 1)
    source = NetflowTcpSource("127.0.0.1", 0)
    batches = iter(source)
    with connected(source) as first:
        first.sendall(TEMPLATE + flow(1))
        assert len(next(batches)) == 1
        with connected(source) as second:
            next(batches)
            second.settimeout(2)
            assert second.recv(1) == b""
        first.sendall(flow(2))
        assert len(next(batches)) == 1
    source.close()
    list(batches)
    assert (source.counters["sessions"], source.counters["refused_sessions"]) == (1, 1)


def test_silence_gives_an_empty_batch_with_the_clock_and_the_stop_comes_at_once(source: NetflowTcpSource) -> None:
    began = time.monotonic()
    batch = next(iter(source))
    assert (len(batch), batch.now_us) == (0, NOW_US)
    assert 0.8 < time.monotonic() - began < 2
    again = NetflowTcpSource("127.0.0.1", 0)
    threading.Timer(0.1, again.close).start()
    began = time.monotonic()
    assert sum(map(len, again)) == 0
    assert time.monotonic() - began < 0.8


def test_what_lies_in_the_connection_at_the_stop_is_still_read(source: NetflowTcpSource) -> None:
    batches = iter(source)
    with connected(source) as end:
        end.sendall(TEMPLATE + flow(0))
        assert len(next(batches)) == 1
        end.sendall(b"".join(flow(n) for n in range(1, 50)))
        time.sleep(0.05)
        source.close()
        assert pa.concat_tables([batch.table for batch in batches])["src_port"].to_pylist() == list(range(1, 50))


def test_softflowd_over_tcp_gives_the_flows_that_it_gives_over_udp(source: NetflowTcpSource) -> None:
    pcap = PCAPS / "ndpi_teams.pcap"
    datagrams = exported(pcap, "-v", "10")
    thread = threading.Thread(target=lambda: softflowd(pcap, "-v", "10", "-P", "tcp", port=source.port))
    thread.start()
    table, rejected = until(source, 157)
    thread.join()
    udp = Decoder().decode([("127.0.0.1", raw) for raw in datagrams]).table
    assert rejected.num_rows == 0
    assert sorted(map(str, map(ours, table.to_pylist()))) == sorted(map(str, map(ours, udp.to_pylist())))


def test_a_file_of_messages_reads_as_a_stream_and_every_answer_is_in_its_bytes() -> None:
    messages, rest, _ = cut_messages(export("logstash/ipfix.dat"))
    table = Decoder().decode([("198.51.100.1", message) for message in messages], last=True).table
    assert (len(messages), rest, len(table)) == (3, b"", 12)
    row = table.to_pylist()[0]
    # From byte 216: c0a8fd01, c0a8fd80, 00000104 bytes, 5 packets, ec90, 0016, 06, 10; the options say 1 in 1.
    assert (row["src_addr"], row["dst_addr"], row["bytes"], row["packets"]) == (
        "192.168.253.1",
        "192.168.253.128",
        260,
        5,
    )
    assert (row["src_port"], row["dst_port"], row["proto"], row["tcp_flags"]) == (0xEC90, 22, 6, 0x10)
    assert row["sampling_rate"] == 1
    assert row["duration_us"] == 0x31B6 * 1000


def test_the_url_opens_it_and_a_wrong_one_says_what_is_known() -> None:
    opened = open_source("netflow+tcp://127.0.0.1:0?times=exporter")
    assert isinstance(opened, NetflowTcpSource)
    with pytest.raises(ConfigError, match=f"127.0.0.1:{opened.port}.*choose another"):
        open_netflow_tcp(f"netflow+tcp://127.0.0.1:{opened.port}")
    opened.close()
    with pytest.raises(ConfigError, match=r"netflow source: unknown option `recv_buffer`.*out_counters, times"):
        open_netflow_tcp("netflow+tcp://127.0.0.1:0?recv_buffer=5")
