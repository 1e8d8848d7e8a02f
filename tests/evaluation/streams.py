"""Small labelled streams as Scored output v1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from eddyline.flows import flow_table

Flow = tuple[float, str, str, str | None, float]  # second, source, destination, attack or None, p


def scored_table(flows: Sequence[Flow], **more: Any) -> pa.Table:
    """Rows in the order given; `more` are columns of FLOW_SCHEMA or p-values of detectors."""
    second, src, dst, attack, p = zip(*flows, strict=True)
    times = pa.array([round(one * 1e6) for one in second], pa.timestamp("us", tz="UTC"))
    detectors = {name: more.pop(name) for name in list(more) if name.startswith("p_")}
    columns = {
        "ts_start": times,
        "ts_end": times,
        "src_addr": list(src),
        "dst_addr": list(dst),
        "label": ["benign" if one is None else "malicious" for one in attack],
        "attack": pa.array(attack, pa.utf8()),
        "source_row": np.arange(len(flows)),
        **more,
    }
    table = flow_table(columns, len(flows))
    for name, values in {**detectors, "p": p}.items():
        table = table.append_column(name, pa.array(values, pa.float32()))
    return table
