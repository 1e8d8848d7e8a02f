"""Windows that speed is measured on, drawn from a seed: what repeats in them decides how fast any scorer can be.

Sizes and durations are log-normal, as real ones are; hosts at both ends follow Zipf(1.1), ranked differently.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.flows import flow_table
from eddyline.windows import Window

WORKLOADS: Final = {
    "published": "1,000 flows drawn again and again, as the published example measures",
    "natural": "about 40 flows per pair, few ports, every flow's sizes its own",
    "distinct": "5 flows per pair, every flow's sizes its own",
    "busy": "10,000 hosts that are all busy senders and busy receivers",
    "hub": "100,000 hosts, 300,000 pairs, and one host that sends to all of them and hears from all",
}
_LENGTH_US: Final = 60_000_000
_SERVICES: Final = np.array([53, 80, 123, 443, 443, 443, 445, 993, 3389, 5353, 8080, 22], np.uint16)
Ints = NDArray[np.int64]


def window(workload: str, flows: int, number: int = 0) -> Window:
    """Draw window `number` of a workload: the same hosts and pairs in each, other flows.

    Args:
        workload: a name from WORKLOADS.
        flows: E; at least 200,000 more than pairs for `hub`, which is meant for 1,000,000.
    """
    world, rng = np.random.default_rng(0), np.random.default_rng([1, number])
    if workload == "published":
        ends, columns = _flows(*_pairs(world, 500, 775), 1_000, world, world)
        drawn = rng.integers(0, 1_000, flows)
        return _window(ends[:, drawn], {name: column[drawn] for name, column in columns.items()}, 500, number)
    if workload == "busy":
        ends = np.stack([_zipf(rng, 10_000, flows), _zipf(rng, 10_000, flows)])
        return _window(ends, _columns(rng, flows, ends[1]), 10_000, number)
    if workload == "hub":
        every = np.arange(100_000)
        ends, _ = _flows(*_pairs(world, len(every), 300_000), flows - 2 * len(every), world, rng)
        ends = np.concatenate([ends, [np.zeros_like(every), every], [every, np.zeros_like(every)]], 1)
        return _window(ends, _columns(rng, flows, ends[1]), len(every), number)
    hosts, per_pair = max(30, flows // 50), {"natural": 40, "distinct": 5}[workload]
    ends, columns = _flows(*_pairs(world, hosts, flows // per_pair), flows, world, rng)
    return _window(ends, columns, hosts, number)


def distinct_rows(made: Window) -> int:
    """How many flows differ in their ends or in the three features of the published network."""
    columns = ["src_addr", "dst_addr", "bytes", "rev_bytes", "duration_us"]
    return int(made.flows.select(columns).combine_chunks().group_by(columns).aggregate([]).num_rows)


def _zipf(rng: np.random.Generator, hosts: int, size: int) -> Ints:
    share = np.cumsum(1 / np.arange(1, hosts + 1) ** 1.1)
    return np.searchsorted(share / share[-1], rng.random(size)).astype(np.int64)


def _pairs(rng: np.random.Generator, hosts: int, count: int) -> tuple[Ints, Ints]:
    other = rng.permutation(hosts)
    keys = np.empty(0, np.int64)
    while len(keys) < count:
        more = _zipf(rng, hosts, 2 * count) * hosts + other[_zipf(rng, hosts, 2 * count)]
        keys = np.unique(np.concatenate([keys, more]))
    keys = rng.permutation(keys)[:count]
    return keys // hosts, keys % hosts


def _flows(
    source: Ints, target: Ints, flows: int, world: np.random.Generator, rng: np.random.Generator
) -> tuple[Ints, dict[str, NDArray[Any]]]:
    """Every pair at least once, the rest anywhere among them; sizes belong to the pair, up to a factor."""
    pair = rng.permutation(np.concatenate([np.arange(len(source)), rng.integers(0, len(source), flows - len(source))]))
    scale = world.lognormal(0, 1.5, len(source))[pair]
    return np.stack([source[pair], target[pair]]), _columns(rng, flows, target[pair], scale)


def _columns(
    rng: np.random.Generator, flows: int, target: Ints, scale: NDArray[np.float64] | float = 1.0
) -> dict[str, NDArray[Any]]:
    size = scale * rng.lognormal(7.5, 1.2, flows)
    return {
        "bytes": size.astype(np.uint64) + 40,
        "rev_bytes": (size * rng.lognormal(0.5, 1.0, flows)).astype(np.uint64),
        "packets": (size / 700).astype(np.uint64) + 1,
        "rev_packets": (size / 500).astype(np.uint64),
        "duration_us": rng.lognormal(12.5, 2.5, flows).astype(np.int64),
        "proto": np.where(target % 12 == 0, 17, 6).astype(np.uint8),
        "src_port": rng.integers(1_024, 65_536, flows).astype(np.uint16),
        "dst_port": _SERVICES[target % len(_SERVICES)],
        "tcp_flags": np.full(flows, 27, np.uint16),
        "rev_tcp_flags": np.full(flows, 27, np.uint16),
    }


def _window(ends: Ints, columns: dict[str, NDArray[Any]], hosts: int, number: int) -> Window:
    start = number * _LENGTH_US
    names = pa.array([f"10.{host // 65536}.{host // 256 % 256}.{host % 256}" for host in range(hosts)])
    source, target = (pa.DictionaryArray.from_arrays(pa.array(end.astype(np.int32)), names) for end in ends)
    ended = start + np.linspace(0, _LENGTH_US - 1, ends.shape[1]).astype(np.int64)
    times = {"ts_end": pa.array(ended.astype("datetime64[us]")).cast(pa.timestamp("us", tz="UTC"))}
    table = flow_table({"src_addr": source, "dst_addr": target, **times, **columns}, ends.shape[1])
    return Window("default", start, start + _LENGTH_US, 0, False, table)
