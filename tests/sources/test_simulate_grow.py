from typing import Any

import numpy as np
import pytest

from eddyline.sources.simulate.draws import generator
from eddyline.sources.simulate.grow import ACTIVE_US, HALF_OPEN, REFUSED, SILENT, Columns, grow, starts_of, taken
from eddyline.sources.simulate.shapes import SHAPES, number

SYN, RST, ACK, FIN = 2, 4, 16, 1


def one(shape: str, **rest: Any) -> dict[str, int]:
    columns = grow(generator(1), starts_of(np.array([1_000_000]), 5, 9, number(shape), **rest))
    return {name: int(column[0]) for name, column in columns.items()}


def many(shape: str, count: int, **rest: Any) -> Columns:
    return grow(generator(2), starts_of(np.zeros(count, np.int64), np.arange(count), 9, number(shape), **rest))


def test_a_time_query_is_one_packet_of_76_bytes_each_way() -> None:
    flow = one("ntp", reply=3)
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (76, 1, 76, 1)
    assert (flow["src_port"], flow["dst_port"], flow["proto"], flow["flags"]) == (123, 123, 17, 0)
    assert one("ntp", reply=3, six=True)["bytes"] == 96


def test_a_probe_of_a_closed_port_is_a_syn_and_a_reset() -> None:
    flow = one("probe", reply=REFUSED, port=25)
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (44, 1, 40, 1)
    assert (flow["flags"], flow["rev_flags"], flow["dst_port"]) == (SYN, RST | ACK, 25)


def test_a_probe_of_an_open_port_is_half_a_handshake_and_a_reset() -> None:
    flow = one("probe", reply=HALF_OPEN, port=22)
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (84, 2, 44, 1)
    assert (flow["flags"], flow["rev_flags"]) == (SYN | RST, SYN | ACK)


def test_an_unanswered_probe_is_one_packet_that_lasts_no_time() -> None:
    flow = one("probe", reply=SILENT, port=22)
    assert (flow["bytes"], flow["packets"], flow["rev_bytes"], flow["rev_packets"]) == (44, 1, 0, 0)
    assert (flow["flags"], flow["rev_flags"], flow["ts_end"]) == (SYN, 0, flow["ts_start"])


def test_an_unanswered_connection_is_tried_up_to_three_times() -> None:
    flows = many("https", 300, reply=SILENT)
    assert set(flows["packets"].tolist()) == {1, 2, 3}
    assert (flows["bytes"] == 60 * flows["packets"]).all()
    seconds = {1: 0, 2: 1_000_000, 3: 3_000_000}
    assert [seconds[p] for p in flows["packets"].tolist()] == (flows["ts_end"] - flows["ts_start"]).tolist()
    assert not flows["rev_packets"].any()


def test_a_voice_call_is_as_large_both_ways() -> None:
    flows = many("rtp", 50, reply=3)
    assert (flows["bytes"] == flows["rev_bytes"]).all()
    assert (flows["dst_port"] % 2 == 0).all()


@pytest.mark.parametrize("shape", list(SHAPES))
@pytest.mark.parametrize("six", [False, True])
def test_bytes_packets_flags_and_times_agree_for_every_shape(shape: str, six: bool) -> None:
    flows = many(shape, 400, six=six)
    header = {6: 40, 17: 28, 1: 28}[SHAPES[shape].proto] + 20 * six
    most = max(SHAPES[shape].segment, SHAPES[shape].syn) + header
    for prefix in ("", "rev_"):
        packets, octets = flows[f"{prefix}packets"], flows[f"{prefix}bytes"]
        assert (octets >= header * packets).all()
        assert (octets <= most * packets).all()
    assert (flows["packets"] >= 1).all()
    assert ((flows["rev_packets"] > 0) | (flows["rev_bytes"] == 0)).all()
    assert ((flows["rev_packets"] > 0) | (flows["rev_flags"] == 0)).all()
    lasting = flows["ts_end"] - flows["ts_start"]
    assert (lasting >= 0).all()
    assert (lasting <= ACTIVE_US).all()
    alone = (flows["packets"] == 1) & (flows["rev_packets"] == 0)
    assert not lasting[alone].any()


def test_a_long_flow_is_reported_in_pieces_that_follow_one_another() -> None:
    flows = many("rdp", 300, reply=3)
    starts, counts = np.unique(flows["src"], return_counts=True)
    assert len(starts) == 300
    assert counts.max() >= 3
    for src in starts[counts > 1].tolist():
        pieces = taken(flows, flows["src"] == src)
        assert pieces["end_reason"].tolist() == [2] * (len(pieces["src"]) - 1) + [3]
        gaps = pieces["ts_start"][1:] - pieces["ts_end"][:-1]
        assert set(gaps.tolist()) == {1}
        assert len(set(pieces["src_port"].tolist())) == 1
        assert [bool(flags & SYN) for flags in pieces["flags"]] == [True] + [False] * (len(gaps))
        assert [bool(flags & FIN) for flags in pieces["flags"]] == [False] * len(gaps) + [True]
        assert int(np.ptp(pieces["packets"])) <= 1


def test_nothing_is_lost_when_a_flow_is_cut() -> None:
    whole = many("rdp", 300, reply=3)
    # The same draws, ended before the first timeout could strike: one record per flow with all its bytes.
    short = grow(
        generator(2), starts_of(np.zeros(300, np.int64), np.arange(300), 9, number("rdp"), reply=3), until_us=1_000
    )
    assert len(short["src"]) == 300 < len(whole["src"])
    for name in ("bytes", "packets", "rev_bytes", "rev_packets"):
        assert np.bincount(whole["src"], whole[name]).tolist() == short[name].tolist()
