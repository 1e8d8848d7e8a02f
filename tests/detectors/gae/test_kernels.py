"""The compiled loops against the model's own text, and against hand counts."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.detectors.gae import kernels, pieces
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from tests.detectors.gae.test_model import some_window

SIZES = {
    "three features, boxes": Sizes(in_channels=5, hidden=64, heads=2, edge_dim=3, global_dim=7),
    "four features, boxes": Sizes(in_channels=5, hidden=64, heads=1, edge_dim=4, global_dim=7),
    "many features": Sizes(in_channels=5, hidden=16, heads=4, edge_dim=26, global_dim=7),
    "one feature, odd widths": Sizes(in_channels=3, hidden=5, heads=3, edge_dim=1, global_dim=2),
}


def some_case(sizes: Sizes, flows: int = 3000) -> tuple[GuidedGae, torch.Tensor, Edges]:
    torch.manual_seed(0)
    model = GuidedGae(sizes).eval()
    model.norm.running_mean.normal_(std=0.1)
    model.norm.running_var.uniform_(0.5, 2)
    x, edge_index, attr = some_window(1, 60, flows, sizes)
    return model, x.float(), Edges.of(edge_index, attr.float(), len(x))


@pytest.mark.parametrize("flows", [1, 40, 3000])
@pytest.mark.parametrize("name", SIZES)
def test_compiled_loops_say_what_torch_says(name: str, flows: int) -> None:
    model, x, edges = some_case(SIZES[name], flows)
    written = model.embed(x, edges), model.logits(model.embed(x, edges), edges, model.summary(edges.attr))
    with torch.no_grad():
        assert kernels.usable(x)
        z = model.embed(x, edges)
        compiled = z, model.logits(z, edges, model.summary(edges.attr))
    for found, expected in zip(compiled, written, strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-5)


def test_what_is_differentiated_or_double_is_left_to_torch() -> None:
    assert not kernels.usable(torch.zeros(1))
    with torch.no_grad():
        assert not kernels.usable(torch.zeros(1), torch.zeros(1, dtype=torch.float64))
        assert kernels.usable(torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize("name", SIZES)
def test_the_number_of_threads_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, edges = some_case(SIZES[name])
    expected = model.score(x, edges)
    monkeypatch.setattr(kernels, "_WORTH", 1)
    torch.set_num_threads(3)
    try:
        found = model.score(x, edges)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_range_is_handed_out_whole_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(kernels, "_WORTH", 10)
    torch.set_num_threads(4)
    try:
        kernels.spread(lambda first, last: seen.append((first, last)), 7, values=30)
        kernels.spread(lambda first, last: seen.append((first, last)), 7, values=9)
    finally:
        torch.set_num_threads(1)
    assert sorted(seen[:3]) == [(0, 2), (2, 4), (4, 7)]
    assert seen[3:] == [(0, 7)]


def test_an_error_in_a_thread_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(first: int, last: int) -> None:
        raise ValueError(f"rows {first} to {last}")

    monkeypatch.setattr(kernels, "_WORTH", 1)
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="rows 0 to 2"):
            kernels.spread(fail, 4, values=4)
    finally:
        torch.set_num_threads(1)


def test_in_bfloat16_the_ranking_stays() -> None:
    for name in ("three features, boxes", "many features"):
        model, x, edges = some_case(SIZES[name])
        exact = model.score(x, edges)
        model.decoder.products = torch.bfloat16
        rounded = model.score(x, edges)
        assert not torch.equal(exact, rounded)
        ranks = torch.stack([column.argsort().argsort().double() for column in (exact, rounded)])
        assert float(torch.corrcoef(ranks)[0, 1]) >= 0.999


def test_rows_by_group_by_hand() -> None:
    order, starts = kernels.by_group(np.array([2, 0, 2, 1, 0]), 4)
    assert order.tolist() == [1, 4, 3, 0, 2]
    assert starts.tolist() == [0, 2, 3, 5, 5]


def test_mean_of_what_is_received_by_hand() -> None:
    # Pair 0 -> 1 has flows 3 and 0, pair 2 -> 1 has flow 1; nobody sends to 0 and 2.
    attr = np.array([[1, 10], [3, 30], [9, 90], [5, 50]], np.float32)
    found = kernels.mean_received(np.array([0, 2, 3]), np.array([1, 1]), attr, np.array([3, 0, 1]), 3)
    assert found.tolist() == [[0, 0], [3, 30], [0, 0]]
    assert kernels.mean_of(attr).tolist() == [4.5, 45]


def test_attention_by_hand() -> None:
    # Host 2 receives two flows from 0 (logits 0 and ln 3) and one from 1 (logit ln 4): shares 1/8, 3/8, 4/8.
    logits = np.log(np.array([[1], [3], [4]], np.float32))
    sent = np.array([[[8.0, 0.0]], [[0.0, 2.0]], [[5.0, 5.0]]], np.float32)
    out = np.ones((3, 1, 2), np.float32)
    order, received = kernels.by_group(np.array([2, 2]), 3)
    kernels.attend(0, 3, order, received, np.array([0, 1]), np.array([0, 2, 3]), logits, sent, out)
    np.testing.assert_allclose(out[:, 0], [[1, 1], [1, 1], [5, 2]], rtol=1e-6)


def test_elu_by_hand() -> None:
    out = np.zeros(2, np.float32)
    rows, pairs = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32), np.array([[1.0, 1.0]], np.float32)
    weight = np.array([2.0, 10.0], np.float32)
    kernels.elu_dot(pairs, np.array([0, 0]), rows, weight, np.float32(5 - 12), np.array([1, 0]), out)
    np.testing.assert_allclose(out, [5 + 2 * 1 + 10 * 4, 5 + 2 * 2 + 10 * (np.exp(-1) - 1)], rtol=1e-6)


def test_the_exponential_is_good_to_float32() -> None:
    values = np.concatenate([-np.logspace(-8, 1.9, 2000), [0.0, -1e30]]).astype(np.float32)
    out = np.zeros(len(values), np.float32)
    nothing, place = np.zeros((1, 1), np.float32), np.zeros(len(values), np.int64)
    kernels.elu_dot(nothing, place, values[:, None], np.ones(1, np.float32), np.float32(0), np.arange(len(values)), out)
    np.testing.assert_allclose(out, np.exp(values.astype(np.float64)), rtol=5e-6, atol=1e-37)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 4), st.sampled_from(["normal", "heavy", "few values"]), st.integers(0, 99))
def test_products_by_boxes_are_the_products(flows: int, features: int, shape: str, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    attr = torch.randn(flows, features, generator=random)
    attr = {"normal": attr, "heavy": attr.mul(2).exp(), "few values": attr.round()}[shape]
    weight, bias = torch.randn(70, features, generator=random), torch.randn(70, generator=random)
    after = torch.randn(70, 9, generator=random)
    expected = F.relu(attr.double() @ weight.double().T + bias.double()) @ after.double()
    found, seen = torch.zeros(flows, 9), np.zeros(flows, int)
    for rows, product in pieces.products(attr, weight, bias, after):
        found[torch.from_numpy(rows)] = product
        seen[rows] += 1
    assert (seen == 1).all()
    scale = expected.abs().max(1, keepdim=True).values + 1
    assert float(((found - expected) / scale).abs().max()) < 1e-5


def test_boxes_are_small_and_their_flows_alike() -> None:
    columns = np.zeros((4, 8), np.float32)
    columns[0] = [5, 1, 6, 2, 8, 3, 7, 4]
    order, starts = pieces.boxes(columns, np.ones(4, np.float32), 2)
    boxes = [sorted(columns[0, order[first:last]].tolist()) for first, last in pairwise(starts)]
    assert boxes == [[1, 2], [3, 4], [5, 6], [7, 8]]


def test_a_feature_that_is_not_a_number_spoils_no_other_flow() -> None:
    attr = torch.randn(600, 2)
    attr[7, 1] = torch.nan
    weight, bias, after = torch.randn(64, 2), torch.randn(64), torch.randn(64, 3)
    found = torch.zeros(600, 3)
    for rows, product in pieces.products(attr, weight, bias, after):
        found[torch.from_numpy(rows)] = product
    good = torch.arange(600) != 7
    torch.testing.assert_close(found[good], (F.relu(attr @ weight.T + bias) @ after)[good], rtol=1e-4, atol=1e-4)
