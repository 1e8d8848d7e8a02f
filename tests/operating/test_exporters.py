"""Who exports, how wrong the clocks are, which templates are missing."""

import struct

import pytest

from eddyline.operating.exporters import Exporters
from eddyline.operating.findings import Finding
from tests.sources.netflow_bytes import EXPORT_S, data_set, v5, v5_record, v9

NOW_US = EXPORT_S * 1_000_000
RECORD = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 100_000, 100_000)


def found(*datagrams: tuple[str, bytes], now_us: int = NOW_US) -> list[Finding]:
    exporters = Exporters()
    for one in datagrams:
        exporters.take([one], now_us)
    exporters.take([], now_us, last=True)
    return list(exporters.findings(5.0, "UDP port 2055"))


def test_an_exporter_in_order_is_one_line() -> None:
    (only,) = found(("192.0.2.1", v5([RECORD] * 3)), ("192.0.2.1", v5([RECORD], sequence=3)))
    assert only == Finding("ok", "exporter 192.0.2.1", "v5, 2 datagrams, 4 flows")
    assert only.line() == "ok     exporter 192.0.2.1: v5, 2 datagrams, 4 flows"


def test_silence_says_where_to_look() -> None:
    (only,) = found()
    assert (only.level, only.says) == ("note", "no datagram came to UDP port 2055 within 5 s")
    assert "tcpdump" in only.do


@pytest.mark.parametrize(
    ("late_s", "level", "says"),
    [(4, None, ""), (-6, "note", "its clock is 6 s ahead of this machine's"),
     (59, "note", "its clock is 59 s behind this machine's"),
     (7_200, "wrong", "its clock is 7,200 s behind this machine's")],
)  # fmt: skip
def test_skew_is_the_export_time_of_the_header_against_the_receipt(late_s: int, level: str, says: str) -> None:
    for datagram in (v5([RECORD]), v9(), struct.pack(">HHIII", 10, 16, EXPORT_S, 0, 1)):
        clock = [
            one for one in found(("192.0.2.1", datagram), now_us=NOW_US + late_s * 1_000_000) if "clock" in one.says
        ]
        assert [(one.level, one.says) for one in clock] == ([(level, says)] if level else [])


def test_a_datagram_that_waited_on_the_way_does_not_make_a_clock_wrong() -> None:
    exporters = Exporters()
    exporters.take([("a", v5([RECORD]))], NOW_US + 90_000_000)
    exporters.take([("a", v5([RECORD], sequence=1, secs=EXPORT_S + 91))], NOW_US + 91_000_000)
    assert [one.level for one in exporters.findings(5.0, "x")] == ["ok"]


def test_a_template_that_never_came_is_named_with_what_to_do() -> None:
    first, missing = found(("192.0.2.1", v9(data_set(300, bytes(20)))))
    assert first.says == "v9, 1 datagrams, 0 flows"
    assert (missing.level, missing.says) == ("wrong", "1 times: v9 template 300 never came")
    assert "templates every minute" in missing.do


def test_other_senders_are_told_from_exporters() -> None:
    (sflow,) = found(("192.0.2.1", b"\0\0\0\5" + bytes(60)))
    assert (sflow.level, sflow.says) == ("wrong", "it sends sFlow")
    noise = found(("192.0.2.2", b"hello"))
    assert [one.level for one in noise] == ["wrong", "wrong"]
    assert noise[0].says == "nothing that is NetFlow, 1 datagrams, 0 flows"


def test_gaps_in_the_sequence_are_noted_at_the_exporter_that_has_them() -> None:
    whole = ("192.0.2.2", v5([RECORD]))
    told = found(("192.0.2.1", v5([RECORD])), whole, ("192.0.2.1", v5([RECORD], sequence=11)))
    notes = [(one.about, one.says) for one in told if one.level == "note"]
    assert notes == [("exporter 192.0.2.1", "10 flows never came: its sequence numbers skip them")]


def test_a_flood_of_addresses_stays_bounded() -> None:
    exporters = Exporters()
    exporters.take([(f"10.0.{n >> 8}.{n & 255}", b"x") for n in range(1_500)], NOW_US)
    assert len(exporters.seen) == 1_001
    assert exporters.seen["others"].datagrams == 500
    assert len(list(exporters.findings(5.0, "x"))) < 100
