"""What a host is before any learning: its address as numbers, and the addresses that it sends to, up to three hops.

The published features (`gnn-netflow-ad`, `compute_node_embeddings`), by repeated products with a sparse matrix instead
of its powers.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from eddyline.detectors.gae.sparse import csr

_IPV4: Final = r"^(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}$"
_OCTETS: Final = 4
_NOTHING: Final = 1e-9  # a hop shorter than this is rounding, not direction


def address_features(
    hosts: pa.Array, projection: Tensor | None, encoding: Literal["published", "address"] = "published"
) -> Tensor:
    """Turn address text into unit rows, (N, D) in the projection's type; all-zero rows stay zero.

    "published" reads text as dotted octets / 255 whatever it is: missing octets are 0, further ones are cut, what is
    not digits is 0, and 999 is 999/255; so every IPv6 address is 0.0.0.0. "address" reads IPv4 the same way, takes
    IPv6 as four 32-bit groups and any other text whole, each hashed (BLAKE2b) to [0, 1]: the same in every process.

    Args:
        hosts: utf8 (N,), no nulls.
        projection: (4, D), drawn once per model; None keeps the four numbers, which is what the published code does
            for D = 4.
        encoding: how text becomes four numbers.
    """
    dtype = torch.float32 if projection is None else projection.dtype
    device = None if projection is None else projection.device
    numbers = torch.from_numpy(_octets(hosts) if encoding == "published" else _numbers(hosts)).to(device, dtype)
    return _unit(numbers if projection is None else numbers @ projection)


def _octets(hosts: pa.Array) -> NDArray[np.float64]:
    """Four numbers per host, octet / 255; the published reading of any text."""
    parts = pc.split_pattern(hosts, ".")
    counts = pc.list_value_length(parts).to_numpy(zero_copy_only=False)
    text = pc.utf8_ltrim(pc.list_flatten(parts), characters="0")
    digits = pc.match_substring_regex(text, r"^\d{1,10}$")
    values = pc.if_else(digits, text, "0").cast(pa.int64()).to_numpy()
    host = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(values)) - np.repeat(counts.cumsum() - counts, counts)
    octets = np.zeros((len(counts), _OCTETS))
    octets[host[place < _OCTETS], place[place < _OCTETS]] = values[place < _OCTETS]
    return octets / 255.0


def _numbers(hosts: pa.Array) -> NDArray[np.float64]:
    numbers = _octets(hosts)
    other = np.flatnonzero(~pc.match_substring_regex(hosts, _IPV4).to_numpy(zero_copy_only=False))
    if len(other):
        numbers[other] = [_hashed(text) for text in hosts.take(pa.array(other)).to_pylist()]  # hosts, never flows
    return numbers


@lru_cache(maxsize=1 << 17)
def _hashed(text: str) -> tuple[float, ...]:
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except OSError:  # MAC addresses, names, interface zones
        return tuple(_fraction(bytes([place]) + text.encode()) for place in range(_OCTETS))
    return tuple(_fraction(packed[start : start + 4]) for start in range(0, 16, 4))


def _fraction(raw: bytes) -> float:
    return int.from_bytes(blake2b(raw, digest_size=6).digest(), "big") / (2**48 - 1)


def propagate(e0: Tensor, edge_index: Tensor, num_hosts: int, flows: Tensor | None = None, hops: int = 3) -> Tensor:
    """Add to each host's own row what it sends to at distance 1 … `hops`, each a unit row weighted 1 / (distance + 1).

    u(1) = P e(0), u(d + 1) = P (u(d) - e(d)), e(d) = unit(u(d)) / (d + 1), where row i of P averages over the flows
    that host i sends. Summed in float64. Where a hop cancels out it contributes nothing; the published code there
    blows rounding noise up to full length.

    Args:
        e0: unit rows (N, D). edge_index: int64 (2, E). num_hosts: N.
        flows: how many flows each column of `edge_index` stands for, (E,), when those are distinct pairs.

    Returns:
        Node features (N, D) in e0's type.
    """
    source, target = edge_index
    counts = torch.ones_like(source) if flows is None else flows
    sent = torch.zeros(num_hosts, dtype=torch.float64, device=e0.device).index_add(0, source, counts.double())
    order = torch.argsort(source)
    share = (counts / sent[source])[order]
    average = csr(torch.bincount(source, minlength=num_hosts), target[order], share, num_hosts)
    found = rest = _unit(e0.double())  # to float64's unit length, so that what cancels does
    for distance in range(1, hops + 1):
        reached = average @ rest
        hop = _unit(reached) / (distance + 1)
        found, rest = found + hop, reached - hop
    return found.to(e0.dtype)


def _unit(rows: Tensor) -> Tensor:
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > _NOTHING, rows / length, 0)
