"""The Triton kernels against the model's own text in float64: on a GPU where one is, else in Triton's interpreter.

Triton decides when it is imported whether it interprets, so that a child process runs this file once more.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eddyline.detectors.gae import fused
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.fused import BLOCKS
from eddyline.detectors.gae.model import GuidedGae, Sizes, _softmax_by_pair

pytest.importorskip("triton", "3.7", reason="torch brought no triton, or one whose interpreter fails with NumPy 2.4")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
kernels = pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="neither CUDA nor interpreter")
# Widths and counts that are no multiples of a block, features few and many.
SIZES = {
    "three features": Sizes(in_channels=5, hidden=20, heads=3, edge_dim=3, global_dim=7),
    "many features, wide": Sizes(in_channels=4, hidden=70, heads=1, edge_dim=10, global_dim=3),
    "smallest": Sizes(in_channels=1, hidden=1, heads=1, edge_dim=1, global_dim=1),
}


@pytest.fixture(autouse=True)
def _poisoned() -> Iterator[None]:
    """Every array that torch hands out without writing it is full of NaN; nothing is differentiated."""
    torch.set_deterministic_debug_mode("warn")
    assert torch.utils.deterministic.fill_uninitialized_memory
    with torch.no_grad():
        yield
    torch.set_deterministic_debug_mode("default")


def some_case(name: str, flows: int, hosts: int = 12) -> tuple[GuidedGae, GuidedGae, torch.Tensor, Edges, Edges]:
    """A model for the kernels and the same in float64, node features in float64, a window for each."""
    sizes = SIZES[name]
    torch.manual_seed(flows)
    exact = GuidedGae(sizes).double().eval()
    exact.norm.running_mean.normal_(std=0.1)
    x = torch.randn(hosts, sizes.in_channels, dtype=torch.float64)
    edge_index = (torch.rand(2, flows).pow(2) * hosts).long()  # busy hosts, self loops, parallel flows
    attr = torch.randn(flows, sizes.edge_dim)
    mine = GuidedGae(sizes).eval()
    mine.load_state_dict(exact.state_dict())
    edges = Edges.of(edge_index.to(DEVICE), attr.to(DEVICE), hosts)
    return mine.to(DEVICE), exact, x, edges, Edges.of(edge_index, attr.double(), hosts)


def decoded(model: GuidedGae, z: torch.Tensor, edges: Edges, dtype: torch.dtype, **how: object) -> torch.Tensor:
    decoder = model.decoder
    of_hosts, of_flow, of_window = torch.split(decoder.fc1.weight.T, z.shape[1])
    layers = decoder.fc_edge, of_hosts.to(dtype), of_flow.to(dtype), decoder.fc
    constant = decoder.fc1.bias + of_window.T.sum(1)
    return fused.decode(z, edges, constant, layers, **how)


def exactly_decoded(model: GuidedGae, z: torch.Tensor, edges: Edges) -> torch.Tensor:
    decoder = model.decoder
    of_hosts, of_flow, of_window = torch.split(decoder.fc1.weight.T, z.shape[1])
    pair = (z[edges.pairs[0]] * z[edges.pairs[1]] @ of_hosts)[edges.pair]
    first = pair + decoder.fc_edge(edges.attr).relu() @ of_flow + decoder.fc1.bias + of_window.sum(0)
    return edges.in_window_order(decoder.fc(torch.nn.functional.elu(first))[:, 0])


@kernels
@pytest.mark.parametrize(("name", "flows"), [("three features", 33), ("many features, wide", 9), ("smallest", 1)])
def test_attention_shares_are_those_of_the_model_in_float64(name: str, flows: int) -> None:
    mine, exact, x, edges, same = some_case(name, flows)
    edges, same = edges.with_mean_loops(), same.with_mean_loops()
    sent, met = (layer(x.float().to(DEVICE)) for layer in (mine.attention.source, mine.attention.target))
    found = fused.attention_weights(sent, met, edges, mine.attention.flow.weight, mine.attention.att)
    sent, met = exact.attention.source(x.float().double()), exact.attention.target(x.float().double())
    expected = _softmax_by_pair(exact.attention._logits(sent, met, same), same)
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-6)


@kernels
@pytest.mark.parametrize(
    ("name", "flows", "precision"),
    [("three features", 66, "tf32x3"), ("many features, wide", 9, "tf32x3"), ("smallest", 1, "ieee")],
)
def test_the_decoder_is_that_of_the_model_in_float64(name: str, flows: int, precision: str) -> None:
    mine, exact, _, edges, same = some_case(name, flows)
    z = torch.randn(edges.hosts, SIZES[name].hidden)
    found = decoded(mine, z.to(DEVICE), edges, torch.float32, precision=precision, pairs=30)
    torch.testing.assert_close(found.cpu().double(), exactly_decoded(exact, z.double(), same), rtol=1e-5, atol=1e-5)


@kernels
def test_in_bfloat16_only_products_are_rounded() -> None:
    mine, exact, _, edges, same = some_case("many features, wide", 9)
    z = torch.randn(edges.hosts, 70)
    found = decoded(mine, z.to(DEVICE), edges, torch.bfloat16).cpu().double()
    expected = exactly_decoded(exact, z.double(), same)
    assert 1e-5 < float((found - expected).abs().max()) < 0.02 * float(expected.abs().max())


@kernels
def test_neither_blocks_nor_chunks_of_pairs_change_a_logit() -> None:
    mine, _, _, edges, _ = some_case("three features", 10)
    z = torch.randn(edges.hosts, 20, device=DEVICE)
    expected = decoded(mine, z, edges, torch.float32)
    small = replace(BLOCKS[torch.float32], flows=16, units=16, columns=16)
    for pairs in (6, 1000):
        found = decoded(mine, z, edges, torch.float32, blocks=small, pairs=pairs)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@kernels
def test_a_window_scored_by_kernels_is_scored_as_in_float64_and_twice_the_same() -> None:
    mine, exact, x, edges, same = some_case("three features", 20)
    assert fused.usable(x.float().to(DEVICE), edges.given)
    found = mine.score(x.float().to(DEVICE), edges)
    torch.testing.assert_close(found.cpu().double(), exact.score(x.float().double(), same), rtol=0, atol=2e-6)
    assert torch.equal(mine.score(x.float().to(DEVICE), edges), found)


@kernels
def test_a_window_without_flows_has_no_logits_and_hosts_that_hear_nothing_are_embedded() -> None:
    mine, exact, x, _, _ = some_case("three features", 3)
    nothing = Edges.of(torch.empty(2, 0, dtype=torch.int64, device=DEVICE), torch.empty(0, 3, device=DEVICE), 12)
    z = mine.attention(x.float().to(DEVICE), nothing)
    same = Edges.of(torch.empty(2, 0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.float64), 12)
    torch.testing.assert_close(z.cpu().double(), exact.attention(x.float().double(), same), rtol=1e-5, atol=1e-6)
    assert decoded(mine, torch.randn(12, 20, device=DEVICE), nothing, torch.float32).shape == (0,)


@kernels
def test_the_parts_of_a_softmax_by_hand() -> None:
    # Groups of 2, 0 and 35 rows (more than a block); second head: the same logits but for ln 3 in row 1.
    logits = torch.zeros(37, 2, device=DEVICE)
    logits[1, 1] = 1.0986123
    starts = torch.tensor([0, 2, 2, 37], device=DEVICE)
    peaks, totals = fused._softmax_parts(logits, None, None, starts)
    inf = float("inf")
    torch.testing.assert_close(peaks.cpu(), torch.tensor([[0, 1.0986123], [-inf, -inf], [0, 0]]))
    torch.testing.assert_close(totals.cpu(), torch.tensor([[2, 4 / 3], [0, 0], [35, 35]]))
    # Two groups of those sums, the last one first: 35 and 2 + 0 rows of weight exp(logit).
    kept = torch.tensor([2, 0], device=DEVICE), torch.tensor([0, 1, 2], device=DEVICE)
    again = fused._softmax_parts(peaks, totals, *kept)
    torch.testing.assert_close(again[0].cpu(), torch.tensor([[0, 0], [0, 1.0986123]]))
    torch.testing.assert_close(again[1].cpu(), torch.tensor([[35, 35], [2, 4 / 3]]))


@kernels
def test_a_feature_that_is_not_a_number_is_seen_in_its_own_flow_only() -> None:
    mine, _, _, edges, _ = some_case("three features", 20)
    z = torch.randn(edges.hosts, 20, device=DEVICE)
    expected = decoded(mine, z, edges, torch.float32)
    edges.attr[4, 1] = torch.nan
    found = decoded(mine, z, edges, torch.float32)
    spoiled = torch.zeros(20, dtype=torch.bool, device=DEVICE)
    spoiled[edges.row[4]] = True
    assert torch.equal(found.isnan(), spoiled)
    assert torch.equal(found[~spoiled], expected[~spoiled])


def test_what_is_differentiated_or_double_is_left_to_torch() -> None:
    with torch.enable_grad():
        assert not fused.usable(torch.zeros(1, device="meta"))
    assert not fused.usable(torch.zeros(1, dtype=torch.float64))
    assert fused.usable(torch.zeros(1)) == INTERPRETED


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="it is this process")
def test_all_of_this_holds_in_triton_s_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n0", __file__]
    surroundings = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 2 skipped" in done.stdout, done.stdout  # this test and the next


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
def test_the_kernels_compile_for_a_hopper_gpu_and_multiply_on_its_tensor_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton import compile as compiled
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from eddyline.detectors.gae import triton_kernels

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    numbers = {"FEATURES": 3, "FLOWS": 64, "UNITS": 64, "COLUMNS": 64, "PRECISION": "ieee", "WIDEN": False}
    numbers |= {"ROWS": 32, "HEADS": 4, "FIRST": False}
    known = {"pair": "*i64", "row": "*i64", "order": "*i64", "starts": "*i64", "of_flow": "*bf16"}
    known |= dict.fromkeys(("heads", "first", "last", "first_pair", "hidden", "wide"), "i32")
    for kernel in (triton_kernels.softmax_parts, triton_kernels.elu_of_products):
        kinds = {name: "constexpr" if name in numbers else known.get(name, "*fp32") for name in kernel.arg_names}
        places = dict(enumerate(kernel.arg_names))
        fixed = {(place,): numbers[name] for place, name in places.items() if name in numbers}
        even = [place for place, name in places.items() if kinds[name].startswith("*") or name in ("hidden", "wide")]
        aligned = {(place,): [["tt.divisibility", 16]] for place in even}
        made = compiled(ASTSource(kernel, kinds, fixed, aligned), target=GPUTarget("cuda", 90, 32))
        assert made.asm["cubin"].startswith(b"\x7fELF")
        assert ("wgmma" in made.asm["ptx"]) == ("of_flow" in kinds)
