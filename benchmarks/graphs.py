"""Flows per second of graph construction alone, one core, from dictionary codes: `python benchmarks/graphs.py`."""

import time

import numpy as np
import pyarrow as pa
import torch
from rich.console import Console

from eddyline.flows import flow_table
from eddyline.graphs import build_graph
from eddyline.windows import Window


def window(flows: int, hosts: int, batches: int) -> Window:
    """Zipf(1.1) hosts at both ends, in `batches` batches that share one dictionary or each have their own."""
    rng = np.random.default_rng(0)
    weight = 1 / np.arange(1, hosts + 1) ** 1.1
    names = [f"10.{i // 65536}.{i // 256 % 256}.{i % 256}" for i in range(hosts)]
    tables = []
    for _ in range(batches):
        rows = flows // batches
        names_here = pa.array(rng.permutation(names).tolist() if batches > 1 else names)
        ends = [rng.choice(hosts, rows, p=weight / weight.sum()).astype(np.int32) for _ in "sd"]
        counts = {
            name: rng.integers(0, 10_000, rows).astype(np.uint64)
            for name in ("bytes", "packets", "rev_bytes", "rev_packets")
        }
        small = {
            name: rng.integers(0, 65_536, rows).astype(np.uint16)
            for name in ("src_port", "dst_port", "tcp_flags", "rev_tcp_flags")
        }
        src, dst = (pa.DictionaryArray.from_arrays(pa.array(codes), names_here) for codes in ends)
        other = {"duration_us": rng.integers(0, 10**9, rows), "proto": np.full(rows, 6, np.uint8)}
        tables.append(flow_table({"src_addr": src, "dst_addr": dst, **counts, **small, **other}, rows))
    return Window("default", 0, 60_000_000, 0, False, pa.concat_tables(tables))


def main() -> None:
    """Print one line per window: the graph, and the distinct pairs that most detectors ask for."""
    torch.set_num_threads(1)
    console = Console()
    for flows, hosts, batches in (
        (100_000, 1_000, 1),
        (1_000_000, 1_000, 1),
        (1_000_000, 10_000, 1),
        (1_000_000, 10_000, 16),
    ):
        made = window(flows, hosts, batches)
        graph_s, pair_s = [], []
        for _ in range(7):
            start = time.perf_counter()
            graph = build_graph(made)
            middle = time.perf_counter()
            pairs, _ = graph.pairs()
            graph_s.append(middle - start)
            pair_s.append(time.perf_counter() - middle)
        console.print(
            f"graph: {flows:9,} flows {len(graph.hosts):6,} hosts {pairs.shape[1]:7,} pairs {batches:2} dictionaries: "
            f"{flows / np.median(graph_s) / 1e6:6.1f} M flows/s, pairs {flows / np.median(pair_s) / 1e6:6.1f} M flows/s"
        )


if __name__ == "__main__":
    main()
