"""What is counted of each exporter, and that its address is nowhere but in the log."""

import logging
import socket
import struct
import threading
import time

import pytest

from eddyline.metrics import Counts
from eddyline.operating.exposition import exposition
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.tally import Tally
from eddyline.sources.netflow.tcp import NetflowTcpSource
from eddyline.sources.netflow.udp import NetflowSource
from tests.sources.netflow_bytes import data_set, ipfix, template_set, v5, v5_record, v9

RECORD = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 100_000, 100_000)
TEMPLATE = template_set(256, [(8, 4), (12, 4)])
UNKNOWN = data_set(300, bytes(20))


def test_gaps_unknown_templates_and_bad_datagrams_are_those_of_their_exporter() -> None:
    decoder = Decoder()
    decoder.decode([("192.0.2.9", v5([RECORD])), ("192.0.2.1", v9(TEMPLATE, sequence=1)), ("192.0.2.9", b"noise")])
    decoder.decode([("192.0.2.1", v9(UNKNOWN, UNKNOWN, sequence=5)), ("192.0.2.9", v5([RECORD], sequence=8))])
    expected = {
        "192.0.2.9": {"datagrams": 3, "bad_datagrams": 1, "sequence_gaps": 1, "missing_flows": 7},
        "192.0.2.1": {"datagrams": 2, "sequence_gaps": 1, "missing_datagrams": 3, "unknown_templates": 2},
    }
    assert decoder.tally.by_address() == expected
    assert decoder.tally.numbered() == {"1": expected["192.0.2.9"], "2": expected["192.0.2.1"]}
    decoder.decode([], last=True)  # the two sets were of one datagram
    assert decoder.tally.numbered()["2"]["bad_datagrams"] == 1


def test_what_every_exporter_counts_adds_up_to_the_totals() -> None:
    decoder = Decoder(tally=Tally(2))
    sent = [(f"192.0.2.{n}", v5([RECORD], sequence=sequence)) for sequence in (0, 3) for n in range(5)]
    decoder.decode(sent)
    numbered = decoder.tally.numbered()
    assert list(numbered) == ["1", "2", "others"]
    for what in ("datagrams", "sequence_gaps", "missing_flows"):
        assert sum(total[what] for total in numbered.values()) == decoder.counters[what]
    assert numbered["others"] == {"datagrams": 6, "sequence_gaps": 3, "missing_flows": 6}


def test_a_flood_of_addresses_makes_no_more_labels_than_the_bound() -> None:
    decoder = Decoder()
    decoder.decode([(f"10.0.{n >> 8}.{n & 255}", v5([RECORD])) for n in range(500)])
    text = exposition(Counts(exporters=decoder.tally.numbered()), 0.0)
    lines = [line for line in text.splitlines() if line.startswith("eddyline_exporter_total{")]
    assert len(lines) == 101
    assert lines[-1] == 'eddyline_exporter_total{exporter="others",what="datagrams"} 400.0'
    assert "10.0." not in text


def test_a_listening_source_says_in_the_log_alone_whose_number_is_whose(caplog: pytest.LogCaptureFixture) -> None:
    source = NetflowSource("127.0.0.1", 0)
    threading.Timer(0.5, source.close).start()
    with caplog.at_level(logging.INFO), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as exporter:
        exporter.sendto(v5([RECORD]), ("127.0.0.1", source.port))
        exporter.sendto(v9(UNKNOWN), ("127.0.0.1", source.port))
        assert sum(map(len, source)) == 1
    total = {"datagrams": 2, "unknown_templates": 1, "bad_datagrams": 1}  # the template never came
    assert source.exporters == {"1": total}
    assert caplog.messages == ["netflow source: exporter 1 of the metrics is 127.0.0.1"]


def test_connections_of_one_exporter_count_together_and_so_does_what_was_no_message() -> None:
    source = NetflowTcpSource("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    for sent in (ipfix(UNKNOWN), ipfix(UNKNOWN), struct.pack(">HH", 7, 7)):
        with socket.create_connection(("127.0.0.1", source.port)) as exporter:
            exporter.sendall(sent)
    until = time.monotonic() + 10
    while source.exporters.get("1", {}).get("bad_datagrams") != 3 and time.monotonic() < until:
        time.sleep(0.05)
    source.close()
    thread.join(10)
    assert source.exporters == {"1": {"datagrams": 2, "unknown_templates": 2, "bad_datagrams": 3}}
