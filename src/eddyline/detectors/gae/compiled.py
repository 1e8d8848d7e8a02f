"""Attention and decoder by compiled loops: what `model.py` says in torch, while nothing is differentiated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eddyline.detectors.gae import kernels, pieces
from eddyline.detectors.gae.edges import Edges
from eddyline.detectors.gae.kernels import FEW, Floats, Ints, array, rows_of, spread

_WIDE: Final = 1 << 16  # flows whose feature space is cut into boxes together: more make smaller boxes, and more memory
_VALUES: Final = 1 << 22  # of one array per host
_LANES: Final = 32  # values that a compiled loop takes at a time
_PAIRS: Final = 4096  # pairs that one product is made for


def attention(
    x: Tensor, edges: Edges, layers: tuple[nn.Linear, nn.Linear, nn.Linear], att: Tensor, rows: int
) -> Tensor:
    """What every host receives, (N, heads * H), a loop with mean features at every host included.

    Args:
        x: (N, D). layers: of source, target and flow features. att: (heads, H).
        rows: flows at a time where features are multiplied.
    """
    hosts, (heads, width) = edges.hosts, att.shape
    edges = edges.without_loops()
    attr, place = array(edges.given), array(edges.place)
    mean = torch.from_numpy(kernels.mean_received(array(edges.starts), array(edges.pairs[1]), attr, place, hosts))
    own = torch.arange(hosts).expand(2, -1).contiguous()
    loops = Edges(own, own[0], own[0], mean, own[0], hosts)
    source, target = torch.cat([edges.pairs, own], 1)
    starts = array(torch.cat([edges.starts, loops.starts[1:] + len(edges)]))
    order, received = kernels.by_group(array(target), hosts)
    found = np.zeros((hosts, heads, width), np.float32)
    together = max(1, min(heads, _VALUES // max(hosts * width, 1)))  # heads; fresh memory costs more than the sums
    for head in range(0, heads, together):
        some = slice(head * width, (head + together) * width)
        sent, met = (F.linear(x, layer.weight[some], layer.bias[some]) for layer in layers[:2])
        ends = array(sent).reshape(hosts, -1, width), array(met).reshape(hosts, -1, width)
        logits = np.empty((len(edges) + hosts, ends[0].shape[1]), np.float32)
        given = *ends, layers[2].weight[some], array(att[head : head + together]), rows
        _attention_logits(edges, *given, logits[: len(edges)])
        _attention_logits(loops, *given, logits[len(edges) :])
        mixing = order, received, array(source), starts, logits, ends[0], found[:, head : head + together]
        spread(lambda first, last: kernels.attend(first, last, *mixing), hosts, logits.size * width)  # noqa: B023
    return torch.from_numpy(found).view(hosts, -1)


def _attention_logits(
    edges: Edges, sent: Floats, met: Floats, flow: Tensor, att: Floats, rows: int, out: Floats
) -> None:
    ends, starts, place = array(edges.pairs), array(edges.starts), array(edges.place)
    few = edges.given.shape[1] <= FEW
    attr = array(F.pad(edges.given, (0, FEW - edges.given.shape[1])) if few else edges.given)
    weights = array(F.pad(flow.T, (0, 0, 0, FEW - len(flow.T)) if few else (0, 0))).reshape(-1, *att.shape)

    def of_few(first: int, last: int) -> None:
        mine = starts[first : last + 1]
        kernels.attention_logits_of_few(ends[:, first:last], mine, sent, met, attr, place, weights, att, out)

    def of_many(first: int, last: int) -> None:
        space, gathered = torch.empty(rows, flow.shape[0]), torch.empty(rows, flow.shape[1])
        for start in range(starts[first], starts[last], rows):
            flows = slice(start, min(start + rows, int(starts[last])))
            pairs = slice(int(edges.pair[start]), int(edges.pair[flows.stop - 1]) + 1)
            some = rows_of(edges.given, edges.place[flows], gathered)
            added = torch.mm(some, flow.T, out=space[: len(some)])
            kernels.attention_logits(
                start, ends[:, pairs], starts[pairs.start : pairs.stop + 1], sent, met,
                added.numpy().reshape(-1, *att.shape), att, out[flows],
            )  # fmt: skip

    spread(of_few if few else of_many, ends.shape[1], len(edges) * att.size)


def decode(
    z: Tensor, edges: Edges, constant: Tensor, layers: tuple[nn.Linear, Tensor, Tensor, nn.Linear], rows: int
) -> Tensor:
    """Judge flows: one logit each, (E,), in the window's order.

    Args:
        z: (N, H). constant: what all flows share of the first layer, (C,).
        layers: of the features; the first layer's weights behind the hosts' product and behind the features, (H, C),
            in bfloat16 where products shall be; and the last layer.
        rows: flows at a time where features are multiplied as they are.
    """
    of_feature, of_hosts, of_flow, last = layers
    boxed = pieces.worth(len(edges), edges.given.shape[1], z.shape[1])
    rows = _WIDE if boxed else rows
    shift = np.float32(float(last.bias) - last.weight.sum(dtype=torch.float64))
    more = -len(constant) % _LANES  # what is left over would be worked out one by one
    constant, of_hosts, of_flow, weight = (
        F.pad(part, (0, more)) for part in (constant, of_hosts, of_flow, last.weight)
    )
    found, to = np.empty(len(edges), np.float32), array(edges.row)
    judged = array(weight[0])

    def judge(first: int, stop: int) -> None:
        space = torch.empty(2, min(rows, stop - first), len(constant))
        gathered = torch.empty(space.shape[1], edges.given.shape[1])
        for start in range(first, stop, rows):
            flows = slice(start, min(start + rows, stop))
            of_pair, place = _of_pairs(z, edges, flows, constant, of_hosts, space[0])
            attr = rows_of(edges.given, edges.place[flows], gathered)
            for mine, product in (_boxed if boxed else _plain)(attr, of_feature, of_flow, space[1]):
                kernels.elu_dot(of_pair, place[mine], product, judged, shift, to[flows][mine], found)

    spread(judge, len(edges), len(edges) * len(constant))
    return torch.from_numpy(found)


def _of_pairs(
    z: Tensor, edges: Edges, flows: slice, constant: Tensor, of_hosts: Tensor, space: Tensor
) -> tuple[Floats, Ints]:
    """First layer of the pairs of some flows, (p, C), and each flow's place among them."""
    pair = array(edges.pair[flows])
    source, target = edges.pairs[:, int(pair[0]) : int(pair[-1]) + 1]
    for start in range(0, len(source), _PAIRS):
        some = slice(start, start + _PAIRS)
        product = torch.index_select(z, 0, source[some]).mul_(torch.index_select(z, 0, target[some]))
        if of_hosts.dtype == z.dtype:
            torch.addmm(constant, product, of_hosts, out=space[start : start + len(product)])
        else:
            rounded = (product.to(of_hosts.dtype) @ of_hosts).float()
            torch.add(rounded, constant, out=space[start : start + len(product)])
    return space.numpy(), pair - pair[0]


def _boxed(attr: Tensor, first: nn.Linear, then: Tensor, _space: Tensor) -> Iterator[tuple[Ints, Floats]]:
    for rows, product in pieces.products(attr, first.weight, first.bias, then):
        yield rows, product.numpy()


def _plain(attr: Tensor, first: nn.Linear, then: Tensor, space: Tensor) -> Iterator[tuple[slice, Floats]]:
    hidden = F.relu_(first(attr))
    if then.dtype == attr.dtype:
        yield slice(None), torch.mm(hidden, then, out=space[: len(attr)]).numpy()
    else:
        yield slice(None), (hidden.to(then.dtype) @ then).float().numpy()
