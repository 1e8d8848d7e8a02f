"""What must hold whatever bytes arrive, for the short run in the suite and the long one of `make fuzz`.

python -m tests.sources.netflow_hostile -max_total_time=60     needs atheris; more options: -help=1
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from eddyline.sources.netflow import templated
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.tcp import cut_messages
from tests.sources.netflow_bytes import address, data_set, ipfix, ipfix_template, template_set, v5, v5_record, v9

TEMPLATES, PENDING_BYTES = 8, 4096
EARLIEST_US, LATEST_US = -(1 << 31) * 1000, (1 << 32) * 1_000_000 + 1_000_001  # an uptime before 1970; the last export
ENDS = [(8, 4), (12, 4)]
GOOD = [
    v9(template_set(256, ENDS), data_set(256, address("10.0.0.1") + address("10.0.0.2"))),
    ipfix(ipfix_template(256, ENDS), data_set(256, address("10.0.0.3") + address("10.0.0.4"))),
    v5([v5_record("10.0.0.5", "10.0.0.6", 1, 2, 6, 1, 40, 90_000, 95_000)]),
]


def check(batches: Sequence[Sequence[tuple[str, bytes]]]) -> None:
    """Decode batches of hostile datagrams: nothing raises, nothing is made up, no limit is passed, others are well."""
    decoder = Decoder(templates=TEMPLATES, pending_bytes=PENDING_BYTES)
    sent = [pair for batch in batches for pair in batch]
    seen = {raw for _, raw in sent}
    flows = 0
    for number, datagrams in enumerate([*batches, []]):
        batch = decoder.decode(list(datagrams), last=number == len(batches))
        flows += len(batch)
        held = decoder.held()
        assert held["templates"] <= 2 * TEMPLATES
        assert held["exporters"] <= 2 * TEMPLATES
        assert held["waiting_bytes"] <= 2 * PENDING_BYTES
        assert held["waiting"] <= 2 * templated.MAX_PENDING
        assert set(batch.rejected["raw"].to_pylist()) <= seen
        starts, ends = (batch.table[name].cast("int64").to_pylist() for name in ("ts_start", "ts_end"))
        assert all(EARLIEST_US * 2 <= start <= end <= LATEST_US for start, end in zip(starts, ends, strict=True))
    assert decoder.held()["waiting"] == 0
    assert flows <= sum(len(raw) for _, raw in sent)
    after = decoder.decode([("203.0.113.99", raw) for raw in GOOD])
    assert after.table["src_addr"].to_pylist() == ["10.0.0.1", "10.0.0.3", "10.0.0.5"]
    stream = b"".join(raw for _, raw in sent)
    found, rest, _ = cut_messages(stream)
    assert b"".join(found) + rest == stream


def framed(raw: bytes) -> bytes:
    """The same bytes with a length that fits, where they begin like IPFIX: else hardly any would be read further."""
    return raw[:2] + struct.pack(">H", len(raw) & 0xFFFF) + raw[4:] if raw[:2] == b"\0\x0a" and len(raw) >= 4 else raw


def split(data: bytes) -> list[list[tuple[str, bytes]]]:
    """Fuzz input as batches: each datagram has a byte (new batch? which of 16 exporters? framed?) and two of length."""
    batches: list[list[tuple[str, bytes]]] = [[]]
    offset = 0
    while offset + 3 <= len(data):
        how, length = data[offset], int.from_bytes(data[offset + 1 : offset + 3], "big") % 2048
        raw = data[offset + 3 : offset + 3 + length]
        offset += 3 + length
        if how & 0x80:
            batches.append([])
        batches[-1].append((f"198.51.100.{how & 15}", framed(raw) if how & 0x40 else raw))
    return batches


def seeds() -> list[bytes]:
    """Input that decodes, so that the fuzzer begins with templates that work."""
    return [b"".join(bytes([0x40]) + struct.pack(">H", len(raw)) + raw for raw in GOOD)]
