"""benchmarks/gpu.md from what a run of `gpu_check.py` found, or the page that says that there was none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

PAGE: Final = Path(__file__).with_name("gpu.md")
_COPIES: Final = ("device copy", "host to device", "device to host")
_HEAD: Final = """# On a GPU

    python benchmarks/gpu_check.py --json gpu.json     # on a machine with CUDA, under eight minutes
    python benchmarks/gpu_check.py --page gpu.json     # fills this page

The published network, weights drawn from a seed, from an Arrow window in host memory or from columns on the device to
p-values; habits, drift and alerts stay on the CPU and are not in it. Goals on one H200: 25 M flows/s from host memory
on `distinct` first, 250 M in the end.
"""
_NONE: Final = """
**No GPU could be had yet: nothing here has been run on one, and the table is empty.** What holds without one: the
kernels give the model's results in Triton's interpreter and compile for Hopper (`tests/detectors/gae/test_fused.py`),
columns that travel in one copy give the CPU's graph (`tests/test_devices.py`), and p-values and look-ups by binary
search are the host's (`tests/test_lookups.py`). cuDF, pinned memory and streams have never been run.

| workload | flows | by | from | M flows/s |
| --- | --- | --- | --- | --- |
"""


def page_of(found: dict[str, Any] | None) -> str:
    """Return the page of a run's JSON; None: of no run."""
    return _HEAD + (_NONE if found is None else "\n".join(_lines(found)) + "\n")


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"\n{found['card']}, {found['started']}, commit {found['commit']}, seed {found['seed']};"
    yield ", ".join(f"{name} {version}" for name, version in found["versions"].items()) + "."
    units = {"float32": "TFLOP/s", "tf32": "TFLOP/s", "bfloat16": "TFLOP/s", **dict.fromkeys(_COPIES, "GB/s")}
    measured = (f"{name} {value:,.1f} {units.get(name, '')}".strip() for name, value in found["ceilings"].items())
    yield "\nMeasured in the same run: " + "; ".join(measured)
    yield "\n## Right\n\nLargest error against float64 on the CPU, relative to the largest value.\n"
    yield from _table(found["errors"], ("by", "precision", "what", "flows", "error", "written", "right"))
    yield "\n## Fast: window to p-values\n"
    whole = [row for row in found["rows"] if row["step"] == "whole"]
    columns = ("workload", "flows", "hosts", "pairs", "distinct_rows", "by", "precision", "from", "flows_per_s")
    yield from _table(whole, columns)
    yield "\n## Steps\n\nShares of the copy and of the matrix product above, for the steps with kernels of our own.\n"
    steps = [row for row in found["rows"] if row["step"] != "whole"]
    shares = ("flows_per_s", "gb_per_s", "of_copy", "tflop_per_s", "of_matmul")
    yield from _table(steps, ("workload", "flows", "by", "precision", "from", "step", *shares))
    yield "\n## Blocks of the decoder\n"
    yield from _table(found["blocks"], ("dtype", "flows", "units", "columns", "warps", "stages", "flows_per_s"))
    yield "\n## Left out\n"
    yield from (f"* {what}" for what in found["left_out"] or ["nothing"])


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Iterator[str]:
    yield "| " + " | ".join(column.replace("_", " ") for column in columns) + " |"
    yield "| " + " | ".join("---" for _ in columns) + " |"
    yield from ("| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page_of(None))
