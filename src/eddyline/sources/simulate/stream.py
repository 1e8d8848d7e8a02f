"""Slots to one stream of flows by the time they end, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.flows import TIME, constant, flow_table
from eddyline.sources.simulate.attacks import attack
from eddyline.sources.simulate.benign import SLOT_US, Benign
from eddyline.sources.simulate.campaigns import KINDS, Schedule
from eddyline.sources.simulate.draws import generator
from eddyline.sources.simulate.grow import Columns, grow, joined, starts_of, taken
from eddyline.sources.simulate.network import Network
from eddyline.sources.simulate.shapes import ICMP

REACH: Final = 30  # slots; no flow ends later than so long after the beginning of the slot that began it
_COPIED: Final = ("src_port", "dst_port", "proto", "tos", "end_reason")
_COUNTERS: Final = ("bytes", "packets", "rev_bytes", "rev_packets")
_LABELS: Final = ("benign", "malicious", "background")


class Stream:
    """Flows of a network in order of their ends, from `start_us` on; what goes on then is there already.

    Keeps the flows that have begun and not ended, and nothing else: memory does not grow with time.

    Args:
        network: who.
        traffic: seed of the traffic.
        start_us: no flow that ends earlier comes out; microseconds since 1970, UTC.
        campaigns: attacks, or None.
    """

    def __init__(self, network: Network, traffic: int, start_us: int, campaigns: Schedule | None = None) -> None:
        self._network, self._traffic, self._campaigns = network, traffic, campaigns
        self._benign = Benign(network, traffic)
        self._from_us = start_us
        self._next = max(0, start_us // SLOT_US - REACH)
        nothing = np.zeros(0, np.int64)
        self._open: Columns = grow(generator(0), starts_of(nothing, 0, 0, 0))

    def until(self, end_us: int) -> Columns:
        """Flows with `ts_end` before `end_us` that have not come out yet, by `ts_end`; a time never goes back.

        Ties keep the order of slots, and within a slot the order in which flows were made.
        """
        parts = [self._open]
        while self._next * SLOT_US < end_us:
            parts += self._slot(self._next)
            self._next += 1
        flows = joined(parts)
        ended = flows["ts_end"] < end_us
        self._open = taken(flows, ~ended)
        rows = np.flatnonzero(ended & (flows["ts_end"] >= self._from_us))
        return taken(flows, rows[np.argsort(flows["ts_end"][rows], kind="stable")])

    def _slot(self, number: int) -> list[Columns]:
        parts = [self._benign.slot(number)]
        if self._campaigns is not None:
            for campaign in self._campaigns.between(number * SLOT_US, (number + 1) * SLOT_US):
                parts.append(attack(self._network, self._traffic, campaign, number))
        return parts


def flows(
    network: Network, start_us: int, end_us: int, traffic: int | None = None, campaigns: Schedule | None = None
) -> pa.Table:
    """All flows that end in [start_us, end_us), by `ts_end`, as BATCH_SCHEMA; the same for any cut of time.

    Args:
        traffic: seed of the traffic and of the campaigns; None = the network's.
        campaigns: attacks; None = none, so that this is training data.
    """
    seed = network.seed if traffic is None else traffic
    return to_table(network, Stream(network, seed, start_us, campaigns).until(end_us))


def to_table(network: Network, columns: Columns) -> pa.Table:
    """Columns as BATCH_SCHEMA; sources and destinations share one dictionary of the addresses that occur."""
    rows = len(columns["ts_start"])
    texts = network.hosts.plan.texts
    seen = np.zeros(len(texts), bool)
    seen[columns["src"]] = True
    seen[columns["dst"]] = True
    codes = np.cumsum(seen, dtype=np.int32) - np.int32(1)
    dictionary = texts.take(pa.array(np.flatnonzero(seen)))
    made: dict[str, Any] = {name: columns[name] for name in _COPIED}
    made |= {name: columns[name].astype(np.uint64) for name in _COUNTERS}
    for name, column in (("src_addr", "src"), ("dst_addr", "dst")):
        made[name] = pa.DictionaryArray.from_arrays(pa.array(codes[columns[column]]), dictionary)
    for name in ("ts_start", "ts_end"):
        made[name] = pa.array(columns[name]).view(TIME)
    made["duration_us"] = columns["ts_end"] - columns["ts_start"]
    icmp = columns["proto"] == ICMP
    made["tcp_flags"] = pa.array(columns["flags"], mask=columns["proto"] != 6)
    made["rev_tcp_flags"] = pa.array(columns["rev_flags"], mask=columns["proto"] != 6)
    made["icmp_type"] = pa.array(np.full(rows, 8, np.uint8), mask=~icmp)  # echo
    made["icmp_code"] = pa.array(np.zeros(rows, np.uint8), mask=~icmp)
    made["sampling_rate"] = np.ones(rows, np.uint32)
    made["exporter"] = constant(network.hosts.plan.router, rows)
    return flow_table(made | _truth(columns["kind"]), rows)


def _truth(kind: NDArray[np.int8]) -> Columns | dict[str, Any]:
    label = np.where(kind > 0, 1, np.where(kind < 0, 2, 0)).astype(np.int32)
    attacks = pa.array(kind.astype(np.int32) - 1, mask=kind <= 0)
    return {
        "label": pa.DictionaryArray.from_arrays(pa.array(label), _texts(_LABELS)),
        "attack": pa.DictionaryArray.from_arrays(attacks, _texts(KINDS)),
    }


def _texts(names: Sequence[str]) -> pa.Array:
    return pa.array(names, pa.utf8())
