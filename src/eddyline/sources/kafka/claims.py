"""How much memory an Arrow IPC stream claims once it is decompressed, from its messages' headers alone.

A few bytes of zstd can claim gigabytes. Bodies that are not compressed claim what they hold. The headers are
flatbuffers (`Message.fbs` of the Arrow format); every place read from them may be a lie, so reading may raise.
"""

from __future__ import annotations

import struct
from typing import Final

import pyarrow as pa

_DICTIONARY_BATCH: Final = 2  # of the union MessageHeader
_RECORD_BATCH: Final = 3
_MOST_BUFFERS: Final = 10_000


def claimed_bytes(value: bytes) -> int:
    """Bytes that the bodies of a stream claim; raises ValueError, struct.error or an Arrow error for what is none."""
    claimed = 0
    reader = pa.ipc.MessageReader.open_stream(pa.py_buffer(value))
    try:
        while True:
            message = reader.read_next_message()
            claimed += _of_message(bytes(message.metadata), message.body)
    except StopIteration:
        return claimed


def _of_message(header: bytes, body: pa.Buffer | None) -> int:
    if body is None:
        return 0
    root = struct.unpack_from("<I", header)[0]
    kind_at, inner_at = _place(header, root, 1), _place(header, root, 2)
    kind = header[kind_at] if kind_at else 0
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH) or not inner_at:
        return len(body)
    batch = _follow(header, inner_at)
    if kind == _DICTIONARY_BATCH:
        batch = _follow(header, _place(header, batch, 1))
    buffers_at, compression_at = _place(header, batch, 2), _place(header, batch, 3)
    if not buffers_at or not compression_at:
        return len(body)
    return _unpacked(header, _follow(header, buffers_at), memoryview(body))


def _unpacked(header: bytes, buffers: int, body: memoryview) -> int:
    """Every compressed buffer begins with its length unpacked, -1 where it is not compressed after all."""
    count = struct.unpack_from("<I", header, buffers)[0]
    if count > _MOST_BUFFERS:
        raise ValueError(f"{count} buffers in one message")
    claimed = 0
    for number in range(count):
        offset, length = struct.unpack_from("<qq", header, buffers + 4 + 16 * number)
        if length:
            (size,) = struct.unpack_from("<q", body, offset)
            if size < -1:  # would hide what another buffer claims
                raise ValueError(f"a buffer of {size} bytes")
            claimed += length if size == -1 else size
    return claimed


def _place(header: bytes, table: int, field: int) -> int:
    """Where a field of a flatbuffers table lies; 0 where it is absent."""
    entries = table - struct.unpack_from("<i", header, table)[0]
    slot = 4 + 2 * field
    if entries < 0 or slot >= struct.unpack_from("<H", header, entries)[0]:
        return 0
    found = struct.unpack_from("<H", header, entries + slot)[0]
    return table + found if found else 0


def _follow(header: bytes, place: int) -> int:
    return int(place + struct.unpack_from("<I", header, place)[0])
