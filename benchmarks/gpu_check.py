"""The GPU path on a real GPU: is it right, and how fast is every step. Under eight minutes; JSON out.

    python benchmarks/gpu_check.py --json gpu.json      # on a machine with CUDA
    python benchmarks/gpu_check.py --page gpu.json      # anywhere: fill benchmarks/gpu.md from it
    python benchmarks/gpu_check.py --cpu                # dry run: the same lines at tiny sizes, in Triton's interpreter

Right: kernels against the model's own text in float64 on the CPU, on random inputs that are new in every run, into
memory full of NaN. Fast: windows of three workloads of `workloads.py`, from host memory (Arrow) and from the device,
columns by cuDF and by one pinned copy, by Triton kernels, by torch alone, and by the plain form, flow by flow
(`reference_gae.py`). Bytes are the least that a step must move, FLOP what it must multiply; beside them stand the copy
and the matrix product that the same card did in the same run. Whatever does not fit in --seconds is listed as left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gpu_card import DRY, Card, Turn, ceilings, name, versions
from gpu_network import Network
from gpu_page import PAGE, page_of
from torch import Tensor
from workloads import distinct_rows, window

from eddyline.detectors.gae import fused
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import Sizes
from eddyline.detectors.gae.node_features import address_features
from eddyline.graphs import FlowGraph, build_graph
from eddyline.habits import Table
from eddyline.lookups import SortedTable, device_keys, joined_keys

WORKLOADS: Final = ("distinct", "natural", "published")
SIZES: Final = (1_500_000, 100_000, 10_000_000)  # the most telling first, should time run out
MOST_PLAIN: Final = 100_000  # flows: beyond, the plain form needs more than 75 GB
TINY: Final = Sizes(in_channels=4, hidden=16, heads=2, global_dim=4, depth=1)
# implementation, precision: the decoder's products, float32 products, and whether kernels may be used
MODES: Final[dict[tuple[str, str], tuple[torch.dtype, fused.Precision, bool]]] = {
    ("kernels", "tf32x3"): (torch.float32, "tf32x3", True),
    ("kernels", "bfloat16"): (torch.bfloat16, "tf32x3", True),
    ("kernels", "ieee"): (torch.float32, "ieee", True),
    ("torch", "float32"): (torch.float32, "tf32x3", False),
}
# flows, units, columns, warps, stages; compiled for sm_90 without a GPU, none of them spills registers
TRIED: Final = {
    torch.float32: [fused.Blocks(64, 32, 128, 8, 2)],
    torch.bfloat16: [fused.Blocks(*sizes, 8, 3) for sizes in ((128, 64, 64), (64, 64, 128), (128, 64, 128))],
}
MATMULS: Final = {"tf32x3": "tf32", "ieee": "float32", "bfloat16": "bfloat16", "float32": "float32"}


@dataclass(slots=True)
class Result:
    """What one run found; the page is made of its JSON."""

    started: str
    commit: str
    card: str
    versions: dict[str, str]
    seed: int
    ceilings: dict[str, float] = field(default_factory=dict)  # GB/s, TFLOP/s, and what else is one number
    errors: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def correctness(network: Network, flows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Errors of every mode against float64 on the CPU, each relative to the largest value there."""
    made = window("natural", flows, seed)
    graph, there = build_graph(made), build_graph(made, network.device, False)
    edges = network.edges(there)
    x = network.placed(there, edges)
    z = torch.randn(len(there.hosts), network.model.sizes.hidden, device=network.device)
    exact = deepcopy(network.model).cpu().double()
    attr = torch.empty_like(edges.attr).index_copy(0, edges.row, edges.attr).cpu().double()
    same = Edges.of(graph.edge_index, attr, len(graph.hosts), graph.pairs())
    assert torch.equal(there.edge_index.cpu(), graph.edge_index)
    torch.testing.assert_close(there.edge_features.cpu(), graph.edge_features, rtol=0, atol=0, equal_nan=True)
    attended = exact.attention(x.cpu().double(), same)
    logits = exact.logits(z.cpu().double(), same, exact.summary(attr))
    whole = exact.score(x.cpu().double(), same)
    for (by, precision), mode in MODES.items():
        with network.mode(*mode):
            model = network.model
            found = {
                "attention": (model.attention(x, edges), attended),
                "logits": (model.logits(z, edges, model.summary(edges.attr)), logits),
                "score": (model.score(x, edges), whole),
            }
        for what, (value, expected) in found.items():
            value = value.cpu().double()
            error = float((value - expected).abs().max() / expected.abs().max())
            allowed = 0.03 if precision == "bfloat16" and what != "attention" else 2e-5
            yield {"by": by, "precision": precision, "what": what, "flows": flows, "error": error,
                   "written": bool(value.isfinite().all()), "right": error <= allowed}  # fmt: skip


def measure(card: Card, network: Network, workload: str, flows: int, result: Result) -> None:
    """Every implementation on one window, from the device and from host memory."""
    if card.over():
        result.left_out.append(f"{workload}, {flows:,} flows: no time left")
        return
    windows = [window(workload, flows, number) for number in range(2)]
    graph = build_graph(windows[0], card.device, False)
    counts = {"workload": workload, "flows": flows, "hosts": len(graph.hosts), "pairs": graph.pairs()[0].shape[1],
              "distinct_rows": distinct_rows(windows[0]) if flows <= 1_500_000 else None}  # fmt: skip
    ways: list[tuple[str, bool]] = [("one copy", False)] + [("cuDF", True)] * (find_spec("cudf") is not None)
    for (by, precision), mode in MODES.items():
        named = {**counts, "by": by, "precision": precision}
        with network.mode(*mode):
            turns: dict[str, tuple[Turn, bool]] = {"device": (lambda step: network.from_device(graph, step), True)}
            for name, cudf in ways:
                turns[f"host, {name}"] = (lambda step, cudf=cudf: network.from_host(windows[0], cudf, step), True)  # type: ignore[misc]
                turns[f"host, {name}, overlapped"] = (
                    lambda _, cudf=cudf: network.in_turn(windows * 2, cudf), False,  # type: ignore[misc]
                )  # fmt: skip
            for source, (turn, stepped) in turns.items():
                told = f"{workload}, {flows:,} flows, {by} {precision}, from {source}"
                for row in timed(card, turn, stepped, told, result):
                    result.rows.append({**named, "from": source, **row, **rates(network, named, row, result, stepped)})
    plain(card, network, graph, counts, result)


def timed(card: Card, turn: Turn, stepped: bool, told: str, result: Result) -> list[dict[str, Any]]:
    """Seconds of the whole and of each step; nothing, and a word about it, where time or memory is out."""
    if card.over():
        result.left_out.append(f"{told}: no time left")
        return []
    try:
        whole = card.seconds(lambda: turn(lambda _: None)) / (1 if stepped else 4)
        steps = card.steps(turn) if stepped else {}
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        result.left_out.append(f"{told}: out of the card's memory")
        return []
    return [{"step": name, "seconds": spent} for name, spent in ({"whole": whole} | steps).items()]


def rates(
    network: Network, named: dict[str, Any], row: dict[str, Any], result: Result, stepped: bool
) -> dict[str, float]:
    """Flows a second, and for our own kernels how near to the card's ceilings they are."""
    found = {"flows_per_s": named["flows"] / row["seconds"]}
    work = network.work(named["hosts"], named["pairs"], named["flows"])
    if stepped and row["step"] in work:
        moved, multiplied = (part / row["seconds"] for part in work[row["step"]])
        found |= {"gb_per_s": moved / 1e9, "of_copy": moved / 1e9 / result.ceilings["device copy"]}
        found |= {"tflop_per_s": multiplied / 1e12}
        found |= {"of_matmul": multiplied / 1e12 / result.ceilings[MATMULS[named["precision"]]]}
    return found


def remembered(card: Card, known: int, asked: int, result: Result) -> None:
    """Look pairs up in a memory of so many keys, in both directions, and compare with the host's own table."""
    random = np.random.default_rng(result.seed)
    table = Table.empty(known, 0, 0, 1.0)
    some = np.unique(random.integers(0, 2**64, known, np.uint64))
    table.add(some, 0)
    there, keys = SortedTable.of(table, card.device), random.choice(some, asked)
    keys[::2] = random.integers(0, 2**64, len(keys[::2]), np.uint64)  # half of them strangers
    mine = device_keys(keys, card.device)
    right = bool((there.find(mine).cpu().numpy() == table.find(keys)).all())
    result.errors.append({"by": "search", "precision": "int64", "what": "habits", "flows": asked, "error": 0.0,
                          "written": True, "right": right})  # fmt: skip
    other = mine.roll(1)
    spent = card.seconds(lambda: [there.find(joined_keys(*ends)) for ends in ((mine, other), (other, mine))])
    result.ceilings["habit look-ups, M pairs/s, both ways"] = asked / spent / 1e6


def sweep(card: Card, network: Network, flows: int, result: Result) -> None:
    """The decoder alone with other blocks than those it has, on the first workload; what to set BLOCKS to."""
    edges = network.edges(build_graph(window(WORKLOADS[0], flows, 0), card.device, False))
    decoder, hidden = network.model.decoder, network.model.sizes.hidden
    z = torch.randn(edges.hosts, hidden, device=card.device)
    of_hosts, of_flow, _ = torch.split(decoder.fc1.weight.T, hidden)
    for dtype, some in TRIED.items():
        layers = decoder.fc_edge, of_hosts.to(dtype), of_flow.to(dtype), decoder.fc
        for blocks in (fused.BLOCKS[dtype], *(some if card.gpu else some[:1])):
            told = f"decoder of {WORKLOADS[0]}, {flows:,} flows, {dtype}, {blocks}"
            if card.over():
                result.left_out.append(f"{told}: no time left")
                continue
            spent = card.seconds(lambda layers=layers, blocks=blocks: fused.decode(  # type: ignore[misc]
                z, edges, decoder.fc1.bias, layers, blocks=blocks))  # fmt: skip
            result.blocks.append({"dtype": str(dtype), **asdict(blocks), "flows_per_s": flows / spent})


def plain(card: Card, network: Network, graph: FlowGraph, counts: dict[str, Any], result: Result) -> None:
    """The plain form, flow by flow, from what is on the device."""
    if counts["flows"] > MOST_PLAIN or find_spec("torch_geometric") is None:
        result.left_out.append(f"{counts['workload']}, {counts['flows']:,} flows, plain: over 75 GB, or no PyG here")
        return
    from reference_gae import ReferenceGae, plain_node_features

    model = ReferenceGae(network.model).to(card.device)
    attr = network.attr(graph)

    def turn(step: Callable[[str], None]) -> Tensor:
        x = plain_node_features(address_features(graph.hosts, network.projection), graph.edge_index)
        step("node features")
        z = model.embed(x, graph.edge_index, attr)
        step("encoder")
        raw = -model.logits(z, graph.edge_index, attr)
        step("decoder")
        return raw

    named = {**counts, "by": "plain", "precision": "float32", "from": "device"}
    for row in timed(card, turn, True, f"{counts['workload']}, {counts['flows']:,} flows, plain", result):
        result.rows.append({**named, **row, "flows_per_s": counts["flows"] / row["seconds"]})


def run(given: argparse.Namespace) -> Result:
    """Measure everything that there is time for."""
    card = Card("cpu" if given.cpu else "cuda", given.seconds, 1 if given.cpu else 5)
    sizes, flows = (TINY, (80,)) if given.cpu else (Sizes(), SIZES)
    result = Result(datetime.now(UTC).isoformat(timespec="seconds"), commit(), name(card), versions(), given.seed)
    result.ceilings = ceilings(card, 128 if given.cpu else 8192, 1 << 16 if given.cpu else 1 << 30)
    network = Network(window("natural", flows[0], 1), sizes, given.seed, card.device)
    torch.set_deterministic_debug_mode("warn")  # memory that nobody wrote is full of NaN
    result.errors = list(correctness(network, 80 if given.cpu else 20_011, given.seed))
    torch.set_deterministic_debug_mode("default")
    sweep(card, network, flows[0], result)
    remembered(card, *((100, 300) if given.cpu else (1 << 20, 2_000_000)), result)
    for count in flows:
        for workload in WORKLOADS[: 1 if given.cpu else None]:
            measure(card, network, workload, count, result)
    return result


def commit() -> str:
    """The commit that lies here, or that it is unknown."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main() -> None:
    """Do what the flags ask for; exit status 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--page", type=Path, help="a run's JSON: fill gpu.md from it, measure nothing")
    parser.add_argument("--cpu", action="store_true", help="dry run without a GPU; its times say nothing")
    parser.add_argument("--seconds", type=float, default=420, help="after which nothing new is begun")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    given = parser.parse_args()
    if given.page:
        found = json.loads(given.page.read_text())
        if found["card"] == DRY:
            sys.exit(f"gpu_check: `{given.page}` is of a dry run, which measures nothing; give a run's on a GPU")
        PAGE.write_text(page_of(found))
        return
    if given.cpu and os.environ.get("TRITON_INTERPRET") != "1":  # Triton asks when it is imported
        again = [sys.executable, *sys.argv]
        sys.exit(subprocess.run(again, env={**os.environ, "TRITON_INTERPRET": "1"}, check=False).returncode)  # noqa: S603
    if not given.cpu and not torch.cuda.is_available():
        sys.exit("gpu_check: torch finds no CUDA device; --cpu is a dry run")
    with torch.inference_mode():
        result = run(given)
    sys.stdout.write(page_of(asdict(result)))
    if given.json:
        given.json.write_text(json.dumps(asdict(result), indent=1) + "\n")
    if not all(row["right"] and row["written"] for row in result.errors):
        sys.exit("gpu_check: the kernels are wrong here, see `errors`")


if __name__ == "__main__":
    main()
