"""The flows of a window that are alike, and exact counts of what every host and pair does in it.

A conversation is all flows of one pair, one service port, one protocol and one answer (replied to or not). There are
far fewer of them than flows, and everything but a flow's own sizes is the same for all of its flows, so the memory is
asked once per conversation. Counting is one pass of hashing over the flows, and smaller ones over what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from eddyline.habits.tables import Rows
from eddyline.hashing import Keys, Places, group, text_keys

# Ports of services that are told apart by number; every other port is known by its range only.
SERVICE_PORTS: Final = (
    20, 21, 22, 23, 25, 53, 67, 68, 69, 80, 88, 102, 110, 111, 123, 135, 137, 138, 139, 143,
    161, 162, 389, 443, 445, 465, 502, 514, 587, 636, 993, 995, 1433, 1883, 3128, 3306, 3389, 5060, 5432, 8080,
)  # fmt: skip
SERVICES: Final = len(SERVICE_PORTS) + 5  # and: no port, below 1024, below 32768, above, server speaks first
_NONE, _LOW, _MIDDLE, _HIGH, _SERVER = range(len(SERVICE_PORTS), SERVICES)
_SERVICE_OF: Final = np.full(65_536, -1, np.int8)  # small, so that it stays in the cache
_SERVICE_OF[list(SERVICE_PORTS)] = np.arange(len(SERVICE_PORTS))

HIGH_PORT: Final = 32_768  # ports from here on are drawn by clients and count as one
_NO_PORT, _SERVER_PORT = HIGH_PORT + 1, HIGH_PORT + 2  # port keys of what has none; servers' own ports follow
_AT_ONCE: Final = 512  # flows, so that what lies between two loops stays in the cache
OWN: Final = ("bytes", "rev_bytes", "packets", "rev_packets", "duration_us", "bytes/packet", "rev_bytes/packet")


@dataclass(frozen=True, slots=True)
class Conversations:
    """One window's groups and counts. C conversations, P pairs, V hosts, E flows.

    Args:
        of_flow: conversation of each flow, int64 (E,).
        host_keys: stable key of each host, uint64 (V,).
        pair, port, service, proto, unanswered: of each conversation, (C,); `pair` is a place in `pairs`, `port` a key.
        source, target: hosts of each pair, int64 (P,).
        flows: flows of each conversation, float64 (C,).
        sent, received: counts of each host as source and as target, float64 (V, 5): the first of COUNTS.
        spread: distinct targets of the conversation's source on its port, and sources of its target, float64 (C, 2).
        of_pair: flows and distinct ports of each pair, float64 (P, 2).
        sizes: own features of each flow, ln(1 + value), float32 (E, 7), NaN where unknown.
    """

    of_flow: Places
    host_keys: Keys
    pair: Places
    port: Places
    service: Places
    proto: Places
    unanswered: NDArray[np.bool_]
    source: Places
    target: Places
    flows: NDArray[np.float64]
    sent: NDArray[np.float64]
    received: NDArray[np.float64]
    spread: NDArray[np.float64]
    of_pair: NDArray[np.float64]
    sizes: Rows

    def __len__(self) -> int:
        return len(self.pair)


def conversations(pairs: Places, pair_of_flow: Places, named: dict[str, Rows], hosts: pa.Array) -> Conversations:
    """Group the flows of a window and count, once per window: O(E), and no sorting.

    Args:
        pairs: distinct (source, target), (2, P). pair_of_flow: (E,).
        named: columns of EDGE_FEATURES by name, float32 (E,), NaN where unknown.
        hosts: address text, (V,).
    """
    answers = named["rev_packets"]
    mirrored = _mirrored(pairs, len(hosts)) if np.isnan(answers).any() else np.zeros(pairs.shape[1], np.bool_)
    keys = np.empty(len(pair_of_flow), np.uint64)
    _keys(pair_of_flow, named["src_port"], named["dst_port"], named["proto"], answers, mirrored, _SERVICE_OF, keys)
    of_flow, first = group(keys)
    pair, port, service, proto, unanswered = _unpacked(keys[first], _SERVICE_OF)
    volume = np.nan_to_num(named["bytes"], nan=0.0)
    flows = np.bincount(of_flow, minlength=len(first)).astype(np.float64)
    carried = np.bincount(of_flow, volume, minlength=len(first)).astype(np.float64)
    sent, received, spread, of_pair = _counted(pair, port, unanswered, flows, carried, pairs[0], pairs[1], len(hosts))
    return Conversations(
        of_flow, text_keys(hosts), pair, port, service, proto, unanswered, pairs[0], pairs[1], flows, sent, received,
        spread, of_pair, _sizes(named),
    )  # fmt: skip


def _mirrored(pairs: Places, hosts: int) -> NDArray[np.bool_]:
    """Whether the reversed pair occurs too: how one-way records show that somebody answered."""
    source, target = pairs
    return np.isin(target * hosts + source, source * hosts + target)


@njit(cache=True)
def _keys(
    pair: Places, src_port: Rows, dst_port: Rows, proto: Rows, answers: Rows,
    mirrored: NDArray[np.bool_], service_of: NDArray[np.int8], keys: Keys,
) -> None:  # fmt: skip
    """Pack pair, port key, protocol class and answer of each flow into one key."""
    for flow in range(len(pair)):
        port = _port_key(src_port[flow], dst_port[flow], proto[flow], service_of)
        kind = _proto_class(proto[flow])
        silent = not mirrored[pair[flow]] if np.isnan(answers[flow]) else answers[flow] == 0
        keys[flow] = (
            np.uint64(pair[flow]) << np.uint64(24)
            | np.uint64(port) << np.uint64(4)
            | np.uint64(kind) << np.uint64(1)
            | np.uint64(silent)
        )


@njit(cache=True)
def _port_key(src_port: float, dst_port: float, proto: float, service_of: NDArray[np.int8]) -> int:
    if proto == 1 or proto == 58 or np.isnan(dst_port):
        return _NO_PORT
    if not np.isnan(src_port):
        first, second = int(src_port), int(dst_port)
        if service_of[first] >= 0 and second >= 1024 and service_of[second] < 0:
            return _SERVER_PORT + first
    return min(int(dst_port), HIGH_PORT)


@njit(cache=True)
def _proto_class(proto: float) -> int:
    if proto == 6:
        return 0
    if proto == 17:
        return 1
    return 2 if proto == 1 or proto == 58 else 3


@njit(cache=True)
def _unpacked(keys: Keys, service_of: NDArray[np.int8]) -> tuple[Places, Places, Places, Places, NDArray[np.bool_]]:
    pair, port, service, proto = (
        np.empty(len(keys), np.int64), np.empty(len(keys), np.int64),
        np.empty(len(keys), np.int64), np.empty(len(keys), np.int64),
    )  # fmt: skip
    silent = np.empty(len(keys), np.bool_)
    for place in range(len(keys)):
        key = keys[place]
        pair[place] = key >> np.uint64(24)
        port[place] = (key >> np.uint64(4)) & np.uint64((1 << 20) - 1)
        proto[place] = (key >> np.uint64(1)) & np.uint64(7)
        silent[place] = key & np.uint64(1)
        service[place] = _service(port[place], service_of)
    return pair, port, service, proto, silent


@njit(cache=True)
def _service(port: int, service_of: NDArray[np.int8]) -> int:
    if port >= _SERVER_PORT:
        return _SERVER
    if port == _NO_PORT:
        return _NONE
    if port == HIGH_PORT:
        return _HIGH
    known = int(service_of[port])
    if known >= 0:
        return known
    return _LOW if port < 1024 else _MIDDLE


@njit(cache=True)
def _counted(
    pair: Places, port: Places, silent: NDArray[np.bool_], flows: NDArray[np.float64], carried: NDArray[np.float64],
    source: Places, target: Places, hosts: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:  # fmt: skip
    """Counts of hosts, spreads of conversations and counts of pairs; see `Conversations`."""
    sent, received = np.zeros((hosts, 5)), np.zeros((hosts, 5))
    of_pair = np.zeros((len(source), 2))
    for place in range(len(pair)):
        here, there = source[pair[place]], target[pair[place]]
        sent[here, 0] += flows[place]
        sent[here, 3] += flows[place] * silent[place]
        sent[here, 4] += carried[place]
        received[there, 0] += flows[place]
        received[there, 3] += flows[place] * silent[place]
        received[there, 4] += carried[place]
        of_pair[pair[place], 0] += flows[place]
    for place in range(len(source)):
        sent[source[place], 1] += 1
        received[target[place], 1] += 1
    wide = port.astype(np.uint64)
    _, first = group(pair.astype(np.uint64) << np.uint64(20) | wide)
    for place in first:
        of_pair[pair[place], 1] += 1
    spread = np.zeros((len(pair), 2))
    _spread(source[pair], wide, first, sent, spread[:, 0])
    _spread(target[pair], wide, first, received, spread[:, 1])
    return sent, received, spread, of_pair


@njit(cache=True)
def _spread(end: Places, port: Keys, first: Places, counts: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
    of_port, opens = group(end.astype(np.uint64) << np.uint64(20) | port)
    seen = np.zeros(len(opens))
    for place in first:
        seen[of_port[place]] += 1
    for place in opens:
        counts[end[place], 2] += 1
    for place in range(len(end)):
        spread[place] = seen[of_port[place]]


def _sizes(named: dict[str, Rows]) -> Rows:
    found = np.empty((len(named["bytes"]), len(OWN)), np.float32)
    _one_more_logs(
        named["bytes"], named["rev_bytes"], named["packets"], named["rev_packets"], named["duration_us"], found
    )
    return found


@njit(cache=True, error_model="numpy")
def _one_more_logs(sent: Rows, back: Rows, packets: Rows, back_packets: Rows, duration_us: Rows, found: Rows) -> None:
    one, more = np.float32(1), np.empty((_AT_ONCE, len(OWN)), np.float32)
    for start in range(0, len(sent), _AT_ONCE):
        end = min(start + _AT_ONCE, len(sent))
        for flow in range(start, end):
            row = more[flow - start]
            row[0] = one + sent[flow]
            row[1] = one + back[flow]
            row[2] = one + packets[flow]
            row[3] = one + back_packets[flow]
            row[4] = one + duration_us[flow] / np.float32(1000)
            row[5] = one + sent[flow] / max(packets[flow], one)
            row[6] = one + back[flow] / max(back_packets[flow], one)
        _logs(more[: end - start].ravel(), found[start:end].ravel())


@njit(cache=True, error_model="numpy")
def _logs(values: Rows, found: Rows) -> None:
    """Natural logarithms of values from 1 up, NaN staying NaN.

    Compilers turn this into eight logarithms at a time, which the library's function does not become. With value =
    2^e m and 0.7 < m < 1.5, ln m = 2 artanh((m - 1) / (m + 1)); five terms of its series leave less than 2e-9.
    """
    for place in range(len(values)):
        bits = np.float32(values[place]).view(np.int32)
        exponent = (bits - np.int32(0x3F3504F3)) >> np.int32(23)  # counted from 1 / sqrt(2)
        mantissa = np.int32(bits - (exponent << np.int32(23))).view(np.float32)
        part = (mantissa - np.float32(1)) / (mantissa + np.float32(1))
        square = part * part
        series = np.float32(1 / 7) + square * np.float32(1 / 9)
        series = np.float32(1 / 3) + square * (np.float32(1 / 5) + square * series)
        log = np.float32(exponent) * np.float32(np.log(2)) + np.float32(2) * (part + part * square * series)
        found[place] = log if values[place] == values[place] else values[place]
