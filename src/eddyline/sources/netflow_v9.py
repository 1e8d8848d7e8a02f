"""NetFlow v9 (RFC 3954): datagrams to columns, without sockets or clocks; templates are kept per exporter.

The records of a batch that share a layout are joined, whoever sent them, and viewed once; no step is taken per flow.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from eddyline.sources.netflow_layouts import Layout, Run, compile_template, convert, integers
from eddyline.sources.netflow_v5 import Array, Datagram, Decoded, Sequences, Stream

MAX_FIELDS: Final = 512  # a template
MAX_FIELD_BYTES: Final = 1024
MAX_RECORD_BYTES: Final = 65_503  # what fits a datagram
MAX_TEMPLATES: Final = 1024  # an exporter
MAX_TEMPLATES_TOTAL: Final = 16_384  # and as many exporters
MAX_DOMAINS: Final = 1024  # whose sampling rates are kept, an exporter
MAX_SAMPLERS: Final = 64  # a domain
MAX_PENDING: Final = 4096  # data sets that wait for their template
MAX_PENDING_BYTES: Final = 16 << 20

_FIRST: Final = struct.Struct(">HHIIIIHH")  # header, and id and length of the first set
_SEQUENCE: Final = struct.Struct(">II")  # and source id, from byte 12
_NO_ENDS: Final = "v9 template has no sender and receiver address"
_PAIR: Final = struct.Struct(">HH")

_Key = tuple[str, int, int]  # exporter's address (never its port), source id, template id
_Open = tuple[Run, Stream, int]  # and the bytes of a record
_NO_RUN: Final = (Run(compile_template(b"", None, True), 0, 0), Stream(0), 1 << 16)  # longer than any set: never fits


class _Waiting(NamedTuple):
    """A data set whose template has not come yet."""

    key: _Key
    body: bytes
    raw: bytes  # its datagram
    cost: int  # bytes kept for it


@dataclass(slots=True)
class _Exporter:
    """What one device told: templates by (source id, template id), sampling rates by source id and sampler."""

    templates: OrderedDict[tuple[int, int], tuple[bytes, int | None]] = field(default_factory=OrderedDict)
    rates: OrderedDict[int, dict[int, int]] = field(default_factory=OrderedDict)

    def rate(self, domain: int) -> int:
        """1 in how many packets is seen; 0 while unknown, or where samplers differ: a flow does not say whose it is."""
        known = set(self.rates[domain].values()) if domain in self.rates else ()
        return next(iter(known)) if len(known) == 1 else 0

    def learn_rates(self, domain: int, sets: list[tuple[Layout, bytes]]) -> str:
        """Keep the sampling rates of options data sets; why not, if one is too short."""
        reason = ""
        for layout, body in sets:
            rows = len(body) // layout.type_.itemsize
            if not rows:
                reason = "v9 options data set is shorter than its template's record"
            elif "sampling_rate" in layout.plain:
                self._learn(domain, np.frombuffer(body, layout.type_, min(rows, MAX_SAMPLERS)))
        return reason

    def _learn(self, domain: int, view: Array) -> None:
        named = "sampler" in (view.dtype.names or ())
        samplers = integers(view["sampler"]).tolist() if named else [0] * len(view)
        rates = self.rates.setdefault(domain, {})
        for sampler, rate in zip(samplers, integers(view["sampling_rate"]).tolist(), strict=True):
            if rate and (sampler in rates or len(rates) < MAX_SAMPLERS):
                rates[sampler] = rate
        if len(self.rates) > MAX_DOMAINS:
            self.rates.popitem(last=False)


class _Batch:
    """The runs of the batch being read. A run is closed when its template or its sampling rate may have changed."""

    def __init__(self, into: Decoded) -> None:
        self.into = into
        self.open: dict[tuple[str, int], dict[int, _Open]] = {}  # by exporter and source id, then by template id
        self.runs: dict[Layout, list[Run]] = {}

    def run(self, layout: Layout, key: _Key, exporter: _Exporter, stream: Stream) -> Run:
        """The open run of `key`, or a new one."""
        origin, domain, set_id = key
        runs = self.open.setdefault((origin, domain), {})
        if set_id not in runs:
            code = self.into.exporters.setdefault(f"{origin}/{domain}", len(self.into.exporters))
            run = Run(layout, code, exporter.rate(domain))
            self.runs.setdefault(layout, []).append(run)
            runs[set_id] = (run, stream, layout.type_.itemsize)
        return runs[set_id][0]

    def add_known(self, arrival: int, origin: str, raw: bytes) -> bool:
        """Take a datagram whose sets all have open runs, the common case; False leaves everything as it was."""
        sequence, domain = _SEQUENCE.unpack_from(raw, 12)
        runs = self.open.get((origin, domain))
        if not runs:
            return False
        found = []
        offset, end, stream = 20, len(raw), _NO_RUN[1]
        while offset + 4 <= end:
            set_id, length = _PAIR.unpack_from(raw, offset)
            run, stream, size = runs.get(set_id, _NO_RUN)
            rest = (length - 4) % size
            if rest > 3 or length - 4 < size:
                return False
            found.append((run, raw[offset + 4 : offset + length - rest]))
            offset += length
        if offset != end:
            return False
        order, head = arrival << 16, raw[:20]
        for run, body in found:
            run.orders.append(order)
            run.heads.append(head)
            run.bodies.append(body)
        if sequence == stream.expected:
            stream.expected = (sequence + 1) & 0xFFFFFFFF
        else:
            _count_gap(stream, sequence, self.into)
        return True

    def close(self, origin: str, domain: int) -> None:
        """Start new runs from here for that exporter."""
        self.open.pop((origin, domain), None)


class V9Decoder:
    """Templates, sampling rates and data sets that wait for their template, per exporter; all bounded.

    Args:
        reverse: fields 23 and 24 are the other direction of the flow (nProbe, our own exporter); False ignores them
            (Cisco: the same direction after routing).
    """

    def __init__(self, reverse: bool = True) -> None:
        self._reverse = reverse
        self._exporters: OrderedDict[str, _Exporter] = OrderedDict()  # least recently heard first
        self._templates = 0
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()  # by arrival
        self._waiting_for: dict[_Key, list[int]] = {}
        self._waiting_bytes = 0
        self._serial = 0
        self._sequences = Sequences()

    def decode(self, datagrams: Sequence[Datagram], into: Decoded) -> None:
        """Append the flows of v9 `datagrams` to `into`, one Records per layout. Never raises, whatever the bytes.

        A datagram whose sets do not add up is rejected whole. Otherwise each set stands alone: one that cannot be read
        rejects its datagram (once), the others still count. A data set before its template waits, bounded; what falls
        out is rejected.
        """
        batch = _Batch(into)
        for arrival, origin, raw in datagrams:
            if len(raw) > 24 and batch.add_known(arrival, origin, raw):
                continue
            sets = _frame(raw)
            reason = self._take(arrival, origin, raw, sets, batch) if sets else "v9 sets do not add up to the datagram"
            if reason:
                into.reject(arrival, origin, raw, reason)
        for runs in batch.runs.values():
            filled = [run for run in runs if run.bodies]
            if filled:
                into.records.append(convert(filled, into.counts))

    def give_up(self, into: Decoded) -> None:
        """Reject every data set that still waits for its template: the source ends."""
        while self._waiting:
            self._drop_oldest(into)

    def _take(self, arrival: int, origin: str, raw: bytes, sets: list[tuple[int, int, int]], batch: _Batch) -> str:
        """Templates, then options, then flows of one datagram, however its sets are ordered; why some were not read."""
        sequence, domain = _SEQUENCE.unpack_from(raw, 12)
        exporter, stream = self._admit(origin), self._sequences.stream(origin, domain, sequence)
        _count_gap(stream, sequence, batch.into)
        defined, reason = self._define(exporter, domain, [(i, raw[a:b]) for i, a, b in sets if i < 256])
        options, flows = [], []
        for place, (set_id, start, stop) in enumerate(sets):
            layout = self._layout(exporter, domain, set_id)
            if layout is None:
                reason = self._wait((origin, domain, set_id), raw[start:stop], raw, batch.into) or reason
            elif not (layout.family or layout.options):
                reason = _NO_ENDS
            elif layout.options:
                options.append((layout, raw[start:stop]))
            else:
                flows.append((set_id, layout, (arrival << 16) + place, raw[start:stop]))
        reason = exporter.learn_rates(domain, options) or reason
        if defined or options:
            batch.close(origin, domain)
            for template_id in defined:
                self._release((origin, domain, template_id), exporter, batch)
        for set_id, layout, order, body in flows:
            run = batch.run(layout, (origin, domain, set_id), exporter, stream)
            reason = _place(run, raw, body, order) or reason
        return reason

    def _admit(self, origin: str) -> _Exporter:
        exporter = self._exporters.get(origin)
        if exporter is None:
            exporter = self._exporters[origin] = _Exporter()
            if len(self._exporters) > MAX_TEMPLATES_TOTAL:
                self._forget_oldest()
        self._exporters.move_to_end(origin)
        return exporter

    def _forget_oldest(self) -> None:
        self._templates -= len(self._exporters.popitem(last=False)[1].templates)

    def _layout(self, exporter: _Exporter, domain: int, set_id: int) -> Layout | None:
        known = exporter.templates.get((domain, set_id))
        if known is None:
            return None
        exporter.templates.move_to_end((domain, set_id))
        return compile_template(known[0], known[1], self._reverse)

    def _define(self, exporter: _Exporter, domain: int, sets: list[tuple[int, bytes]]) -> tuple[list[int], str]:
        """Take the templates of one datagram, newest wins: ids of those that are new, and why the rest is not taken."""
        defined: list[int] = []
        reason = ""
        for set_id, body in sets:
            if set_id > 1:
                reason = f"v9 set id {set_id} is reserved"
                continue
            for template_id, spec, scope in _templates(body, options=set_id == 1):
                if exporter.templates.get((domain, template_id)) == (spec, scope):
                    continue  # sent again, as exporters do every few datagrams
                if template_id < 256 or not _sane(spec, scope):
                    reason = f"v9 template {template_id} is malformed or beyond the limits"
                    break
                self._keep(exporter, (domain, template_id), (spec, scope))
                defined.append(template_id)
        return defined, reason

    def _keep(self, exporter: _Exporter, key: tuple[int, int], template: tuple[bytes, int | None]) -> None:
        self._templates += key not in exporter.templates
        exporter.templates[key] = template
        exporter.templates.move_to_end(key)
        if len(exporter.templates) > MAX_TEMPLATES:
            exporter.templates.popitem(last=False)
            self._templates -= 1
        while self._templates > MAX_TEMPLATES_TOTAL:
            self._forget_oldest()

    def _wait(self, key: _Key, body: bytes, raw: bytes, into: Decoded) -> str:
        if key[2] < 256:
            return ""  # a template set
        if not body:
            return f"v9 data set {key[2]} is empty"
        into.counts["unknown_templates"] += 1
        newest = next(reversed(self._waiting.values()), None)
        cost = len(body) if newest is not None and newest.raw is raw else len(raw)
        self._serial += 1
        self._waiting[self._serial] = _Waiting(key, body, raw, cost)
        self._waiting_for.setdefault(key, []).append(self._serial)
        self._waiting_bytes += cost
        while len(self._waiting) > MAX_PENDING or self._waiting_bytes > MAX_PENDING_BYTES:
            self._drop_oldest(into)
        return ""

    def _drop_oldest(self, into: Decoded) -> None:
        serial, waiting = self._waiting.popitem(last=False)
        self._waiting_bytes -= waiting.cost
        self._waiting_for[waiting.key].remove(serial)
        if not self._waiting_for[waiting.key]:
            del self._waiting_for[waiting.key]
        origin, domain, set_id = waiting.key
        _reject_once(into, f"{origin}/{domain}", waiting.raw, f"v9 template {set_id} never came")

    def _release(self, key: _Key, exporter: _Exporter, batch: _Batch) -> None:
        """Read the data sets that waited for the template `key`, before everything else of this batch."""
        for serial in self._waiting_for.pop(key, ()):
            _, body, raw, cost = self._waiting.pop(serial)
            self._waiting_bytes -= cost
            layout = self._layout(exporter, key[1], key[2])
            if layout is None:
                reason = f"v9 template {key[2]} was pushed out by newer ones"
            elif not (layout.family or layout.options):
                reason = _NO_ENDS
            elif layout.options:
                reason = exporter.learn_rates(key[1], [(layout, body)])
            else:
                stream = self._sequences.stream(key[0], key[1], 0)
                reason = _place(batch.run(layout, key, exporter, stream), raw, body, -1)
            if reason:
                _reject_once(batch.into, f"{key[0]}/{key[1]}", raw, reason)


def _reject_once(into: Decoded, origin: str, raw: bytes, reason: str) -> None:
    """Keep the datagram of a set that waited; of its other sets, which come next to each other, only the first."""
    if not (into.rejected and into.rejected[-1].raw is raw and into.rejected[-1].arrival < 0):
        into.reject(-1, origin, raw, reason)


def _count_gap(stream: Stream, sequence: int, into: Decoded) -> None:
    missing = stream.missing(sequence, 1)
    if missing:
        into.counts["sequence_gaps"] += 1
        into.counts["missing_datagrams"] += missing


def _frame(raw: bytes) -> list[tuple[int, int, int]]:
    """(set id, start, stop) of each set's content; empty unless the sets fill the datagram exactly."""
    sets, offset, size = [], 20, len(raw)
    while offset + 4 <= size:
        set_id, length = _PAIR.unpack_from(raw, offset)
        if length < 4 or offset + length > size:
            return []
        sets.append((set_id, offset + 4, offset + length))
        offset += length
    return sets if offset <= size and not any(raw[offset:]) else []


def _templates(body: bytes, options: bool) -> Iterator[tuple[int, bytes, int | None]]:
    """(template id, field specifications, how many of them are scope or None) of a set; id 0 where it breaks off."""
    offset, head = 0, 6 if options else 4
    while len(body) - offset >= head:
        template_id, count = _PAIR.unpack_from(body, offset)
        if template_id == count == 0 and not any(body[offset:]):
            return  # padding
        scope = count // 4 if options else None  # options templates count bytes, data templates fields
        if options:
            count = (count + int.from_bytes(body[offset + 4 : offset + 6], "big")) // 4
        spec = body[offset + head : offset + head + 4 * count]
        yield (template_id if len(spec) == 4 * count else 0), spec, scope
        offset += head + len(spec)
    if any(body[offset:]):
        yield 0, b"", None


def _sane(spec: bytes, scope: int | None) -> bool:
    lengths = np.frombuffer(spec, ">u2")[1::2].astype(np.int64)
    return (
        0 < len(lengths) <= MAX_FIELDS
        and (scope or 0) <= len(lengths)
        and int(lengths.max()) <= MAX_FIELD_BYTES
        and 0 < int(lengths.sum()) <= MAX_RECORD_BYTES
    )


def _place(run: Run, raw: bytes, body: bytes, order: int) -> str:
    """Add the records of one data set of the datagram `raw` to its run; why not, if they are none."""
    size = run.layout.type_.itemsize
    rest = len(body) % size
    if len(body) < size:
        return f"v9 data set of {len(body)} bytes is shorter than its template's record of {size}"
    # Padding is under 4 bytes (nProbe's is not zero); more, with content, means that another template was used.
    if rest > 3 and any(body[-rest:]):
        return f"v9 data set of {len(body)} bytes does not fit its template's records of {size}"
    run.orders.append(order)
    run.heads.append(raw[:20])
    run.bodies.append(body[:-rest] if rest else body)
    return ""
