"""Framing: which packets hold a NetFlow datagram, and what hostile captures cost."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("dpkt", reason="dpkt is not installed")

from eddyline.errors import ConfigError, SourceError
from eddyline.sources.captures import Capture, Datagram
from tests.captures_bytes import ethernet, pcap, pcapng, udp
from tests.sources.netflow_bytes import v5, v5_record

AT = 1_700_000_000_123_456
A = v5([v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 1, 2)])
PACKET = udp("192.0.2.1", "192.0.2.9", A)
EXPECTED = Datagram(AT, "192.0.2.1", 2055, A)


@pytest.mark.parametrize(
    "content",
    [
        pcap([(AT, ethernet(PACKET))]),
        pcap([(AT, ethernet(PACKET))], order=">"),
        pcap([(AT, ethernet(PACKET))], nano=True),
        pcap([(AT, ethernet(PACKET, vlan=100))]),
        pcap([(AT, ethernet(PACKET) + bytes(6))]),  # padding after the packet
        pcap([(AT, PACKET)], link=101),
        pcap([(AT, PACKET)], link=12),
        pcap([(AT, b"\2\0\0\0" + PACKET)], link=0),
        pcap([(AT, b"\0\0\0\2" + PACKET)], link=108),
        pcap([(AT, b"\0\0\0\1\0\6" + bytes(8) + b"\x08\0" + PACKET)], link=113),
        pcapng([(AT, ethernet(PACKET))]),
        gzip.compress(pcap([(AT, ethernet(PACKET))])),
    ],
    ids="little big nano vlan padding raw raw12 null loop cooked pcapng gzip".split(),
)
def test_a_datagram_is_found_in_every_kind_of_capture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    capture = Capture(tmp_path / "x")
    assert list(capture) == [EXPECTED]
    assert list(capture) == [EXPECTED]
    assert not capture.skipped


def test_packets_without_a_whole_datagram_are_counted_by_reason(tmp_path: Path) -> None:
    frames = [
        ethernet(udp("192.0.2.1", "192.0.2.9", A, cut=1)),
        ethernet(udp("192.0.2.1", "192.0.2.9", A, fragment=0x2000)),  # the first part
        ethernet(udp("192.0.2.1", "192.0.2.9", A, fragment=0x0010)),  # another
        ethernet(udp("192.0.2.1", "192.0.2.9", A, proto=6)),
        ethernet(udp("192.0.2.1", "192.0.2.9", A[:23])),  # shorter than its header
        ethernet(udp("192.0.2.1", "192.0.2.9", b"")),
        bytes(12) + b"\x08\x06" + bytes(28),  # ARP
        b"",
        ethernet(udp("192.0.2.1", "192.0.2.9", A)[:24] + bytes(2) + udp("192.0.2.1", "192.0.2.9", A)[26:]),  # length 0
        ethernet(udp("2001:db8::1", "2001:db8::2", A)),
    ]
    (tmp_path / "x").write_bytes(pcap([(AT, frame) for frame in frames]))
    capture = Capture(tmp_path / "x")
    assert [datagram.exporter for datagram in capture] == ["2001:db8::1"]
    assert dict(capture.skipped) == {
        "cut by the capture": 1, "part of a fragmented packet": 2, "not UDP": 2, "not NetFlow v5, v9 or IPFIX": 2,
        "a broken packet": 2,
    }  # fmt: skip


def test_a_capture_that_is_cut_off_or_lies_about_a_length_ends_there_and_says_so(tmp_path: Path) -> None:
    whole = pcap([(AT, ethernet(PACKET))] * 2)
    lying = whole + b"\0" * 8 + b"\xff\xff\xff\x7f" * 2 + bytes(100)
    for content, found in ((whole[:-1], 1), (whole[: 24 + 16 + 5], 0), (lying, 2), (whole + b"\1\2\3", 2),
                           (pcapng([(AT, ethernet(PACKET))]) + b"\6\0\0\0\4\0\0\0" + bytes(40), 1),
                           (gzip.compress(whole)[:-12], None)):  # fmt: skip
        (tmp_path / "x").write_bytes(content)
        capture = Capture(tmp_path / "x")
        datagrams = list(capture)
        assert datagrams == [EXPECTED] * (len(datagrams) if found is None else found)
        assert capture.skipped.total() == 1, content[-20:]


def test_what_is_no_capture_is_a_wrong_configuration(tmp_path: Path) -> None:
    for content, told in ((b"", "no pcap or pcapng"), (b"src,dst\n", "no pcap or pcapng"), (pcap([], link=147), "147")):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(ConfigError, match=told):
            Capture(tmp_path / "x")
    with pytest.raises(SourceError, match="cannot read"):
        Capture(tmp_path / "none")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([pcap([(AT, ethernet(PACKET, vlan=7))] * 3), pcapng([(AT, ethernet(PACKET))] * 3),
                     pcap([(AT, ethernet(udp("2001:db8::1", "2001:db8::2", A)))] * 2),
                     pcap([(AT, b"\0\0\0\1\0\6" + bytes(8) + b"\x08\0" + PACKET)], link=113)]),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), max_size=12), st.integers(0, 500),
)  # fmt: skip
def test_no_damage_raises_anything_but_a_wrong_configuration(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(damaged[: len(damaged) - cut % 50]))
    try:
        capture = Capture(path)
    except ConfigError:
        return
    found = list(capture)
    assert len(found) <= 3
    assert all(datagram.payload[:2] in (b"\0\5", b"\0\x09", b"\0\x0a") for datagram in found)
