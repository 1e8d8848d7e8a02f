"""Score a window of the parity fixture: the published model's own files in, its numbers out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.model import GuidedGae, Sizes
from eddyline.detectors.gae.node_features import address_features, propagate
from eddyline.errors import ConfigError

Columns: TypeAlias = NDArray[np.float32]


def score_window(
    weights_file: str | Path, preparation_file: str | Path, window_file: str | Path, dtype: torch.dtype = torch.float32
) -> tuple[Columns, Columns, Columns]:
    """Score one window as the published model in eval mode does, from its inputs alone.

    Args:
        weights_file: the published state dict, safetensors.
        preparation_file: npz with `projection_matrix` (4, D), `scaler_mean`, `scaler_scale` (F,).
        window_file: npz with `src`, `dst` text (E,) and `attrs` (E, F); nothing else in it is read.
        dtype: of all arithmetic after scaling; results are float32 for float32, else float64.

    Returns:
        Node features (N, D), embeddings (N, H), hosts in order of first appearance (senders, then receivers), and
        scores (E,), high = anomalous.

    Raises:
        ConfigError: the weights are not of the published model.
    """
    model = from_published(load_file(weights_file)).to(dtype)
    with np.load(preparation_file, allow_pickle=False) as prepared:
        projection = torch.from_numpy(prepared["projection_matrix"]).to(dtype)
        mean, scale = prepared["scaler_mean"], prepared["scaler_scale"]
    with np.load(window_file, allow_pickle=False) as window:
        src, dst, attrs = window["src"], window["dst"], window["attrs"]
    hosts, edge_index = _numbered(src, dst)
    attr = torch.from_numpy((attrs - mean) / scale).to(torch.float32).to(dtype)
    edges = Edges.of(edge_index, attr, len(hosts))
    own = address_features(hosts, projection if projection.shape[1] != len(projection) else None).to(dtype)
    x = propagate(own, edges.pairs, len(hosts), edges.flows_per_pair())
    with torch.no_grad():
        z = model.embed(x, edges)
        scores = torch.sigmoid(-model.logits(z, edges, model.summary(edges.attr)))
    return x.numpy(), z.numpy(), scores.numpy()


def _numbered(src: NDArray[np.str_], dst: NDArray[np.str_]) -> tuple[pa.Array, Tensor]:
    """Hosts in order of first appearance, and every flow's ends as their numbers, int64 (2, E)."""
    encoded = pa.array(np.concatenate([src, dst])).dictionary_encode()
    ends = encoded.indices.to_numpy().astype(np.int64).reshape(2, -1)
    return encoded.dictionary, torch.from_numpy(ends)


PUBLISHED_NAMES: Final[Mapping[str, str]] = {
    "encoder.conv1.lin_l.": "attention.source.",
    "encoder.conv1.lin_r.": "attention.target.",
    "encoder.conv1.lin_edge.": "attention.flow.",
    "encoder.conv1.": "attention.",
    "encoder.batch_norm.": "norm.",
    "encoder.unet.down_convs.": "unet.down.",
    "encoder.unet.up_convs.": "unet.up.",
    "encoder.unet.pools.": "unet.rank.",
    "global_edge_embedding.mlp.": "summarize.",
    ".lin.weight": ".weight",
    ".select.weight": "",
}  # part of a published parameter's name and what it is called here; the first that fits wins, then the endings


def from_published(state: Mapping[str, Tensor], chunk: int = 1 << 19) -> GuidedGae:
    """Build the model from a published state dict, in eval mode; sizes are read off the shapes, ratio is 0.5.

    Raises:
        ConfigError: a tensor is missing, unknown or of another shape.
    """
    own = {own_name(name): tensor for name, tensor in state.items()}
    try:
        own["attention.att"] = own["attention.att"][0]
        heads, hidden = own["attention.att"].shape
        edge_dim = own["attention.flow.weight"].shape[1]
        sizes = Sizes(
            in_channels=own["attention.source.weight"].shape[1],
            hidden=hidden,
            heads=heads,
            edge_dim=edge_dim,
            global_dim=own["decoder.fc_global.weight"].shape[1],
            depth=sum(name.startswith("unet.rank.") for name in own),
        )
        model = GuidedGae(sizes, chunk)
        model.load_state_dict(own)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ConfigError(f"gae: not the published model's weights: {error}; see PUBLISHED_NAMES") from error
    return model.eval()


def own_name(name: str) -> str:
    """Name of a published parameter in our model's state dict (`attention.att` there lacks a leading axis of 1)."""
    for part, here in PUBLISHED_NAMES.items():
        name = name.replace(part, here)
    return name
