"""Pooling without A·A: every form of the pooled adjacency against the square written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eddyline.detectors.gae.adjacency import Adjacency, Explicit, Limits, TwoSteps, adjacency_of, pooled, smoothing
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.sparse import csr, returns, returns_by_search, square

FORMS = {
    "as chosen": Limits(),
    "dense at once": Limits(sparse_entries=-1, small=0),
    "lazy at every level": Limits(sparse_entries=-1, dense_entries=-1, small=0),
    "sparse at every level": Limits(dense_entries=-1, small=0),
    "lazy, then dense": Limits(sparse_entries=-1, dense_entries=9, small=0),
    "sparse, and every host a hub": Limits(dense_entries=-1, small=0, easy_steps=-1),
    "sparse, and half the walks through hubs": Limits(dense_entries=-1, small=0, easy_steps=20),
    "hubs, then dense": Limits(dense_entries=9, small=0, easy_steps=5),
}


def adjacency(flows: list[tuple[int, int]], hosts: int, limits: Limits = FORMS["as chosen"]) -> Explicit:
    edges = edges_of(flows, hosts)
    return adjacency_of(edges.pairs, edges.flows_per_pair(), hosts, limits)


def edges_of(flows: list[tuple[int, int]], hosts: int) -> Edges:
    ends = torch.tensor(flows, dtype=torch.int64).reshape(-1, 2).T
    return Edges.of(ends, torch.zeros(len(flows), 1), hosts)


def written_out(some: Adjacency) -> np.ndarray:
    return some.receive(torch.eye(len(some), dtype=torch.float64)).numpy()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[list[int]]]:
    hosts = draw(st.integers(1, 10))
    host = st.integers(0, hosts - 1)
    flows = draw(st.lists(st.tuples(host, host), max_size=40))
    kept, left = [], hosts
    for _ in range(3):
        kept.append(sorted(draw(st.permutations(range(left)))[: (left + 1) // 2]))
        left = len(kept[-1])
    return hosts, flows, kept


@settings(max_examples=80, deadline=None)
@given(graphs())
def test_three_poolings_equal_the_squares_written_out_in_every_form(
    graph: tuple[int, list[tuple[int, int]], list[list[int]]],
) -> None:
    hosts, flows, poolings = graph
    dense = np.zeros((hosts, hosts))
    np.add.at(dense, ([t for _, t in flows], [s for s, _ in flows]), 1)
    np.fill_diagonal(dense, 0)
    forms: dict[str, Adjacency] = {name: adjacency(flows, hosts, limits) for name, limits in FORMS.items()}
    for kept in poolings:
        square = (dense + np.eye(len(dense))) @ (dense + np.eye(len(dense)))
        np.fill_diagonal(square, 0)
        dense = square[np.ix_(kept, kept)]
        for name, limits in FORMS.items():
            forms[name] = pooled(forms[name], torch.tensor(kept), limits)
            np.testing.assert_allclose(written_out(forms[name]), dense, rtol=1e-12, atol=1e-9, err_msg=name)
            returns = forms[name].returns(torch.arange(len(kept)))
            np.testing.assert_allclose(returns.numpy(), (dense * dense.T).sum(1), rtol=1e-12, atol=1e-6)


def test_each_limit_leads_to_its_form() -> None:
    flows = [(s, t) for s in range(8) for t in range(8)]
    start = adjacency(flows, 8, FORMS["dense at once"])
    kept = torch.arange(6)
    for name, form in {"as chosen": "dense", "dense at once": "dense", "sparse at every level": "sparse"}.items():
        found = pooled(adjacency(flows, 8, FORMS[name]), kept, FORMS[name])
        assert isinstance(found, Explicit)
        assert found.weights.is_sparse_csr == (form == "sparse")
    lazy = pooled(start, kept, FORMS["lazy, then dense"])
    assert isinstance(lazy, TwoSteps)
    assert isinstance(pooled(lazy, torch.arange(3), FORMS["lazy, then dense"]), Explicit)


def test_hosts_two_steps_apart_become_neighbours_weighted_by_the_ways_between_them() -> None:
    # 0 -> 1 twice, 1 -> 2 three times: 2 * 3 ways from 0 to 2; without host 1 nothing else is left.
    found = pooled(adjacency([(0, 1), (0, 1), (1, 2), (1, 2), (1, 2)], 3), torch.tensor([0, 2]), Limits())
    assert written_out(found).tolist() == [[0, 0], [6, 0]]
    # Kept neighbours count their direct flows twice: over the loop at either end.
    found = pooled(adjacency([(0, 1), (0, 1), (1, 2)], 3), torch.tensor([0, 1]), Limits())
    assert written_out(found).tolist() == [[0, 0], [4, 0]]


def test_an_improved_step_by_hand_on_three_hosts() -> None:
    # Two flows 0 -> 1, one 2 -> 1, one 2 -> 2. Loops 2, 2, 1 (host 2 has its own); in-degrees 2, 2 + 1 + 2 = 5, 1.
    edges = edges_of([(0, 1), (0, 1), (2, 1), (2, 2)], 3)
    loops = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)
    smooth = smoothing(adjacency_of(edges.pairs, edges.flows_per_pair(), 3, Limits()), loops, torch.float64)
    x = torch.tensor([[1.0], [10.0], [100.0]], dtype=torch.float64)
    middle = 2 * 1 / (5 * 2) ** 0.5 + 100 / 5**0.5 + 2 * 10 / 5
    torch.testing.assert_close(smooth(x), torch.tensor([[1.0], [middle], [100.0]], dtype=torch.float64))


def test_a_lazy_step_equals_the_explicit_one_and_so_does_its_gradient() -> None:
    flows = [(0, 1), (1, 0), (1, 2), (1, 2), (2, 3), (3, 0), (4, 4), (0, 4)]
    kept = torch.tensor([0, 1, 3, 4])
    found: list[tuple[Tensor, Tensor]] = []
    for name in FORMS:
        x = torch.arange(8, dtype=torch.float64).reshape(4, 2).requires_grad_()
        step = smoothing(
            pooled(adjacency(flows, 5, FORMS[name]), kept, FORMS[name]), torch.full((4,), 2.0).double(), torch.float64
        )
        y = step(x)
        y.pow(2).sum().backward()
        assert x.grad is not None
        found.append((y.detach(), x.grad))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_weights_past_the_range_of_float32_still_normalise() -> None:
    ring = [(s, t) for s in range(9) for t in range(9) if s != t]
    edges = edges_of(ring, 9)
    some: Adjacency = adjacency_of(edges.pairs, edges.flows_per_pair() * 20_000, 9, Limits())
    for left in (5, 3, 2):
        some = pooled(some, torch.arange(left), Limits())
    assert some.receive(torch.ones(2, 1, dtype=torch.float64)).min() > 3.5e38
    step = smoothing(some, torch.full((2,), 2.0).double(), torch.float32)
    torch.testing.assert_close(step(torch.tensor([[1.0], [3.0]])), torch.tensor([[3.0], [1.0]]))


def test_hubs_are_kept_as_thin_matrices_and_the_rest_stays_sparse() -> None:
    flows = [(0, host) for host in range(1, 40)] + [(host, 0) for host in range(1, 40)] + [(3, 5), (5, 7), (7, 7)]
    kept = torch.arange(0, 40, 2)
    limits = Limits(dense_entries=-1, small=0, easy_steps=100)
    found = pooled(adjacency(flows, 40, limits), kept, limits)
    assert isinstance(found, Explicit)
    assert found.into is not None
    assert found.into.shape == (20, 1)
    assert len(found.weights.values()) < 60
    expected = pooled(adjacency(flows, 40), kept, Limits())
    np.testing.assert_array_equal(written_out(found), written_out(expected))
    np.testing.assert_array_equal(found.send(torch.eye(20).double()).numpy(), written_out(expected).T)


@pytest.mark.parametrize("hosts", [300, 900])
def test_busy_hosts_in_every_form_and_size(hosts: int) -> None:
    rng = np.random.default_rng(0)
    ends = (rng.random((2, 6 * hosts)) ** 3 * hosts).astype(int)
    flows = list(zip(*ends.tolist(), strict=True))
    kept = [torch.arange(0, hosts, 2), torch.arange(0, hosts // 2, 2), torch.arange(hosts // 4)]
    limits = [
        Limits(),
        Limits(dense_entries=-1),
        Limits(dense_entries=-1, easy_steps=3000),
        Limits(-1, -1),
        Limits(steps=9),
    ]
    results = []
    for limit in limits:
        some: Adjacency = adjacency(flows, hosts, limit)
        for which in kept:
            some = pooled(some, which, limit)
        results.append((written_out(some), some.returns(torch.arange(3, 9)).numpy()))
    for found, home in results[1:]:
        np.testing.assert_allclose(found, results[0][0], rtol=1e-9)
        np.testing.assert_allclose(home, results[0][1], rtol=1e-9)


@pytest.mark.parametrize("hosts", [1, 3, 40])
def test_torch_alone_finds_the_same_ways_straight_home(hosts: int) -> None:
    random = np.random.default_rng(hosts)
    some = torch.from_numpy(random.integers(0, 5, (hosts, hosts)) * (random.random((hosts, hosts)) < 0.3)).double()
    rows, columns = some.nonzero(as_tuple=True)
    mixed = torch.argsort(rows * hosts + torch.from_numpy(random.permutation(len(rows))) % hosts)  # columns in no order
    rows, columns = rows[mixed], columns[mixed]
    weights = csr(torch.bincount(rows, minlength=hosts), columns, some[rows, columns], hosts)
    np.testing.assert_array_equal(returns_by_search(weights).numpy(), (some * some.T).sum(1).numpy())
    np.testing.assert_array_equal(returns(weights).numpy(), returns_by_search(weights).numpy())


def test_torch_alone_makes_the_same_square() -> None:
    rng = np.random.default_rng(1)
    start = adjacency(list(zip(*rng.integers(0, 50, (2, 200)).tolist(), strict=True)), 50, Limits(small=0))
    kept = torch.arange(0, 50, 3)
    found = square(start.weights, kept, most_steps=10_000)
    assert found is not None
    assert square(start.weights, kept, most_steps=10) is None
    expected = pooled(start, kept, Limits(dense_entries=-1, small=0))
    np.testing.assert_array_equal(found.to_dense().numpy(), written_out(expected))
