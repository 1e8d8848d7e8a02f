"""From who talks to whom, when and about what, to whole flow records: sizes, packets, flags, ports, durations.

Pure and vectorised; the hard part is that the columns of a flow agree with one another: bytes with packets, packets
with flags, a missing reply with its retries, and a long flow with the router's active timeout, which cuts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.draws import bell, hashed
from eddyline.sources.simulate.shapes import ICMP, STACK, TCP

Columns = dict[str, NDArray[Any]]  # every array (E,); keys are those of `grow`

ACTIVE_US: Final = 300_000_000  # the router reports a flow that goes on at least this often
LONGEST_S: Final = 1300.0
_LARGEST: Final = 2e10  # payload bytes one way
BY_SHAPE, SILENT, REFUSED, HALF_OPEN, ANSWERED = -1, 0, 1, 2, 3  # what comes back
_HABIT: Final = 0.7  # share of a size's sigma that belongs to the pair for ever; the rest is drawn for each flow
_EPHEMERAL: Final = (32768, 60999)
_FIN, _SYN, _RST, _PSH, _ACK = 1, 2, 4, 8, 16
_WHOLE: Final = _FIN | _SYN | _PSH | _ACK
_RETRY_S: Final = np.array([0.0, 1.0, 3.0])  # when the second and third SYN leave


@dataclass(frozen=True, slots=True)
class Starts:
    """Flows about to begin, (E,) each.

    Args:
        time_us: microseconds since 1970, UTC.
        src, dst: address codes.
        shape: rows of `STACK`.
        six: the codes are IPv6 addresses.
        port: destination port; -1 = the shape's.
        reply: BY_SHAPE, SILENT, REFUSED, HALF_OPEN or ANSWERED.
        kind: 0 benign, -1 background, else 1 + the campaign kind's number.
    """

    time_us: NDArray[np.int64]
    src: NDArray[Any]
    dst: NDArray[Any]
    shape: NDArray[Any]
    six: NDArray[np.bool_]
    port: NDArray[Any]
    reply: NDArray[Any]
    kind: NDArray[Any]

    def __len__(self) -> int:
        return len(self.time_us)


def starts_of(time_us: NDArray[np.int64], src: Any, dst: Any, shape: Any, **rest: Any) -> Starts:
    """Complete to `Starts`: scalars are repeated, what is not given is IPv4, by shape and benign."""
    given = {"src": src, "dst": dst, "shape": shape, "six": False, "port": -1, "reply": BY_SHAPE, "kind": 0} | rest
    for name, value in given.items():
        if np.shape(value) != time_us.shape:
            given[name] = np.broadcast_to(value, time_us.shape)
    return Starts(time_us, **given)


def joined(parts: Sequence[Columns]) -> Columns:
    """The rows of all parts, in their order; at least one part."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def taken(columns: Columns, rows: NDArray[Any]) -> Columns:
    """Some rows, by index or mask."""
    return {name: column[rows] for name, column in columns.items()}


def grow(rng: np.random.Generator, starts: Starts, until_us: int | None = None) -> Columns:
    """Flow records of `starts`, in their order; a flow longer than the active timeout becomes several.

    Args:
        until_us: no flow ends later; what would is cut off there.

    Returns:
        ts_start, ts_end (int64, us), src, dst (int32 codes), ports, proto, flags, rev_flags, bytes, packets, rev_bytes,
        rev_packets (int64), tos, end_reason, kind (int8).
    """
    rows = len(starts)
    stack = {name: STACK[name][starts.shape] for name in _USED}
    normal = rng.standard_normal((4, rows), np.float32)
    chance = rng.random((5, rows), np.float32)
    out, back = _payloads(starts, stack, normal, chance[0])
    reply = _replies(starts, stack, chance[1])
    seconds = stack["seconds"] * np.exp(stack["seconds_sigma"] * normal[2])
    seconds += np.maximum(out, back) / (stack["rate"] * np.exp(0.4 * normal[3]))
    columns = _counters(out, back, reply, stack, starts.six)
    _without_answer(columns, seconds, reply, stack, starts.six, chance[2])
    seconds[(columns["packets"] <= 1) & (columns["rev_packets"] == 0)] = 0.0
    columns |= _ports(starts, stack, chance[3], chance[4])
    columns |= _ends(starts, seconds, until_us)
    columns |= {"tos": stack["tos"].astype(np.uint8), "kind": starts.kind.astype(np.int8)}
    return _cut(columns, stack["standing"])


_USED: Final = tuple(name for name in STACK if name != "ports")


def _payloads(
    starts: Starts, stack: Columns, normal: NDArray[np.float32], chance: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Payload bytes both ways: partly the pair's habit, partly this flow's, with a Pareto tail."""
    pair = hashed(0, starts.src, starts.dst, starts.shape)
    own = np.sqrt(1 - _HABIT**2)
    out = stack["out"] * np.exp(stack["out_sigma"] * (_HABIT * bell(pair) + own * normal[0]))
    back = stack["back"] * np.exp(stack["back_sigma"] * (_HABIT * bell(pair, 1) + own * normal[1]))
    mirrored = stack["mirror"]
    back[mirrored] = out[mirrored]
    rows = np.flatnonzero(chance < stack["tail"])
    rest = np.maximum(chance[rows] / np.maximum(stack["tail"][rows], 1e-9), 1e-4)  # uniform again, below the tail
    factor = rest**-0.8
    larger = out[rows] > back[rows]
    out[rows] *= np.where(larger, factor, 1.0)
    back[rows] *= np.where(larger, 1.0, factor)
    return np.floor(np.minimum(out, _LARGEST)), np.floor(np.minimum(back, _LARGEST))


def _replies(starts: Starts, stack: Columns, chance: NDArray[np.float32]) -> NDArray[np.int8]:
    by_shape = np.full(len(starts), ANSWERED, np.int8)
    by_shape[chance >= 1 - stack["refused"]] = REFUSED
    by_shape[(chance < stack["silent"]) | ((by_shape == REFUSED) & (stack["proto"] != TCP))] = SILENT
    return np.where(starts.reply == BY_SHAPE, by_shape, starts.reply).astype(np.int8)


def _counters(
    out: NDArray[np.float64], back: NDArray[np.float64], reply: NDArray[np.int8], stack: Columns, six: NDArray[np.bool_]
) -> Columns:
    """Bytes, packets and flags of answered flows; a TCP connection adds its handshake, its end and half the acks."""
    tcp = stack["proto"] == TCP
    ends = tcp & ~stack["standing"]
    sent, received = np.ceil(out / stack["segment"]), np.ceil(back / stack["segment"])
    packets = np.maximum(sent + tcp * np.ceil(received / 2) + 4 * ends, 1)
    rev_packets = (received + tcp * np.ceil(sent / 2) + 3 * ends) * (reply == ANSWERED)
    header = np.where(tcp, 40, 28) + 20 * six
    whole = np.where(stack["standing"], _PSH | _ACK, _WHOLE) * tcp
    return {
        "bytes": (out + packets * header).astype(np.int64),
        "packets": packets.astype(np.int64),
        "rev_bytes": (back * (reply == ANSWERED) + rev_packets * header).astype(np.int64),
        "rev_packets": rev_packets.astype(np.int64),
        "flags": whole.astype(np.uint16),
        "rev_flags": (whole * (reply == ANSWERED)).astype(np.uint16),
        "proto": stack["proto"].astype(np.uint8),
    }


def _without_answer(
    columns: Columns, seconds: NDArray[Any], reply: NDArray[np.int8], stack: Columns, six: NDArray[np.bool_],
    chance: NDArray[np.float32],
) -> None:  # fmt: skip
    """Overwrite TCP flows that never became a connection, and hurry those that nobody answered."""
    seconds[(reply == SILENT) & (stack["proto"] != TCP)] = 0.0
    rows = np.flatnonzero((reply != ANSWERED) & (stack["proto"] == TCP))
    if not len(rows):
        return
    answer, size = reply[rows], stack["syn"][rows] + 20 * six[rows]
    tries = np.where((answer == SILENT) & (stack["syn"][rows] > 44), (chance[rows] * 3).astype(np.int64), 0)
    refused = answer == REFUSED
    half = answer == HALF_OPEN  # SYN, SYN and ACK, and the reset of one who wanted to know only that
    columns["packets"][rows] = 1 + tries + half
    columns["bytes"][rows] = size * (1 + tries) + 40 * half
    columns["rev_packets"][rows] = answer != SILENT
    columns["rev_bytes"][rows] = np.where(half, 44, 40 * refused) + 20 * six[rows] * (half | refused)
    columns["flags"][rows] = np.where(half, _SYN | _RST, _SYN)
    columns["rev_flags"][rows] = np.where(half, _SYN | _ACK, (_RST | _ACK) * refused)
    seconds[rows] = np.where(answer == SILENT, _RETRY_S[tries], 0.0004)


def _ports(starts: Starts, stack: Columns, chance: NDArray[np.float32], other: NDArray[np.float32]) -> Columns:
    listed = STACK["ports"][stack["port_at"] + (other * stack["port_n"]).astype(np.int64)]
    low, high = _EPHEMERAL
    own = np.where(stack["src_port"] < 0, low + (chance * (high - low + 1)).astype(np.int64), stack["src_port"])
    return {
        "src_port": np.where(stack["proto"] == ICMP, 0, own).astype(np.uint16),
        "dst_port": np.where(starts.port < 0, listed, starts.port).astype(np.uint16),
        "src": starts.src.astype(np.int32),
        "dst": starts.dst.astype(np.int32),
    }


def _ends(starts: Starts, seconds: NDArray[Any], until_us: int | None) -> Columns:
    lasting = (np.minimum(seconds, LONGEST_S) * 1e6).astype(np.int64)
    ends = starts.time_us + lasting
    return {"ts_start": starts.time_us, "ts_end": ends if until_us is None else np.minimum(ends, until_us)}


def _cut(columns: Columns, standing: NDArray[np.bool_]) -> Columns:
    """Split flows at the active timeout, counters in nearly equal shares that add up exactly."""
    lasting = columns["ts_end"] - columns["ts_start"]
    pieces = 1 + lasting // ACTIVE_US
    last_reason = np.where(standing, 2, np.where(columns["proto"] == TCP, 3, 1)).astype(np.uint8)
    if (pieces == 1).all():
        return columns | {"end_reason": last_reason}
    pieces = np.minimum(pieces, np.maximum(columns["packets"], 1))  # every piece has a packet
    whole = taken(columns, np.repeat(np.arange(len(pieces)), pieces))
    count = np.repeat(pieces, pieces)
    place = np.arange(len(count)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    last, first = place == count - 1, place == 0
    for prefix in ("", "rev_"):
        _share(whole, prefix, count, place)
    lasting, begun = np.repeat(lasting, pieces), whole["ts_start"]
    whole["ts_start"] = begun + lasting * place // count + ~first
    whole["ts_end"] = np.where(last, begun + lasting, begun + lasting * (place + 1) // count)
    unseen = np.where(first, 0, _SYN) | np.where(last, 0, _FIN | _RST)
    for name, sent in (("flags", "packets"), ("rev_flags", "rev_packets")):
        whole[name] = np.where(whole[sent] > 0, whole[name] & ~unseen, 0).astype(np.uint16)
    return whole | {"end_reason": np.where(last, np.repeat(last_reason, pieces), 2).astype(np.uint8)}


def _share(whole: Columns, prefix: str, count: NDArray[np.int64], place: NDArray[np.int64]) -> None:
    """Packets as evenly as whole ones go, bytes in proportion to them."""
    packets, octets = whole[f"{prefix}packets"], whole[f"{prefix}bytes"]
    before, after = packets * place // count, packets * (place + 1) // count
    whole[f"{prefix}packets"] = after - before
    packets = np.maximum(packets, 1)
    whole[f"{prefix}bytes"] = octets * after // packets - octets * before // packets
