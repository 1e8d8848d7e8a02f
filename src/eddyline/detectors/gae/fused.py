"""Attention and decoder by Triton kernels: what `model.py` says in torch, while nothing is differentiated, on a GPU.

Triton is imported when first needed; where it is missing or too old the model's own text serves.
`TRITON_INTERPRET=1`, Triton's own switch, runs the kernels on the CPU.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import torch
from torch import Tensor, nn

from eddyline.detectors.gae.edges import Edges
from eddyline.devices import has_triton

Precision: TypeAlias = Literal["tf32x3", "ieee"]
EXACT: Final[Precision] = "tf32x3"  # of float32 products, on tensor cores
_FLOWS, _CHANNELS, _ROWS = 32, 64, 32  # of a block
_PAIRS: Final = 1 << 15  # whose first layer is held at a time: 96 MiB at the published width


@dataclass(frozen=True, slots=True)
class Blocks:
    """What one program of the decoder works on: flows, hidden units and columns at a time, each a power of two from 16.

    Args:
        warps, stages: of Triton's compiler.
    """

    flows: int
    units: int
    columns: int
    warps: int
    stages: int


BLOCKS: Final = {torch.float32: Blocks(64, 32, 64, 4, 2), torch.bfloat16: Blocks(64, 64, 64, 4, 3)}


def usable(*tensors: Tensor) -> bool:
    """Whether the kernels may stand in for torch here."""
    if torch.is_grad_enabled() or any(tensor.dtype != torch.float32 for tensor in tensors):
        return False
    return all(tensor.is_cuda or _interpreted() for tensor in tensors) and has_triton()


def chunk_for(device: str) -> int:
    """Most values of one intermediate array: a core's L2 cache is fastest, and a GPU waits for launches if less."""
    return 1 << 18 if device.startswith("cpu") else 1 << 25


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


def attention_weights(sent: Tensor, met: Tensor, edges: Edges, flow: Tensor, att: Tensor) -> Tensor:
    """Softmax over what each host receives, summed over the flows of a pair: (P, heads).

    Args:
        sent, met: of every host as source and as target, (N, heads * hidden).
        flow: what features add, (heads * hidden, F). att: (heads, hidden).
    """
    kernels, heads = _kernels(), len(att)
    logits = sent.new_empty(len(edges), heads)
    if not len(edges):
        return logits
    ends = edges.pairs.contiguous()
    with _on(sent):
        kernels.attention_logits[(-(-len(edges) // _FLOWS), heads)](
            ends, edges.pair, edges.attr.contiguous(), sent.contiguous(), met.contiguous(), flow.contiguous(),
            att.contiguous(), logits, len(edges), ends.shape[1], att.shape[1], flow.shape[1], _FLOWS, _CHANNELS,
        )  # fmt: skip
    of_pair, share = _softmax_parts(logits, None, None, edges.starts)
    order = torch.argsort(ends[1], stable=True)
    counts = torch.bincount(ends[1], minlength=edges.hosts)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    of_host, total = _softmax_parts(of_pair, share, order, starts)
    return share * torch.exp(of_pair - of_host[ends[1]]) / total[ends[1]]


def _softmax_parts(
    logits: Tensor, weights: Tensor | None, order: Tensor | None, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Largest logit of each group and the sum of weight · exp(logit - largest), (groups, heads) both."""
    heads = logits.shape[1]
    peaks, totals = logits.new_empty(2, len(starts) - 1, heads)
    if len(peaks):
        padded = max(2, 1 << (heads - 1).bit_length())
        with _on(logits):
            _kernels().softmax_parts[(len(peaks),)](
                logits, logits if weights is None else weights, starts if order is None else order, starts, peaks,
                totals, heads, order is None, _ROWS, padded, num_warps=1,
            )  # fmt: skip
    return peaks, totals


def decode(
    z: Tensor, edges: Edges, constant: Tensor, layers: tuple[nn.Linear, Tensor, Tensor, nn.Linear],
    precision: Precision = EXACT, blocks: Blocks | None = None, pairs: int = _PAIRS,
) -> Tensor:  # fmt: skip
    """Judge flows: one logit each, (E,), in the window's order.

    Args:
        z: (N, H). constant: what all flows share of the first layer, (C,).
        layers: of the features; the first layer's weights behind the hosts' product and behind the features, (H, C),
            in bfloat16 where products shall be; and the last layer.
        precision: of float32 products. blocks: of a program. pairs: whose first layer is held at a time.
    """
    of_feature, of_hosts, of_flow, last = layers
    blocks, kernels = blocks or BLOCKS[of_flow.dtype], _kernels()
    found, attr, of_flow = z.new_empty(len(edges)), edges.attr.contiguous(), of_flow.contiguous()
    firsts = range(0, edges.pairs.shape[1], pairs)
    bounds = [*edges.starts[::pairs][: len(firsts)].tolist(), len(edges)]  # one wait for the device, not one per chunk
    for first, start, stop in zip(firsts, bounds, bounds[1:], strict=False):
        if start == stop:
            continue
        source, target = edges.pairs[:, first : first + pairs]
        product = (z.index_select(0, source) * z.index_select(0, target)).to(of_hosts.dtype)
        of_pair = (product @ of_hosts).float().add_(constant)
        with _on(z):
            kernels.elu_of_products[(-(-(stop - start) // blocks.flows),)](
                edges.pair, edges.row, attr, of_feature.weight.contiguous(), of_feature.bias, of_pair, of_flow,
                last.weight.contiguous(), last.bias, found, start, stop, first, *of_flow.shape, attr.shape[1],
                precision, _interpreted() and of_flow.dtype == torch.bfloat16, blocks.flows, blocks.units,
                blocks.columns, num_warps=blocks.warps, num_stages=blocks.stages,
            )  # fmt: skip
    return found


def _on(tensor: Tensor) -> Any:
    """Launch on the device that a tensor is on, which need not be the current one."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _kernels() -> Any:
    from eddyline.detectors.gae import triton_kernels  # where CUDA is

    return triton_kernels
