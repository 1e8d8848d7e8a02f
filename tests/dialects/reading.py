"""Lines written to a file and read back as flows, the way a user reads them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eddyline.sources.files.source import open_file


def flows_of(url: str) -> tuple[list[dict[str, Any]], list[str], Mapping[str, int]]:
    """Flows, reasons of the rejected records, and what the source counted."""
    source = open_file(url)
    flows: list[dict[str, Any]] = []
    reasons: list[str] = []
    for batch in source:
        flows += batch.table.to_pylist()
        reasons += batch.rejected["reason"].to_pylist()
    return flows, reasons, source.counters


def json_file(path: Path, *records: Mapping[str, Any], order: str = "source", query: str = "") -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return f"file://{path}?order={order}{query}"


def text_file(path: Path, lines: Sequence[str], end: str = "\n") -> str:
    text = ("\n".join(lines) + end).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return f"file://{path}?order=source"


def totals(flows: Sequence[Mapping[str, Any]], *names: str) -> list[int]:
    return [sum(flow[name] for flow in flows) for name in names]
