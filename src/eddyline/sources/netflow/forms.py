"""What NetFlow v9 (RFC 3954) and IPFIX (RFC 7011) do differently: headers, set ids and template records. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

VARIABLE: Final = 0xFFFF  # as a field's length: each record says its own (RFC 7011 section 7)
MAX_FIELDS: Final = 512  # a template
MAX_FIELD_BYTES: Final = 1024
MAX_RECORD_BYTES: Final = 65_503  # what fits a datagram

_PAIR: Final = struct.Struct(">HH")
_NUMBER: Final = struct.Struct(">I")


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One of the two formats that describe their records by templates."""

    name: str
    version: int
    header: np.dtype[Any]
    sequence_at: int  # bytes before the sequence number, which the observation domain follows
    template_set: int  # id of sets of templates; sets of options templates have the next one
    ipfix: bool  # enterprise numbers, withdrawals, a message length; the sequence counts records, not datagrams


V9: Final = Form(
    "v9", 9,
    np.dtype([("version", ">u2"), ("count", ">u2"), ("uptime", ">u4"), ("secs", ">u4"), ("sequence", ">u4"),
              ("domain", ">u4")]),
    12, 0, False,
)  # fmt: skip
IPFIX: Final = Form(
    "IPFIX", 10,
    np.dtype([("version", ">u2"), ("length", ">u2"), ("secs", ">u4"), ("sequence", ">u4"), ("domain", ">u4")]),
    8, 2, True,
)  # fmt: skip


class Template(NamedTuple):
    """Field specifications as they stand on the wire; one without any withdraws its id (RFC 7011 section 8.1)."""

    spec: bytes
    scope: int | None  # how many of the fields are scope; None for a data template


def frame(form: Form, raw: bytes) -> list[tuple[int, int, int]]:
    """(set id, start, stop) of each set's content; empty unless the sets fill the datagram exactly."""
    sets, offset, size = [], form.header.itemsize, len(raw)
    if form.ipfix and int.from_bytes(raw[2:4], "big") != size:
        return []
    while offset + 4 <= size:
        set_id, length = _PAIR.unpack_from(raw, offset)
        if length < 4 or offset + length > size:
            return []
        sets.append((set_id, offset + 4, offset + length))
        offset += length
    return sets if offset <= size and not any(raw[offset:]) else []


def templates(form: Form, body: bytes, options: bool) -> Iterator[tuple[int, Template]]:
    """The templates of a set, each with its id; id 0 where the set breaks off."""
    offset = 0
    while len(body) - offset >= 4:
        template_id, count = _PAIR.unpack_from(body, offset)
        if template_id == count == 0 and not any(body[offset:]):
            return  # padding
        if form.ipfix and count == 0:
            yield template_id, Template(b"", 0 if options else None)
            offset += 4
            continue
        head, scope, stop = (_extent if form.ipfix else _extent_v9)(body, offset, options)
        if stop > len(body):
            yield 0, Template(b"", None)
            return
        yield template_id, Template(body[offset + head : stop], scope)
        offset = stop
    if any(body[offset:]):
        yield 0, Template(b"", None)


def _extent_v9(body: bytes, offset: int, options: bool) -> tuple[int, int | None, int]:
    """Bytes before the fields, how many are scope, and where the fields end; options templates count bytes."""
    count = int.from_bytes(body[offset + 2 : offset + 4], "big")
    if not options:
        return 4, None, offset + 4 + 4 * count
    fields = (count + int.from_bytes(body[offset + 4 : offset + 6], "big")) // 4
    return 6, count // 4, offset + 6 + 4 * fields


def _extent(body: bytes, offset: int, options: bool) -> tuple[int, int | None, int]:
    """The same for IPFIX, whose fields have 8 bytes where their highest bit announces an enterprise number."""
    count = int.from_bytes(body[offset + 2 : offset + 4], "big")
    scope = int.from_bytes(body[offset + 4 : offset + 6], "big") if options else None
    head = 6 if options else 4
    stop = offset + head
    for _ in range(count):
        if stop >= len(body):
            return head, scope, len(body) + 1
        stop += 8 if body[stop] & 0x80 else 4
    return head, scope, stop


def fields(form: Form, spec: bytes) -> Iterator[tuple[int, int]]:
    """(number, length) of each field of a template; number = enterprise << 16 | element, IANA is enterprise 0."""
    offset = 0
    while offset < len(spec):
        element, length = _PAIR.unpack_from(spec, offset)
        offset += 4
        if form.ipfix and element & 0x8000:
            element = element & 0x7FFF | _NUMBER.unpack_from(spec, offset)[0] << 16
            offset += 4
        yield element, length


def sane(form: Form, template: Template) -> bool:
    """Whether a template is within the limits: its fields, each field's bytes, and the bytes of its shortest record."""
    lengths = [length for _, length in fields(form, template.spec)]
    fixed = [length for length in lengths if length != VARIABLE]
    shortest = sum(fixed) + len(lengths) - len(fixed)
    return (
        0 < len(lengths) <= MAX_FIELDS
        and (template.scope or 0) <= len(lengths)
        and max(fixed, default=0) <= MAX_FIELD_BYTES
        and 0 < shortest <= MAX_RECORD_BYTES
    )
