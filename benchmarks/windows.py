"""Flows per second of the windower alone, one core, on nearly ordered input: `python benchmarks/windows.py`."""

import time

import numpy as np
import pyarrow as pa
from rich.console import Console

from eddyline.flows import FlowBatch, flow_table
from eddyline.windows import Windower, WindowSettings

FLOWS, BATCH, SECOND = 4_000_000, 65_536, 1_000_000


def batches(disorder_us: int) -> list[FlowBatch]:
    """Flows at 20,000 per second over 20,000 hosts, each shifted by up to `disorder_us`; all columns present."""
    rng = np.random.default_rng(0)
    hosts = pa.array([f"10.0.{i // 256}.{i % 256}" for i in range(20_000)])
    made = []
    for first in range(0, FLOWS, BATCH):
        rows = min(BATCH, FLOWS - first)
        ends = (np.arange(first, first + rows) * 50 - rng.integers(0, disorder_us + 1, rows)).astype("datetime64[us]")
        address = [
            pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 20_000, rows, dtype=np.int32)), hosts) for _ in "sd"
        ]
        counts = {
            name: rng.integers(0, 10_000, rows).astype(np.uint64)
            for name in ("bytes", "packets", "rev_bytes", "rev_packets")
        }
        ports = {name: rng.integers(0, 65_536, rows).astype(np.uint16) for name in ("src_port", "dst_port")}
        columns = {
            "ts_end": pa.array(ends).cast(pa.timestamp("us", tz="UTC")),
            "src_addr": address[0],
            "dst_addr": address[1],
        }
        made.append(FlowBatch(flow_table({**columns, **counts, **ports}, rows), first + rows))
    return made


def main() -> None:
    """Print one line per degree of disorder."""
    console = Console()
    for disorder_s in (0, 1, 5, 30):
        stream = batches(disorder_s * SECOND)
        windower = Windower(WindowSettings(lateness_us=10 * SECOND))
        start = time.perf_counter()
        flows = sum(len(window) for batch in stream for window in windower.add(batch).closed)
        flows += sum(len(window) for window in windower.finish().closed)
        seconds = time.perf_counter() - start
        assert flows == FLOWS
        console.print(f"windows: disorder up to {disorder_s:2d} s: {flows / seconds / 1e6:6.1f} M flows/s")


if __name__ == "__main__":
    main()
