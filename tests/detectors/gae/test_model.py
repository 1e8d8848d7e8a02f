"""The model against torch_geometric's layers, and the promises that its form makes."""

import pytest
import torch
from reference_gae import ReferenceGae as Plain
from torch import Tensor

from eddyline.detectors.gae.adjacency import Limits
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.detectors.gae.parity import own_name
from eddyline.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # of torch_geometric's A @ A
SMALL = Sizes(in_channels=5, hidden=6, heads=3, edge_dim=4, global_dim=7)


def some_model(seed: int = 0, sizes: Sizes = SMALL, chunk: int = 1 << 19) -> GuidedGae:
    torch.manual_seed(seed)
    model = GuidedGae(sizes, chunk).double().eval()
    torch.nn.init.normal_(model.attention.bias)
    model.norm.running_mean.normal_(std=0.1)
    model.norm.running_var.uniform_(0.2, 2)
    return model


def some_window(seed: int, hosts: int = 30, flows: int = 120, sizes: Sizes = SMALL) -> tuple[Tensor, Tensor, Tensor]:
    """Node features, edge_index (with self loops and parallel flows) and flow features."""
    random = torch.Generator().manual_seed(seed)
    busy = torch.rand(2, flows, generator=random, dtype=torch.float64).pow(2)  # the low numbers are busy
    edge_index = (busy * hosts).long()
    x = torch.randn(hosts, sizes.in_channels, generator=random, dtype=torch.float64)
    return x, edge_index, torch.randn(flows, sizes.edge_dim, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_attention_is_that_of_torch_geometric(seed: int) -> None:
    model = some_model(seed)
    x, edge_index, attr = some_window(seed)
    assert (edge_index[0] == edge_index[1]).any()
    found = model.attention(x, Edges.of(edge_index, attr, len(x)))
    torch.testing.assert_close(found, Plain(model).attend(x, edge_index, attr), rtol=1e-10, atol=1e-10)


def test_attention_while_nothing_is_differentiated_is_the_same() -> None:
    model = some_model()
    x, edge_index, attr = some_window(1)
    edges = Edges.of(edge_index, attr, len(x))
    with torch.no_grad():
        found = model.attention(x, edges)
    torch.testing.assert_close(found, model.attention(x, edges), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_embeddings_logits_and_gradients_are_those_of_torch_geometric(seed: int, training: bool) -> None:
    model = some_model(seed).train(training)
    plain = Plain(model)
    x, edge_index, attr = some_window(seed)
    edges = Edges.of(edge_index, attr, len(x))
    z, expected_z = model.embed(x, edges), plain.embed(x, edge_index, attr)
    torch.testing.assert_close(z, expected_z, rtol=1e-9, atol=1e-9)
    logits, expected = model.logits(z, edges, model.summary(edges.attr)), plain.logits(expected_z, edge_index, attr)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    logits.square().mean().backward()
    expected.square().mean().backward()
    for name, theirs in plain.named_parameters():
        ours = model.get_parameter(own_name(name))
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad.view_as(theirs), theirs.grad, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(-1, -1, small=0),
        Limits(-1, small=0),
        Limits(dense_entries=-1, small=0),
        Limits(dense_entries=-1, small=0, easy_steps=9),
        Limits(small=8),
    ],
)
def test_the_form_of_the_pooled_adjacency_does_not_change_scores(limits: Limits) -> None:
    model = some_model()
    x, edge_index, attr = some_window(3)
    edges = Edges.of(edge_index, attr, len(x))
    expected = model.score(x, edges)
    model.unet.limits = limits
    torch.testing.assert_close(model.score(x, edges), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 50, 1000])
def test_chunk_size_does_not_change_scores(chunk: int) -> None:
    x, edge_index, attr = (part.float() if part.is_floating_point() else part for part in some_window(4))
    edges = Edges.of(edge_index, attr, len(x))
    expected = some_model().float().score(x, edges)
    torch.testing.assert_close(some_model(chunk=chunk).float().score(x, edges), expected, rtol=0, atol=1e-6)


def test_shuffled_flows_keep_their_own_scores() -> None:
    model = some_model()
    x, edge_index, attr = some_window(5)
    order = torch.randperm(len(attr), generator=torch.Generator().manual_seed(0))
    scores = model.score(x, Edges.of(edge_index, attr, len(x)))
    shuffled = model.score(x, Edges.of(edge_index[:, order], attr[order], len(x)))
    torch.testing.assert_close(shuffled, scores[order], rtol=0, atol=1e-9)


def test_parallel_flows_with_different_features_get_different_scores() -> None:
    model = some_model()
    x, _, attr = some_window(6, hosts=3, flows=4)
    edge_index = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 2]])
    attr[1] = attr[0]
    scores = model.score(x, Edges.of(edge_index, attr, 3))
    assert scores[0] == scores[1]
    assert abs(scores[0] - scores[2]) > 1e-3


@pytest.mark.parametrize(
    ("ends", "hosts"), [([[0], [1]], 2), ([[0], [0]], 1), ([[0, 0], [0, 0]], 1), ([[1, 0], [0, 1]], 3)]
)
def test_the_smallest_windows_score_like_torch_geometric(ends: list[list[int]], hosts: int) -> None:
    model = some_model()
    x, _, attr = some_window(7, hosts, len(ends[0]))
    edge_index = torch.tensor(ends)
    plain = Plain(model)
    expected = 1 - torch.sigmoid(plain.logits(plain.embed(x, edge_index, attr), edge_index, attr))
    scores = model.score(x, Edges.of(edge_index, attr, hosts))
    assert scores.shape == (len(ends[0]),)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-9)


def test_a_window_without_flows_has_no_scores() -> None:
    x, edge_index, attr = some_window(0, hosts=0, flows=0)
    assert some_model().score(x, Edges.of(edge_index, attr, 0)).shape == (0,)


def test_in_eval_mode_windows_encoded_together_are_as_if_alone() -> None:
    model = some_model()
    windows = [
        (x, Edges.of(ends, attr, len(x))) for x, ends, attr in (some_window(8), some_window(9, hosts=7, flows=20))
    ]
    for z, (x, edges) in zip(model.encode(windows), windows, strict=True):
        torch.testing.assert_close(z, model.embed(x, edges), rtol=0, atol=1e-12)


def test_in_train_mode_windows_share_their_statistics_and_every_parameter_gets_a_gradient() -> None:
    model = some_model().train()
    windows = [(x, Edges.of(ends, attr, len(x))) for x, ends, attr in (some_window(8), some_window(9))]
    before = model.norm.running_mean.clone()
    first, second = model.encode(windows)
    attended = torch.cat([torch.nn.functional.elu(model.attention(x, edges)) for x, edges in windows])
    torch.testing.assert_close(model.norm.running_mean, 0.9 * before + 0.1 * attended.mean(0))
    summary = model.summary(windows[0][1].attr)
    candidates = Edges.of(torch.tensor([[0, 3, 3], [5, 3, 8]]), torch.zeros(3, 4).double(), 30)
    loss = model.logits(first, windows[0][1], summary).sum() - model.logits(first, candidates, summary).square().sum()
    (loss + second.square().sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"ratio": 1.0}, {"depth": 0}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="impossible"):
        Sizes(**wrong)
