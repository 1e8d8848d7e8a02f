"""Flows grouped by pair, by hand."""

import torch

from eddyline.detectors.gae.edges import Edges

#            0 -> 1  2 -> 2  0 -> 1  1 -> 0
ENDS = torch.tensor([[0, 2, 0, 1], [1, 2, 1, 0]])
ATTR = torch.tensor([[1.0], [7.0], [3.0], [5.0]])


def test_flows_lie_by_pair_first_come_first_and_can_be_put_back() -> None:
    edges = Edges.of(ENDS, ATTR, 3)
    assert edges.pairs.T.tolist() == [[0, 1], [2, 2], [1, 0]]
    assert edges.row.tolist() == [0, 2, 1, 3]
    assert edges.pair.tolist() == [0, 0, 1, 2]
    assert edges.attr[:, 0].tolist() == [1, 3, 7, 5]
    assert edges.starts.tolist() == [0, 2, 3, 4]
    assert edges.flows_per_pair().tolist() == [2, 1, 1]
    assert edges.in_window_order(edges.attr[:, 0]).tolist() == [1, 7, 3, 5]


def test_without_loops_only_flows_between_hosts_are_left() -> None:
    edges = Edges.of(ENDS, ATTR, 3).without_loops()
    assert edges.pairs.T.tolist() == [[0, 1], [1, 0]]
    assert edges.attr[:, 0].tolist() == [1, 3, 5]
    assert edges.row.tolist() == [0, 2, 3]
    assert edges.starts.tolist() == [0, 2, 3]
    assert edges.without_loops() is edges


def test_every_host_gets_one_loop_with_the_mean_of_what_it_receives() -> None:
    edges = Edges.of(ENDS, ATTR, 3).with_mean_loops()
    assert edges.pairs.T.tolist() == [[0, 1], [1, 0], [0, 0], [1, 1], [2, 2]]
    assert edges.attr[:, 0].tolist() == [1, 3, 5, 5, 2, 0]
    assert edges.row.tolist() == [0, 2, 3, 4, 5, 6]


def test_chunks_share_the_pair_on_their_border() -> None:
    edges = Edges.of(ENDS, ATTR, 3)
    chunks = [
        (flows.start, flows.stop, pairs.start, pairs.stop, place.tolist()) for flows, pairs, place in edges.chunks(3)
    ]
    assert chunks == [(0, 3, 0, 2, [0, 0, 1]), (3, 4, 2, 3, [0])]
    assert list(Edges.of(ENDS[:, :0], ATTR[:0], 3).chunks(3)) == []
