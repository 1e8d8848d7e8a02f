"""Graphs: node ids from dictionaries, edge i is row i, pairs, and the two column paths."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.errors import ConfigError
from eddyline.flows import flow_table
from eddyline.graphs import EDGE_FEATURES, FlowGraph, build_graph, distinct_pairs
from eddyline.windows import Window


def window(*flows: tuple[str, str, int | None], **columns: list) -> Window:
    table = flow_table(
        {
            "src_addr": [f[0] for f in flows],
            "dst_addr": [f[1] for f in flows],
            "bytes": [f[2] for f in flows],
            **columns,
        },
        len(flows),
    )
    return Window("default", 0, 60_000_000, 0, False, table)


def ends(graph: FlowGraph) -> list[tuple[str, str]]:
    hosts = graph.hosts.to_pylist()
    return [(hosts[s], hosts[d]) for s, d in graph.edge_index.T.tolist()]


def test_edge_i_is_row_i() -> None:
    flows = [("b", "a", 1), ("a", "b", 2), ("b", "a", 3)]
    graph = build_graph(window(*flows))
    assert ends(graph) == [(s, d) for s, d, _ in flows]
    assert graph.feature("bytes").tolist() == [1.0, 2.0, 3.0]
    assert graph.edge_index.dtype == torch.int64
    assert graph.edge_features.shape == (3, len(EDGE_FEATURES))


def test_parallel_flows_share_a_pair_and_the_way_back_is_another_pair() -> None:
    graph = build_graph(window(("a", "b", 1), ("b", "a", 1), ("a", "b", 1), ("a", "a", 1)))
    pairs, pair_of_edge = graph.pairs()
    hosts = graph.hosts.to_pylist()
    assert [(hosts[s], hosts[d]) for s, d in pairs.T.tolist()] == [("a", "b"), ("b", "a"), ("a", "a")]
    assert pair_of_edge.tolist() == [0, 1, 0, 2]


def test_only_hosts_that_occur_are_nodes() -> None:
    names = pa.array(["unused", "a", "gone", "b"])
    codes = pa.DictionaryArray.from_arrays(pa.array([3, 1], pa.int32()), names)
    table = flow_table({"src_addr": codes, "dst_addr": codes}, 2)
    graph = build_graph(Window("default", 0, 1, 0, False, table))
    assert graph.hosts.to_pylist() == ["b", "a"]  # by appearance, not by dictionary
    assert ends(graph) == [("b", "b"), ("a", "a")]


def test_ipv6_and_any_other_text_are_hosts_like_others() -> None:
    flows = [("2001:db8::1", "fe80::1", 1), ("AS786", "b8:27:eb:15:88:9c", 2)]
    assert ends(build_graph(window(*flows))) == [(s, d) for s, d, _ in flows]


def test_a_window_of_one_flow_and_one_of_none() -> None:
    one = build_graph(window(("a", "a", 5)))
    assert (len(one), len(one.hosts)) == (1, 1)
    none = build_graph(window())
    assert (len(none), len(none.hosts), none.pairs()[0].shape) == (0, 0, (2, 0))


def test_a_missing_value_is_nan_and_zero_stays_zero() -> None:
    graph = build_graph(window(("a", "b", None), ("a", "b", 0), rev_bytes=[0, None]))
    assert torch.isnan(graph.feature("bytes")).tolist() == [True, False]
    assert torch.isnan(graph.feature("rev_bytes")).tolist() == [False, True]
    assert torch.isnan(graph.feature("duration_us")).all()


def test_labels_are_cut_off_before_a_graph_is_built() -> None:
    graph = build_graph(window(("a", "b", 1), label=["malicious"], attack=["scan"]))
    assert not {"label", "attack"} & set(graph.window.flows.column_names)


def test_a_cuda_device_that_is_not_there_is_a_wrong_configuration() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ConfigError, match=r"no device `cuda` here \(torch .* finds no CUDA device\)"):
        build_graph(window(("a", "b", 1)), "cuda")


hosts = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", "host", "x" * 40])
edges = st.lists(st.tuples(hosts, hosts, st.one_of(st.none(), st.integers(0, 2**40))), max_size=30)


@given(edges, st.lists(st.integers(0, 30), max_size=4))
@settings(deadline=None)
def test_batches_with_dictionaries_of_their_own_give_the_graph_of_one_batch(flows: list, cuts: list[int]) -> None:
    bounds = sorted({0, len(flows), *(min(cut, len(flows)) for cut in cuts)})
    pieces = [window(*flows[a:b]).flows for a, b in pairwise(bounds)] or [window().flows]
    graph = build_graph(Window("default", 0, 1, 0, False, pa.concat_tables(pieces)))
    assert ends(graph) == [(s, d) for s, d, _ in flows]
    expected = np.array([np.nan if b is None else b for _, _, b in flows], np.float32)
    np.testing.assert_array_equal(graph.feature("bytes").numpy(), expected)
    assert sorted(graph.hosts.to_pylist()) == sorted({end for s, d, _ in flows for end in (s, d)})


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40), st.sampled_from([7, 70_000]))
@settings(deadline=None)
def test_pairs_are_distinct_and_in_order_of_appearance_however_many_hosts(flows: list, hosts: int) -> None:
    index = torch.tensor(flows, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    pairs, pair_of_edge = distinct_pairs(index, hosts)
    assert list(map(tuple, pairs.T.tolist())) == list(dict.fromkeys(flows))
    assert torch.equal(pairs[:, pair_of_edge], index)


def test_the_cudf_path_gives_the_same_graph_edge_for_edge() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("cudf", reason="the gpu extra is not installed")
    flows = [("a", "b", 1), ("b", "a", None), ("::1", "a", 3), ("a", "b", 2**30)]
    here, there = build_graph(window(*flows)), build_graph(window(*flows), "cuda")
    assert here.hosts == there.hosts
    assert torch.equal(here.edge_index, there.edge_index.cpu())
    torch.testing.assert_close(here.edge_features, there.edge_features.cpu(), equal_nan=True, rtol=0, atol=0)
    for left, right in zip(here.pairs(), there.pairs(), strict=True):
        assert torch.equal(left, right.cpu())
