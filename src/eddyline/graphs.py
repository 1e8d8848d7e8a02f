"""A window as hosts and edges: every flow is an edge, and edge i is row i of the window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from torch import Tensor

from eddyline.windows import Window

EDGE_FEATURES: Final = (
    "bytes", "packets", "rev_bytes", "rev_packets", "duration_us", "src_port", "dst_port", "proto", "tcp_flags", "rev_tcp_flags",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """One window as a directed multigraph.

    Args:
        window: where it came from. Its `label` and `attack` columns are cut off.
        hosts: address text of host v, utf8 (V,), in the order of the window's unified dictionary.
        edge_index: source row, target row, int64 in [0, V). Shape (2, E).
        edge_features: raw, unscaled, float32 (E, F), columns named by EDGE_FEATURES, NaN where the source has none.
    """

    window: Window
    hosts: pa.Array
    edge_index: Tensor
    edge_features: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Distinct (src, dst) pairs, int64 (2, P), and the pair of every edge, int64 (E,); computed once."""
        raise NotImplementedError

    def feature(self, name: str) -> Tensor:
        """One column of `edge_features`, float32 (E,)."""
        return self.edge_features[:, EDGE_FEATURES.index(name)]
