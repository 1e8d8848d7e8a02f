"""Groups and counts of one window, by hand and the long way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.graphs import build_graph
from eddyline.habits.conversations import HIGH_PORT, SERVICE_PORTS, SERVICES, Conversations, _logs
from tests.habits import Flow, grouped, some_flows, window

NO_PORT, LOW, MIDDLE, HIGH, SERVER_FIRST = range(len(SERVICE_PORTS), SERVICES)


def five() -> Conversations:
    return grouped(
        Flow("a", "b", 443, sent=1_000),
        Flow("a", "b", 443, sent=500),
        Flow("a", "b", 80, sent=40).silent,
        Flow("a", "c", 443, sent=100),
        Flow("d", "c", 443, sent=60).silent,
    )


def test_flows_alike_share_a_conversation() -> None:
    found = five()
    assert found.of_flow.tolist() == [0, 0, 1, 2, 3]
    assert found.flows.tolist() == [2, 1, 1, 1]
    assert found.pair.tolist() == [0, 0, 1, 2]
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == [(0, 2), (0, 3), (1, 3)]  # a d b c
    assert found.unanswered.tolist() == [False, True, False, True]
    assert [SERVICE_PORTS[service] for service in found.service] == [443, 80, 443, 443]
    assert len(found) == 4


def test_the_counts_of_five_flows_by_hand() -> None:
    """Columns: flows, peers, ports, unanswered, bytes."""
    found = five()
    assert found.sent.tolist() == [[4, 2, 2, 1, 1_640], [1, 1, 1, 1, 60], [0] * 5, [0] * 5]
    assert found.received.tolist() == [[0] * 5, [0] * 5, [3, 1, 2, 1, 1_540], [2, 2, 1, 1, 160]]
    assert found.of_pair.tolist() == [[3, 2], [1, 1], [1, 1]]
    assert found.spread.tolist() == [[2, 1], [1, 1], [2, 2], [1, 2]]  # targets of the source, sources of the target


def test_a_port_with_and_without_answers_is_one_port_and_one_peer() -> None:
    found = grouped(Flow("a", "b"), Flow("a", "b").silent, Flow("a", "b", proto=17))
    assert len(found) == 3
    assert found.of_pair.tolist() == [[3, 1]]
    assert found.sent[0, :4].tolist() == [3, 1, 1, 1]
    assert found.spread.tolist() == [[1, 1]] * 3


def test_own_sizes_are_logs_in_the_units_people_use() -> None:
    found = grouped(Flow("a", "b", sent=1_000, back=5_000, packets=10, back_packets=20, duration_us=3_000_000))
    np.testing.assert_allclose(found.sizes, np.log1p([[1_000, 5_000, 10, 20, 3_000, 100, 250]]), rtol=1e-6)


def test_a_one_way_record_is_answered_where_the_reversed_pair_occurs() -> None:
    one_way = dict[str, None](back=None, back_packets=None)
    found = grouped(
        Flow("a", "b", **one_way), Flow("b", "a", 50_000, src_port=443, **one_way), Flow("a", "c", **one_way)
    )
    assert found.unanswered.tolist() == [False, False, True]
    assert np.isnan(found.sizes[:, [1, 3, 6]]).all()


def test_a_counted_zero_is_no_answer_even_where_the_reversed_pair_occurs() -> None:
    found = grouped(Flow("a", "b").silent, Flow("b", "a", back=None, back_packets=None))
    assert found.unanswered.tolist() == [True, False]


def test_unknown_ports_and_protocols_are_kinds_of_their_own() -> None:
    flow = Flow("a", "b")
    nothing = flow._replace(dst_port=None, src_port=None, proto=None)
    found = grouped(nothing, flow._replace(dst_port=None), flow._replace(src_port=None))
    assert found.service.tolist() == [NO_PORT, NO_PORT, SERVICE_PORTS.index(443)]
    assert found.proto.tolist() == [3, 0, 0]
    assert found.of_pair.tolist() == [[3, 2]]  # no port is one port


@pytest.mark.parametrize("proto", [1, 58])
def test_icmp_has_no_ports_whatever_an_exporter_writes_there(proto: int) -> None:
    found = grouped(
        Flow("a", "b", 2_048, proto=proto), Flow("a", "b", 0, src_port=0, proto=proto), Flow("a", "b", 771, proto=proto)
    )
    assert len(found) == 1
    assert (found.service[0], found.proto[0]) == (NO_PORT, 2)
    assert found.sent[0, 2] == 1


@pytest.mark.parametrize(
    ("src_port", "dst_port", "service"),
    [(443, 50_000, SERVER_FIRST), (443, 80, SERVICE_PORTS.index(80)), (443, 8_080, SERVICE_PORTS.index(8_080)),
     (443, 600, LOW), (50_000, 700, LOW), (50_000, 1_024, MIDDLE), (50_000, HIGH_PORT - 1, MIDDLE),
     (50_000, HIGH_PORT, HIGH), (700, 65_535, HIGH)],
)  # fmt: skip
def test_a_service_is_its_port_or_the_range_of_it(src_port: int, dst_port: int, service: int) -> None:
    assert grouped(Flow("a", "b", dst_port, src_port=src_port)).service.tolist() == [service]


def test_drawn_ports_count_as_one_and_servers_ports_each() -> None:
    drawn = [Flow("a", "b", port, src_port=40_000) for port in (40_001, 50_002, 65_535)]
    assert grouped(*drawn).of_pair.tolist() == [[3, 1]]
    answers = [Flow("b", "a", port, src_port=own) for port, own in ((50_001, 443), (50_002, 443), (50_003, 22))]
    assert grouped(*answers).of_pair.tolist() == [[3, 2]]
    ports = {int(grouped(flow).port[0]) for flow in (drawn[0], *answers, Flow("a", "b", None), Flow("a", "b", 443))}
    assert len(ports) == 5


def kind(flow: Flow, one_way_pairs: set[tuple[str, str]]) -> tuple:
    """What makes flows alike, the long way."""
    silent = (flow.dst, flow.src) not in one_way_pairs if flow.back_packets is None else flow.back_packets == 0
    known = set(SERVICE_PORTS)
    if flow.proto == 1:
        port: object = "none"
    elif flow.src_port in known and flow.dst_port >= 1024 and flow.dst_port not in known:
        port = ("server", flow.src_port)
    else:
        port = min(flow.dst_port, HIGH_PORT)
    return flow.src, flow.dst, port, flow.proto, silent


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_random_windows_agree_with_counting_the_long_way(seed: int, size: int, hosts: int) -> None:
    flows = some_flows(np.random.default_rng(seed), size, hosts)
    graph = build_graph(window(flows))
    found, names = graph.conversations(), graph.hosts.to_pylist()
    kinds = [kind(flow, {(one.src, one.dst) for one in flows}) for flow in flows]
    assert found.of_flow.tolist() == [list(dict.fromkeys(kinds)).index(one) for one in kinds]
    for end, counts, side in ((0, found.sent, 0), (1, found.received, 1)):
        for host, name in enumerate(names):
            mine = [(one, flow) for one, flow in zip(kinds, flows, strict=True) if one[end] == name]
            ports = {one[2] for one, _ in mine}
            peers, silent = {one[1 - end] for one, _ in mine}, sum(one[4] for one, _ in mine)
            assert counts[host].tolist() == [len(mine), len(peers), len(ports), silent, sum(f.sent for _, f in mine)]
        for flow, one in enumerate(kinds):
            alike = {other[1 - end] for other in kinds if (other[end], other[2]) == (one[end], one[2])}
            assert found.spread[found.of_flow[flow], side] == len(alike)
    for pair, (source, target) in enumerate(zip(found.source, found.target, strict=True)):
        mine = [one for one in kinds if one[:2] == (names[source], names[target])]
        assert found.of_pair[pair].tolist() == [len(mine), len({one[2] for one in mine})]


def test_an_empty_window_has_no_conversations() -> None:
    found = grouped()
    assert len(found) == 0
    assert found.sizes.shape == (0, 7)


@given(st.lists(st.floats(0, 2.0**60, width=32), min_size=1, max_size=600), st.integers(0, 599))
@settings(max_examples=60, deadline=None)
def test_the_compiled_logarithm_agrees_with_the_library(values: list[float], unknown: int) -> None:
    more = np.float32(1) + np.array(values, np.float32)
    more[unknown:] = np.nan
    found = np.empty_like(more)
    _logs(more, found)
    np.testing.assert_allclose(found, np.log(more.astype(float)), rtol=3e-7, atol=1e-9)
