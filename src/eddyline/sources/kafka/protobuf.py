"""goflow2's protobuf messages to columns, compiled: its own field numbers (`pb/flow.proto`), proto3 wire format.

A message may carry its length before it, as goflow2 writes to Kafka, or not. What the schema does not say is skipped by
its wire type; of a field that comes twice the last counts; a field that is absent is 0. Columns have goflow2's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

_NUMBERS: Final = {
    "sampling_rate": 3, "bytes": 9, "packets": 10, "proto": 20, "src_port": 21, "dst_port": 22, "ip_tos": 23,
    "tcp_flags": 26, "etype": 30, "icmp_type": 31, "icmp_code": 32, "observation_domain_id": 70,
    "time_received_ns": 110, "time_flow_start_ns": 111, "time_flow_end_ns": 112,
}  # fmt: skip
_ADDRESSES: Final = {"src_addr": 6, "dst_addr": 7, "sampler_address": 11}
_FIELDS: Final = 128  # field numbers looked at; higher ones are skipped
_VARINT_BYTES: Final = 10
_SLOTS: Final = np.full(_FIELDS, -1, np.int64)
_SLOTS[[*_NUMBERS.values(), *_ADDRESSES.values()]] = np.arange(len(_NUMBERS) + len(_ADDRESSES))


def protobuf_columns(values: Sequence[bytes]) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Read one message from each of E values.

    Returns:
        The messages that could be read, in order, one row each, and (E,) which those are.
    """
    data = np.frombuffer(b"".join(values), np.uint8)
    bounds = np.concatenate(([0], np.cumsum([len(value) for value in values], dtype=np.int64)))
    numbers = np.zeros((len(values), len(_NUMBERS)), np.uint64)
    spans = np.zeros((len(values), len(_ADDRESSES), 2), np.int64)
    good = np.zeros(len(values), np.bool_)
    _scan(data, bounds, _SLOTS, numbers, spans, good)
    columns: dict[str, pa.Array] = {name: pa.array(numbers[good, at]) for at, name in enumerate(_NUMBERS)}
    for at, name in enumerate(_ADDRESSES):
        columns[name] = _addresses(data, spans[good, at])
    return pa.table(columns), good


def _addresses(data: NDArray[np.uint8], spans: NDArray[np.int64]) -> pa.DictionaryArray:
    """Text of the addresses at `spans` (E, 2), start and length; null where it is neither IPv4 nor IPv6."""
    rows = np.zeros((len(spans), 17), np.uint8)  # 16 bytes, and how many of them count
    fits = (spans[:, 1] == 4) | (spans[:, 1] == 16)
    for length in (4, 16):
        mine = np.flatnonzero(spans[:, 1] == length)
        rows[mine, :length] = data[spans[mine, :1] + np.arange(length)]
        rows[mine, 16] = length
    distinct, codes = np.unique(rows.view("V17").ravel(), return_inverse=True)
    texts = [str(ip_address(raw[: raw[16]])) if raw[16] else "" for raw in map(bytes, distinct.tolist())]
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=~fits), pa.array(texts, pa.utf8()))


@njit(cache=True)
def _varint(data: NDArray[np.uint8], at: int, end: int) -> tuple[np.uint64, int]:
    """The number at `at` and the place after it, -1 where it is cut off or longer than a number can be."""
    value = np.uint64(0)
    for place in range(_VARINT_BYTES):
        if at + place >= end:
            return value, -1
        byte = np.uint64(data[at + place])
        value |= (byte & np.uint64(127)) << np.uint64(7 * place)
        if byte < np.uint64(128):
            return value, at + place + 1
    return value, -1


@njit(cache=True)
def _field(
    data: NDArray[np.uint8], at: int, end: int, tag: np.uint64, slots: NDArray[np.int64], numbers: NDArray[np.uint64],
    spans: NDArray[np.int64],
) -> int:  # fmt: skip
    """Keep the field whose tag ends at `at` if it is wanted; the place after it, -1 where it is cut off."""
    field, kind = tag >> np.uint64(3), tag & np.uint64(7)
    slot = slots[field] if field < np.uint64(len(slots)) else -1
    if kind == np.uint64(0):
        value, at = _varint(data, at, end)
        if 0 <= slot < len(numbers):
            numbers[slot] = value
        return at
    if kind == np.uint64(2):
        size, at = _varint(data, at, end)
        if at < 0 or size > np.uint64(end - at):
            return -1
        if slot >= len(numbers):
            spans[slot - len(numbers), 0], spans[slot - len(numbers), 1] = at, np.int64(size)
        return int(at + np.int64(size))
    fixed = 8 if kind == np.uint64(1) else 4 if kind == np.uint64(5) else end + 1
    return int(at + fixed) if fixed <= end - at else -1


@njit(cache=True)
def _is_message(
    data: NDArray[np.uint8], at: int, end: int, slots: NDArray[np.int64], numbers: NDArray[np.uint64],
    spans: NDArray[np.int64],
) -> bool:  # fmt: skip
    if at >= end:
        return False
    numbers[:], spans[:] = 0, 0
    while at < end:
        tag, at = _varint(data, at, end)
        if at < 0 or tag < np.uint64(8):  # there is no field 0
            return False
        at = _field(data, at, end, tag, slots, numbers, spans)
        if at < 0:
            return False
    return True


@njit(cache=True)
def _is_value(
    data: NDArray[np.uint8], at: int, end: int, slots: NDArray[np.int64], numbers: NDArray[np.uint64],
    spans: NDArray[np.int64],
) -> bool:  # fmt: skip
    """A message after its own length, or else, since a tag can look like that length, a message alone."""
    length, after = _varint(data, at, end)
    if after >= 0 and length == np.uint64(end - after) and _is_message(data, after, end, slots, numbers, spans):
        return True
    return _is_message(data, at, end, slots, numbers, spans)


@njit(cache=True)
def _scan(
    data: NDArray[np.uint8], bounds: NDArray[np.int64], slots: NDArray[np.int64], numbers: NDArray[np.uint64],
    spans: NDArray[np.int64], good: NDArray[np.bool_],
) -> None:  # fmt: skip
    for row in range(len(good)):
        good[row] = _is_value(data, bounds[row], bounds[row + 1], slots, numbers[row], spans[row])
