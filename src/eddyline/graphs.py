"""A window as hosts and edges: every flow is an edge, and edge i is row i of the window.

Addresses come dictionary-encoded, so a host's text is looked at once per window and never per flow: node ids are the
unified dictionary codes, renumbered by first appearance so that they depend on the flows alone. On a GPU the columns
travel once and only the list of hosts comes back (`devices`); every way gives the same graph, edge for edge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from eddyline.devices import by_copy, by_cudf, chosen, numbered
from eddyline.flows import EDGE_FEATURES, LABEL_COLUMNS
from eddyline.habits.conversations import Conversations, conversations
from eddyline.habits.reading import HabitColumns
from eddyline.hashing import Places, group
from eddyline.windows import Window

Codes: TypeAlias = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class FlowGraph:
    """One window as a directed multigraph.

    Args:
        window: where it came from, without its `label` and `attack` columns: no detector ever sees them.
        hosts: address text of host v, utf8 (V,), senders first, in order of first appearance.
        edge_index: source row, target row, int64 in [0, V). Shape (2, E).
        edge_features: raw, unscaled, float32 (E, F), columns named by EDGE_FEATURES, NaN where the source has none.
        habits: what the site's memory says of this window; None where no memory was asked.
    """

    window: Window
    hosts: pa.Array
    edge_index: Tensor
    edge_features: Tensor
    habits: HabitColumns | None = None
    _pairs: list[tuple[Tensor, Tensor]] = field(default_factory=list, repr=False)
    _conversations: list[Conversations] = field(default_factory=list, repr=False)

    def __len__(self) -> int:
        return int(self.edge_index.shape[1])

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Distinct (src, dst) pairs in order of first appearance, int64 (2, P), and the pair of each edge, (E,)."""
        if not self._pairs:
            self._pairs.append(distinct_pairs(self.edge_index, len(self.hosts)))
        return self._pairs[0]

    def conversations(self) -> Conversations:
        """Group the flows that are alike and count what every host does; computed once."""
        if not self._conversations:
            pairs, pair_of_edge = (part.cpu().numpy() for part in self.pairs())
            columns = self.edge_features.T.cpu().numpy()
            named = dict(zip(EDGE_FEATURES, columns, strict=True))
            self._conversations.append(conversations(pairs, pair_of_edge, named, self.hosts))
        return self._conversations[0]

    def feature(self, name: str) -> Tensor:
        """One column of `edge_features`, float32 (E,), NaN where unknown."""
        return self.edge_features[:, list(EDGE_FEATURES).index(name)]


def columns_of(graph: FlowGraph) -> HabitColumns:
    """What the memory says of a graph's window; raises ValueError where no memory was asked."""
    if graph.habits is None:
        raise ValueError("graph: it carries no habit columns; build it with `scoring.remembered`")
    return graph.habits


def build_graph(window: Window, device: str = "cpu", cudf: bool | None = None) -> FlowGraph:
    """Turn a window into a graph on `device` ("cpu", "cuda", "cuda:1"): O(E) integer work, nothing per flow in Python.

    Args:
        window: any window, also one of one flow, of self loops, of IPv6 or of no flows at all.
        device: a torch device.
        cudf: on CUDA, whether columns go through cuDF; None: where it is installed.

    Raises:
        ConfigError: a CUDA device was asked for and there is none.
    """
    flows = window.flows.drop_columns([name for name in LABEL_COLUMNS if name in window.flows.column_names])
    unlabelled = Window(window.site, window.start_us, window.end_us, window.part, window.late, flows)
    src, dst, hosts = _unified_codes(flows)
    if device.startswith("cpu"):
        return FlowGraph(unlabelled, *_on_cpu(flows, src, dst, hosts))
    cudf = find_spec("cudf") is not None if cudf is None else cudf
    columns = by_cudf if cudf else by_copy
    return FlowGraph(unlabelled, *_on_device(*columns(flows, [[src], [dst]], chosen(device).device), hosts))


def _on_device(ends: Tensor, features: Tensor, hosts: pa.Array) -> tuple[pa.Array, Tensor, Tensor]:
    edges, kept = numbered(ends, len(hosts))
    return hosts.take(pa.array(kept.cpu().numpy())), edges, features


def _on_cpu(flows: pa.Table, src: Codes, dst: Codes, hosts: pa.Array) -> tuple[pa.Array, Tensor, Tensor]:
    edges = np.empty((2, len(src)), np.int64)
    kept = _by_appearance(src, dst, np.full(len(hosts), -1, np.int64), edges)
    features = np.empty((len(EDGE_FEATURES), len(src)), np.float32)
    for row, name in zip(features, EDGE_FEATURES, strict=True):
        _fill(row, flows[name])
    columns = torch.from_numpy(features).T  # (E, F), each feature contiguous
    return hosts.take(pa.array(kept)), torch.from_numpy(edges), columns


def _unified_codes(flows: pa.Table) -> tuple[Codes, Codes, pa.Array]:
    """One dictionary for senders and receivers; codes int32 (E,) each. Cheap where all batches share one dictionary."""
    src, dst = flows["src_addr"], flows["dst_addr"]
    both = pa.chunked_array([*src.chunks, *dst.chunks], type=src.type)
    dictionaries = [chunk.dictionary for chunk in both.chunks]
    if any(
        dictionary is not dictionaries[0] and not dictionary.equals(dictionaries[0]) for dictionary in dictionaries[1:]
    ):
        both = both.unify_dictionaries()
    if not both.num_chunks:
        return np.empty(0, np.int32), np.empty(0, np.int32), pa.array([], pa.utf8())
    codes = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in both.chunks]
    joined = [codes[: src.num_chunks], codes[src.num_chunks :]]
    first, second = (part[0] if len(part) == 1 else np.concatenate(part) for part in joined)
    return first, second, both.chunk(0).dictionary


@njit(cache=True)
def _by_appearance(src: Codes, dst: Codes, place: Places, edges: Places) -> Places:
    """Number the dictionary entries that occur, senders first, by first appearance; return them in that order.

    So the graph is the same however the stream was batched and whatever else the dictionaries hold.

    Args:
        src, dst: codes of each flow, (E,).
        place: -1 for every dictionary entry; becomes each one's number.
        edges: becomes both ends of each flow, (2, E).
    """
    kept = np.empty(len(place), np.int64)
    hosts = 0
    for end, codes in enumerate((src, dst)):
        for flow in range(len(codes)):
            code = codes[flow]
            if place[code] < 0:
                place[code] = hosts
                kept[hosts] = code
                hosts += 1
            edges[end, flow] = place[code]
    return kept[:hosts].copy()


def _fill(row: NDArray[np.float32], column: pa.ChunkedArray) -> None:
    start = 0
    for chunk in column.chunks:
        part = row[start : start + len(chunk)]
        if chunk.null_count == len(chunk):
            part[:] = np.nan
        elif chunk.null_count:
            part[:] = chunk.fill_null(0).to_numpy(zero_copy_only=False)
            part[chunk.is_null().to_numpy(zero_copy_only=False)] = np.nan
        else:
            part[:] = chunk.to_numpy()
        start += len(chunk)


def distinct_pairs(edge_index: Tensor, hosts: int) -> tuple[Tensor, Tensor]:
    """Distinct columns of `edge_index` (2, E) by first appearance, int64 (2, P), and the pair of each edge (E,)."""
    keys = edge_index[0] * hosts + edge_index[1]
    if edge_index.is_cuda:
        return _pairs_by_sorting(edge_index, keys)
    pair_of_edge, first = group(keys.numpy().view(np.uint64))
    return edge_index[:, torch.from_numpy(first)], torch.from_numpy(pair_of_edge)


def _pairs_by_sorting(edge_index: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    distinct, inverse = torch.unique(keys, return_inverse=True)
    edges = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(distinct, len(keys)).scatter_reduce_(0, inverse, edges, "amin")
    order = torch.argsort(first)
    rank = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=keys.device))
    return edge_index[:, first[order]], rank[inverse]
