"""Records with variable-length fields (RFC 7011 section 7) cut down to fixed ones. The slow path: a step per record."""

from __future__ import annotations


def cut(segments: tuple[int, ...], body: bytes) -> tuple[bytes, int]:
    """The records of a set without their variable fields, joined, and how many there are; -1 where one breaks off.

    A variable field says its length in one byte below 255, or in 255 and two bytes more. Up to three bytes, or zeros
    that are no record, may follow the last record.

    Args:
        segments: bytes before each variable field of a record, then those after the last one: V + 1 numbers.
        body: content of the data set.
    """
    shortest = sum(segments) + len(segments) - 1
    pieces: list[bytes] = []
    offset = records = 0
    while len(body) - offset >= max(shortest, 1):
        stop = _record(segments, body, offset, pieces)
        if stop > len(body):
            padding = records and (len(body) - offset <= 3 or not any(body[offset:]))
            return b"".join(pieces[: records * len(segments)]), records if padding else -1
        offset, records = stop, records + 1
    rest = body[offset:]
    return b"".join(pieces), records if records and (len(rest) <= 3 or not any(rest)) else -1


def _record(segments: tuple[int, ...], body: bytes, offset: int, pieces: list[bytes]) -> int:
    """Append the fixed parts of the record at `offset`; where the next one begins, beyond the body if this is cut."""
    for segment in segments[:-1]:
        pieces.append(body[offset : offset + segment])
        offset += segment
        length = body[offset] if offset < len(body) else 0
        offset += 1
        if length == 255:
            length = int.from_bytes(body[offset : offset + 2], "big")
            offset += 2
        offset += length
    pieces.append(body[offset : offset + segments[-1]])
    return offset + segments[-1]
