"""The model's inner loops compiled, so that nothing as wide as a layer is written per flow only to be read once.

Used while nothing is differentiated, on the CPU, in float32; the same sums in torch are the model's own text, and a
test holds the two together. numba compiles each loop on first use and caches it. Loops let go of the interpreter's
lock and never start threads of their own: `spread` hands parts of a range to as many threads as torch may use.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from llvmlite.binding import get_host_cpu_features
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

Floats: TypeAlias = NDArray[np.float32]
Ints: TypeAlias = NDArray[np.int64]
Number: TypeAlias = Any  # a float32 inside compiled loops; type checkers know Python's float only
FEW: Final = 4  # features per flow that a loop takes in without a matrix product
_LEAK: Final = np.float32(0.2)
_SUMS: Final = {"reassoc", "contract", "nsz"}  # sums may be reordered; NaN and infinity stay what they are
_WORTH: Final = 1 << 18  # values in all, below which a second thread costs more than it brings


def usable(*tensors: Tensor) -> bool:
    """Whether the compiled loops may stand in for torch here."""
    return not torch.is_grad_enabled() and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in tensors
    )


def bfloat16_is_fast() -> bool:
    """Whether this machine multiplies matrices of bfloat16 by its own instructions; elsewhere they cost far more."""
    features = get_host_cpu_features()
    return bool(features.get("avx512bf16") or features.get("amx-bf16"))


def array(tensor: Tensor) -> NDArray[Any]:
    """The same memory as a C-contiguous array; copied where the tensor is not contiguous."""
    found: NDArray[Any] = tensor.detach().contiguous().numpy()
    return found


def rows_of(table: Tensor, index: Tensor, space: Tensor) -> Tensor:
    """table[index], written into the first rows of `space`: fresh memory would cost more than the copy."""
    return torch.index_select(table, 0, index, out=space[: len(index)])


def spread(work: Callable[[int, int], object], rows: int, values: int) -> None:
    """Run `work(start, stop)` over parts of range(rows), in as many threads as torch may use.

    Args:
        work: writes results of its own rows only, so that the number of parts changes nothing. torch runs it without
            gradients and, in these threads, on one core each.
        values: how many values the whole touches; small work stays in this thread.
    """
    cores = torch.get_num_threads()
    parts = min(cores, values // _WORTH, rows)
    if parts < 2:
        work(0, rows)
        return

    def here(first: int, last: int) -> None:
        with torch.inference_mode():
            work(first, last)

    bounds = [rows * part // parts for part in range(parts + 1)]
    waiting = [_threads(cores, os.getpid()).submit(here, *bounds[part : part + 2]) for part in range(parts)]
    for part in waiting:
        part.result()


@lru_cache(maxsize=1)
def _threads(cores: int, _process: int) -> ThreadPoolExecutor:  # a forked process has none of its parent's threads
    ready = Barrier(cores + 1)

    def one_core() -> None:
        torch.set_num_threads(1)  # of this thread; threads to come take it over as well, until the line below
        ready.wait()

    pool = ThreadPoolExecutor(cores, "gae", one_core)
    for _ in range(cores):
        pool.submit(int)
    ready.wait()
    torch.set_num_threads(cores)
    return pool


@njit(cache=True, nogil=True)
def by_group(group: Ints, groups: int) -> tuple[Ints, Ints]:
    """Order rows by their group, first come first: rows (E,), and where each group starts, (groups + 1,)."""
    starts = np.zeros(groups + 1, np.int64)
    for row in range(len(group)):
        starts[group[row] + 1] += 1
    for place in range(groups):
        starts[place + 1] += starts[place]
    free = starts[:-1].copy()
    order = np.empty(len(group), np.int64)
    for row in range(len(group)):
        order[free[group[row]]] = row
        free[group[row]] += 1
    return order, starts


@njit(nogil=True)
def _add_to(total: NDArray[np.float64], row: Floats) -> None:
    for feature in range(len(total)):
        total[feature] += row[feature]


@njit(cache=True, nogil=True)
def mean_of(attr: Floats) -> Floats:
    """Mean of the rows of (n, F), summed in float64; NaN where there are none."""
    total = np.zeros(attr.shape[1], np.float64)
    for row in range(len(attr)):
        _add_to(total, attr[row])
    return (total / np.float64(len(attr))).astype(np.float32)


@njit(cache=True, nogil=True)
def mean_received(starts: Ints, target: Ints, attr: Floats, place: Ints, hosts: int) -> Floats:
    """Mean features of the flows that each host receives, (N, F), zeros where none, summed in float64.

    Args:
        starts: first flow of each pair, (P + 1,). target: of each pair, (P,).
        attr: (n, F). place: row of it that belongs to each flow, (E,).
    """
    total = np.zeros((hosts, attr.shape[1]), np.float64)
    count = np.zeros(hosts, np.int64)
    for pair in range(len(target)):
        count[target[pair]] += starts[pair + 1] - starts[pair]
        for flow in range(starts[pair], starts[pair + 1]):
            _add_to(total[target[pair]], attr[place[flow]])
    found = np.empty(total.shape, np.float32)
    for host in range(hosts):
        for feature in range(attr.shape[1]):
            found[host, feature] = total[host, feature] / max(count[host], 1)
    return found


@njit(nogil=True, fastmath=_SUMS)
def _leaky_dot(of_pair: Floats, of_flow: Floats, att: Floats) -> Number:
    found = np.float32(0)
    for channel in range(len(att)):
        value = of_pair[channel] + of_flow[channel]
        found += att[channel] * max(value, _LEAK * value)
    return found


@njit(nogil=True, fastmath=_SUMS)
def _leaky_dot_of_few(of_pair: Floats, attr: Floats, flow: tuple[Floats, ...], att: Floats) -> Number:
    first, second, third, fourth = flow
    found = np.float32(0)
    for channel in range(len(att)):
        value = of_pair[channel] + attr[0] * first[channel] + attr[1] * second[channel]
        value += attr[2] * third[channel] + attr[3] * fourth[channel]
        found += att[channel] * max(value, _LEAK * value)
    return found


@njit(nogil=True, fastmath=_SUMS)
def _add(first: Floats, second: Floats, out: Floats) -> None:
    for channel in range(len(out)):
        out[channel] = first[channel] + second[channel]


@njit(cache=True, nogil=True)
def attention_logits(
    first: int, ends: Ints, starts: Ints, sent: Floats, met: Floats, rows: Floats, att: Floats, out: Floats
) -> None:
    """Write att · leaky_relu(sent[source] + met[target] + rows) per flow and head.

    Args:
        first: flow that rows[0] and out[0] belong to.
        ends: source and target of some pairs, (2, P). starts: first flow of each, (P + 1,), cut to the rows given.
        sent, met: (N, heads, H). rows: what the features add, (n, heads, H). att: (heads, H). out: (n, heads).
    """
    of_pair = np.empty(att.shape, np.float32)
    for pair in range(ends.shape[1]):
        for head in range(len(att)):
            _add(sent[ends[0, pair], head], met[ends[1, pair], head], of_pair[head])
        for flow in range(max(starts[pair] - first, 0), min(starts[pair + 1] - first, len(rows))):
            for head in range(len(att)):
                out[flow, head] = _leaky_dot(of_pair[head], rows[flow, head], att[head])


@njit(cache=True, nogil=True)
def attention_logits_of_few(
    ends: Ints,
    starts: Ints,
    sent: Floats,
    met: Floats,
    attr: Floats,
    place: Ints,
    flow: Floats,
    att: Floats,
    out: Floats,
) -> None:
    """The same from features, FEW of them (n, 4), the row of each flow among them, and their weights (4, heads, H)."""
    of_pair = np.empty(att.shape, np.float32)
    for pair in range(ends.shape[1]):
        for head in range(len(att)):
            _add(sent[ends[0, pair], head], met[ends[1, pair], head], of_pair[head])
        for row in range(starts[pair], starts[pair + 1]):
            for head in range(len(att)):
                weights = (flow[0, head], flow[1, head], flow[2, head], flow[3, head])
                out[row, head] = _leaky_dot_of_few(of_pair[head], attr[place[row]], weights, att[head])


@njit(nogil=True, fastmath=_SUMS, inline="always")
def _exp_below(value: Number) -> Number:
    """e^value for value <= 0, to 2e-7; 2^whole by its bits, 2^fraction by Taylor's polynomial."""
    scaled = max(value, np.float32(-87.0)) * np.float32(1.4426950408889634)
    whole = np.floor(scaled + np.float32(0.5))
    rest = scaled - whole
    found = np.float32(1.5403530e-4)
    found = found * rest + np.float32(1.3333558e-3)
    found = found * rest + np.float32(9.6181291e-3)
    found = found * rest + np.float32(5.5504109e-2)
    found = found * rest + np.float32(2.4022651e-1)
    found = found * rest + np.float32(6.9314718e-1)
    found = found * rest + np.float32(1.0)
    return found * np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)


@njit(nogil=True, fastmath=_SUMS)
def _add_scaled(weight: Number, row: Floats, out: Floats) -> None:
    for channel in range(len(out)):
        out[channel] += weight * row[channel]


@njit(cache=True, nogil=True)
def attend(  # noqa: C901  # four passes over a host's flows, side by side
    first: int, last: int, order: Ints, received: Ints, source: Ints, starts: Ints, logits: Floats, sent: Floats,
    out: Floats,
) -> None:  # fmt: skip
    """Add to out[host], for hosts first … last - 1, what it receives, weighted by the softmax of its flows' logits.

    Args:
        order, received: pairs by target, (P,), and where each host's begin, (N + 1,).
        source: of each pair, (P,). starts: first flow of each, (P + 1,). logits: (E, heads).
        sent, out: (N, heads, H).
    """
    heads = logits.shape[1]
    peak, total = np.empty(heads, np.float32), np.empty(heads, np.float64)
    for host in range(first, last):
        mine = order[received[host] : received[host + 1]]
        peak[:], total[:] = -np.inf, 0
        for pair in mine:
            for flow in range(starts[pair], starts[pair + 1]):
                for head in range(heads):
                    peak[head] = max(peak[head], logits[flow, head])
        share = np.zeros((len(mine), heads), np.float32)
        for place, pair in enumerate(mine):
            for flow in range(starts[pair], starts[pair + 1]):
                for head in range(heads):
                    share[place, head] += _exp_below(logits[flow, head] - peak[head])
            for head in range(heads):
                total[head] += share[place, head]
        for place, pair in enumerate(mine):
            for head in range(heads):
                _add_scaled(np.float32(share[place, head] / total[head]), sent[source[pair], head], out[host, head])


@njit(cache=True, nogil=True, fastmath=_SUMS)
def elu_dot(
    of_pair: Floats, place: Ints, rows: Floats, weight: Floats, constant: Number, to: Ints, out: Floats
) -> None:
    """Write constant + weight · (elu(of_pair[place] + rows) + 1) to out[to].

    Args:
        of_pair: (P, C). place: pair of each row, (n,). rows: (n, C) at least. weight: (C,). to: (n,).
    """
    nothing = np.float32(0)
    for row in range(len(place)):
        pair, found = place[row], nothing
        for channel in range(len(weight)):
            value = of_pair[pair, channel] + rows[row, channel]
            found += weight[channel] * (max(value, nothing) + _exp_below(min(value, nothing)))
        out[to[row]] = constant + found
