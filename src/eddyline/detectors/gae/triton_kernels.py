"""The model's inner loops for a GPU, in Triton: nothing as wide as a layer is written per flow.

Import it through `fused`, where CUDA is; tests run the same text on the CPU by Triton's interpreter. Sums are float32,
products of the decoder as told; every loop ends with a mask, so sizes need not be multiples of a block. Nothing is
added up by atomics, whose order differs from run to run.
"""

from __future__ import annotations

import triton
import triton.language as tl

FEW = tl.constexpr(8)  # features up to which a loop over them is written out; 47 take a minute to compile


@triton.jit
def _with_features(value, attr, row, mine, weight, column, known, FEATURES: tl.constexpr):
    """Add attr[row] · weight[column] to value (rows, columns); both have FEATURES columns."""
    if FEATURES <= FEW:
        for feature in tl.static_range(FEATURES):
            given = tl.load(attr + row * FEATURES + feature, mask=mine, other=0.0)
            value += given[:, None] * tl.load(weight + column * FEATURES + feature, mask=known, other=0.0)[None, :]
    else:
        for feature in range(FEATURES):
            given = tl.load(attr + row * FEATURES + feature, mask=mine, other=0.0)
            value += given[:, None] * tl.load(weight + column * FEATURES + feature, mask=known, other=0.0)[None, :]
    return value


@triton.jit(do_not_specialize=["flows", "pairs"])
def attention_logits(
    ends, pair, attr, sent, met, flow, att, out, flows, pairs, hidden,
    FEATURES: tl.constexpr, FLOWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Write att · leaky_relu(sent[source] + met[target] + flow attr) per flow and head; grid: (blocks of FLOWS, heads).

    Args:
        ends: (2, P). pair: of each flow, (E,). attr: in the same order, (E, FEATURES).
        sent, met: (N, heads * hidden). flow: (heads * hidden, FEATURES). att: (heads, hidden). out: (E, heads).
    """
    head, heads = tl.program_id(1), tl.num_programs(1)
    width = heads * hidden
    row = tl.program_id(0).to(tl.int64) * FLOWS + tl.arange(0, FLOWS)
    mine = row < flows
    of = tl.load(pair + row, mask=mine, other=0)
    source = tl.load(ends + of, mask=mine, other=0)
    target = tl.load(ends + pairs + of, mask=mine, other=0)
    found = tl.zeros((FLOWS,), tl.float32)
    for start in range(0, hidden, CHANNELS):
        channel = start + tl.arange(0, CHANNELS)
        known = channel < hidden
        column = head * hidden + channel
        both = mine[:, None] & known[None, :]
        value = tl.load(sent + source[:, None] * width + column[None, :], mask=both, other=0.0)
        value += tl.load(met + target[:, None] * width + column[None, :], mask=both, other=0.0)
        value = _with_features(value, attr, row, mine, flow, column, known, FEATURES)
        value = tl.where(value > 0, value, 0.2 * value)
        found += tl.sum(value * tl.load(att + column, mask=known, other=0.0)[None, :], axis=1)
    tl.store(out + row * heads + head, found, mask=mine)


@triton.jit
def softmax_parts(
    logits, weights, order, starts, peaks, totals, heads,
    FIRST: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """Write the largest logit of each group and the sum of weight · exp(logit - largest); grid: (groups,).

    A group without rows gets -inf and 0. Flows to pairs where FIRST, then pairs to hosts.

    Args:
        logits, weights: (n, heads). order: which row stands where, (n,); where FIRST both are as if 1 and 0 … n - 1.
        starts: of each group, (groups + 1,). peaks, totals: (groups, heads).
    """
    group = tl.program_id(0).to(tl.int64)
    first, last = tl.load(starts + group), tl.load(starts + group + 1)
    head = tl.arange(0, HEADS)
    known = head < heads
    peak = tl.full((HEADS,), float("-inf"), tl.float32)
    total = tl.zeros((HEADS,), tl.float64)
    for start in range(first, last, ROWS):
        place = start + tl.arange(0, ROWS)
        mine = place < last
        row = place.to(tl.int64)
        if not FIRST:
            row = tl.load(order + place, mask=mine, other=0)
        both = mine[:, None] & known[None, :]
        at = row[:, None] * heads + head[None, :]
        logit = tl.load(logits + at, mask=both, other=float("-inf"))
        higher = tl.maximum(peak, tl.max(logit, axis=0))
        safe = tl.where(known, higher, 0.0)  # heads that are none have -inf throughout
        share = tl.exp(logit - safe[None, :])
        if not FIRST:
            share *= tl.load(weights + at, mask=both, other=0.0)
        total = total * tl.exp(peak - safe).to(tl.float64) + tl.sum(share.to(tl.float64), axis=0)
        peak = higher
    tl.store(peaks + group * heads + head, peak, mask=known)
    tl.store(totals + group * heads + head, total.to(tl.float32), mask=known)


@triton.jit(do_not_specialize=["first", "last", "first_pair"])
def elu_of_products(
    pair, row, attr, edge_weight, edge_bias, of_pair, of_flow, judged, bias, out, first, last, first_pair, hidden, wide,
    FEATURES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    FLOWS: tl.constexpr, UNITS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Write judged · elu(of_pair[pair] + relu(edge_weight attr + edge_bias) of_flow) + bias of flows first … last - 1.

    Args:
        pair, row: of each flow: its pair, counted from first_pair in `of_pair`, and where its logit goes, (E,).
        attr: (E, FEATURES). edge_weight: (hidden, FEATURES). edge_bias: (hidden,).
        of_pair: (p, wide). of_flow: (hidden, wide), in the type that products are made in.
        judged: (wide,). bias: (1,). out: (E,).
        PRECISION: of float32 products: ieee, or tf32x3, which is as exact and runs on tensor cores.
        WIDEN: multiply as float32 after rounding, which is the same; for the interpreter, which knows no bfloat16.
    """
    flow = first + tl.program_id(0).to(tl.int64) * FLOWS + tl.arange(0, FLOWS)
    mine = flow < last
    of = (tl.load(pair + flow, mask=mine, other=first_pair) - first_pair).to(tl.int32)  # so p · wide is below 2^31
    found = tl.zeros((FLOWS,), tl.float32)
    for start in range(0, wide, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        there = column < wide
        both = mine[:, None] & there[None, :]
        value = tl.load(of_pair + of[:, None] * wide + column[None, :], mask=both, other=0.0).to(tl.float32)
        for inner in range(0, hidden, UNITS):
            unit = inner + tl.arange(0, UNITS)
            known = unit < hidden
            own = tl.zeros((FLOWS, UNITS), tl.float32) + tl.load(edge_bias + unit, mask=known, other=0.0)[None, :]
            own = _with_features(own, attr, flow, mine, edge_weight, unit, known, FEATURES)
            each = known[:, None] & there[None, :]
            weight = tl.load(of_flow + unit[:, None] * wide + column[None, :], mask=each, other=0.0)
            own = tl.where(own < 0, 0.0, own).to(weight.dtype)  # what is not a number stays so
            if WIDEN:
                own, weight = own.to(tl.float32), weight.to(tl.float32)
            value = tl.dot(own, weight, value, input_precision=PRECISION)
        value = tl.where(value > 0, value, tl.exp(tl.minimum(value, 0.0)) - 1)
        found += tl.sum(value * tl.load(judged + column, mask=there, other=0.0)[None, :], axis=1)
    tl.store(out + tl.load(row + flow, mask=mine, other=0), found + tl.load(bias), mask=mine)
