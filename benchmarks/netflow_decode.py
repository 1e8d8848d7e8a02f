"""Flows per second and core of the NetFlow decoders: datagrams in memory to NumPy columns, and on to Arrow flows.

    python benchmarks/netflow_decode.py

Random field values among 1,024 hosts, 30 (v5) and 24 (v9, IPFIX) records a datagram; the templates have 19 fields, of
which 14 are columns of ours. A rate is flows by seconds of processor time of this one thread; the best of `ROUNDS` is
given, because other work on the machine only ever makes a round slower. Beside it the package `netflow` (PyPI), an
object per record, on the first `LIBRARY_DATAGRAMS` of the same datagrams. JSON on stdout.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import netflow
import numpy as np

from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.forms import IPFIX, V9, Form
from eddyline.sources.netflow.heap import keep_freed_memory
from eddyline.sources.netflow.templated import TemplatedDecoder
from eddyline.sources.netflow.v5 import Datagram, Decoded, Sequences, decode_v5

DATAGRAMS, BATCH, ROUNDS = 20_000, 4096, 7
EXPORT_S, UPTIME = 1_700_000_000, 500_000_000
LIBRARY_DATAGRAMS = 1_000
TEMPLATE = (  # (field, length)
    (8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2), (6, 1), (4, 1),
    (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (61, 1),
)  # fmt: skip
IPFIX_TEMPLATE = tuple({22: (152, 8), 21: (153, 8)}.get(ie, (ie, length)) for ie, length in TEMPLATE)


def v5_datagrams(generator: np.random.Generator) -> list[Datagram]:
    """Valid v5 datagrams of 30 random flows among 1,024 hosts."""
    made = []
    for number in range(DATAGRAMS):
        records = generator.integers(0, 256, (30, 48), dtype=np.uint8)
        records[:, 0:2], records[:, 4:6] = 10, 10
        records[:, [2, 6]] &= 3
        records[:, 24:32] = 1
        header = struct.pack(">HHIIIIHH", 5, 30, UPTIME, EXPORT_S, 0, 30 * number, 0, 0)
        made.append((number, "192.0.2.1", header + records.tobytes()))
    return made


def templated_datagrams(generator: np.random.Generator, form: Form) -> list[Datagram]:
    """Valid v9 or IPFIX datagrams of 24 random flows among 1,024 hosts; the first one also has the template."""
    template = IPFIX_TEMPLATE if form.ipfix else TEMPLATE
    size = sum(length for _, length in template)
    spec = b"".join(struct.pack(">HH", *field) for field in template)
    made = []
    for number in range(DATAGRAMS):
        records = generator.integers(0, 256, (24, size), dtype=np.uint8)
        records[:, 0:2], records[:, 4:6] = 10, 10
        records[:, [2, 6]] &= 3
        records[:, 24:32] = 1
        if form.ipfix:
            records[:, 24:40] = np.frombuffer(
                struct.pack(">QQ", 1000 * EXPORT_S - 9_000, 1000 * EXPORT_S - 7), np.uint8
            )
        body = records.tobytes() + bytes(-24 * size % 4)
        first = struct.pack(">HHHH", form.template_set, 8 + len(spec), 256, len(template)) + spec
        sets = (first if number == 0 else b"") + struct.pack(">HH", 256, 4 + len(body)) + body
        if form.ipfix:
            header = struct.pack(">HHIII", 10, 16 + len(sets), EXPORT_S, 24 * number, 7)
        else:
            header = struct.pack(">HHIIII", 9, 24, UPTIME, EXPORT_S, number, 7)
        made.append((number, "192.0.2.1", header + sets))
    return made


def best(decode: Callable[[], int]) -> float:
    """Million flows per second of the fastest round."""
    rates = []
    for _ in range(ROUNDS):
        start = time.process_time()
        flows = decode()
        rates.append(flows / (time.process_time() - start) / 1e6)
    return round(max(rates), 2)


def columns(datagrams: list[Datagram], version: int) -> int:
    """Decode to NumPy columns, in batches as the source makes them; how many flows there were."""
    flows, decoder, sequences = 0, TemplatedDecoder(IPFIX if version == 10 else V9), Sequences()
    for start in range(0, len(datagrams), BATCH):
        batch, decoded = datagrams[start : start + BATCH], Decoded()
        if version == 5:
            decode_v5(batch, decoded, sequences)
        else:
            decoder.decode(batch, decoded)
        assert not decoded.rejected
        flows += sum(len(part) for part in decoded.records)
    return flows


def arrow(datagrams: list[Datagram]) -> int:
    """Decode to Arrow flows, address text included; how many there were."""
    decoder = Decoder()
    pairs = [(origin, raw) for _, origin, raw in datagrams]
    return sum(len(decoder.decode(pairs[start : start + BATCH])) for start in range(0, len(pairs), BATCH))


def library(datagrams: list[Datagram]) -> int:
    """Parse with the package `netflow`; how many flows it found."""
    templates: dict[str, Any] = {"netflow": {}, "ipfix": {}}
    flows = 0
    for _, _, raw in datagrams[:LIBRARY_DATAGRAMS]:
        flows += len(netflow.parse_packet(raw, templates).flows)
    return flows


def main() -> None:
    """Measure and write one JSON object."""
    generator = np.random.default_rng(1)
    keep_freed_memory()  # as the source does
    results: dict[str, float] = {}
    made = {
        5: v5_datagrams(generator),
        9: templated_datagrams(generator, V9),
        10: templated_datagrams(generator, IPFIX),
    }
    for version, each in ((5, 30), (9, 24), (10, 24)):
        datagrams = made[version]
        assert columns(datagrams, version) == arrow(datagrams) == each * len(datagrams)
        assert library(datagrams) == each * LIBRARY_DATAGRAMS
        results[f"v{version}_columns_mflows_per_s"] = best(partial(columns, datagrams, version))
        results[f"v{version}_arrow_mflows_per_s"] = best(partial(arrow, datagrams))
        results[f"v{version}_package_netflow_mflows_per_s"] = best(partial(library, datagrams))
    sys.stdout.write(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
