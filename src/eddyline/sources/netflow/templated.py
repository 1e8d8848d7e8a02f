"""NetFlow v9 (RFC 3954) and IPFIX (RFC 7011, RFC 5103): datagrams to columns, without sockets or clocks.

The records of a batch that share a layout are joined, whoever sent them, and viewed once; no step is taken per flow,
but for templates with variable-length fields.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from eddyline.sources.netflow.exporters import MAX_TEMPLATES_TOTAL, Exporter, Exporters
from eddyline.sources.netflow.forms import V9, Form, Template, frame
from eddyline.sources.netflow.layouts import Layout, Run, compile_template, convert
from eddyline.sources.netflow.v5 import Datagram, Decoded, Sequences, Stream

MAX_PENDING: Final = 4096  # data sets that wait for their template
MAX_PENDING_BYTES: Final = 16 << 20

_SEQUENCE: Final = struct.Struct(">II")  # and the observation domain
_FIRST: Final = struct.Struct(">IIHH")  # and id and length of the first set
_PAIR: Final = struct.Struct(">HH")

_Key = tuple[str, int, int]  # exporter's address (never its port), domain, template id
_Open = tuple[Run, Stream, int]  # and the bytes of a record
_NEVER: Final = 1 << 16  # longer than any set: never fits
_NO_RUN: Final = (Run(compile_template(V9, Template(b"", None), True), 0, 0), Stream(0, ""), _NEVER)
_NO_RUNS: Final[dict[int, _Open]] = {}


class _Waiting(NamedTuple):
    """A data set whose template has not come yet."""

    key: _Key
    body: bytes
    raw: bytes  # its datagram
    cost: int  # bytes kept for it


class _Place(NamedTuple):
    """Whose a data set is, and where its flows belong."""

    key: _Key
    layout: Layout | None
    order: int
    exporter: Exporter
    stream: Stream


class _Batch:
    """The runs of the batch being read. A run is closed when its template or what options say may have changed."""

    def __init__(self, form: Form, into: Decoded) -> None:
        self.form, self.into = form, into
        self.open: dict[tuple[str, int], dict[int, _Open]] = {}  # by exporter and domain, then by template id
        self.runs: dict[Layout, list[Run]] = {}

    def run(self, layout: Layout, key: _Key, exporter: Exporter, stream: Stream) -> Run:
        """The open run of `key`, or a new one."""
        origin, domain, set_id = key
        runs = self.open.setdefault((origin, domain), {})
        if set_id not in runs:
            code = self.into.exporters.setdefault(f"{origin}/{domain}", len(self.into.exporters))
            told = exporter.told(domain)
            run = Run(layout, code, told.rate(), dict(told.rates), told.boot_ms)
            self.runs.setdefault(layout, []).append(run)
            runs[set_id] = (run, stream, _NEVER if layout.segments else layout.type_.itemsize)
        return runs[set_id][0]

    def take_known(self, datagrams: Sequence[Datagram]) -> Iterator[Datagram]:
        """Take datagrams whose sets all have open runs, the common case; yield the others, in order, when it is time.

        Most have a single set: those are taken here, with as few steps as can be, the rest in `add_known`.
        """
        opened, first, pair, ipfix = self.open, _FIRST.unpack_from, _PAIR.unpack_from, self.form.ipfix
        head, sequence_at = self.form.header.itemsize, self.form.sequence_at
        for datagram in datagrams:
            arrival, origin, raw = datagram
            end = len(raw)
            if end <= head + 4:
                yield datagram
                continue
            sequence, domain, set_id, length = first(raw, sequence_at)
            run, stream, size = opened.get((origin, domain), _NO_RUNS).get(set_id, _NO_RUN)
            rest = (length - 4) % size
            if length == end - head and rest < 4 and length - 4 >= size and (not ipfix or pair(raw)[1] == end):
                run.orders.append(arrival << 16)
                run.heads.append(raw[:head])
                run.bodies.append(raw[head + 4 : end - rest])
                step = (length - 4) // size if ipfix else 1
                if sequence == stream.expected:
                    stream.expected = (sequence + step) & 0xFFFFFFFF
                else:
                    self.follow(stream, sequence, step)
            elif not self.add_known(arrival, origin, raw):
                yield datagram

    def add_known(self, arrival: int, origin: str, raw: bytes) -> bool:
        """Take a datagram of any number of sets that all have open runs; False leaves everything as it was."""
        form, end = self.form, len(raw)
        offset = head_bytes = form.header.itemsize
        sequence, domain = _SEQUENCE.unpack_from(raw, form.sequence_at)
        runs = self.open.get((origin, domain))
        if not runs or (form.ipfix and _PAIR.unpack_from(raw)[1] != end):
            return False
        found = []
        records, stream = 0, _NO_RUN[1]
        while offset + 4 <= end:
            set_id, length = _PAIR.unpack_from(raw, offset)
            run, stream, size = runs.get(set_id, _NO_RUN)
            rest = (length - 4) % size
            if rest > 3 or length - 4 < size:
                return False
            found.append((run, raw[offset + 4 : offset + length - rest]))
            records += (length - 4) // size
            offset += length
        if offset != end:
            return False
        order, head = arrival << 16, raw[:head_bytes]
        for run, body in found:
            run.orders.append(order)
            run.heads.append(head)
            run.bodies.append(body)
        self.follow(stream, sequence, records if form.ipfix else 1)
        return True

    def follow(self, stream: Stream, sequence: int, step: int) -> None:
        """Count what was lost before a datagram that moves its sequence on by `step`; below 0 nobody knows how far."""
        if sequence != stream.expected:
            missing = stream.missing(sequence)
            if missing:
                self.into.count(stream.origin, "sequence_gaps")
                self.into.count(stream.origin, "missing_flows" if self.form.ipfix else "missing_datagrams", missing)
        stream.expected = (sequence + step) & 0xFFFFFFFF if step >= 0 else -1

    def close(self, origin: str, domain: int) -> None:
        """Start new runs from here for that exporter."""
        self.open.pop((origin, domain), None)


class TemplatedDecoder:
    """Templates, options and data sets that wait for their template, per exporter of one format; all bounded.

    Args:
        form: V9 or IPFIX. Templates of the two never mix, also where one device sends both.
        reverse: fields 23 and 24 are the other direction of the flow (nProbe, our own exporter); False ignores them
            (Cisco, and IPFIX by the letter: the same direction after routing).
        templates: at most so many are kept over all exporters.
        pending_bytes: at most so many wait for their template.
    """

    def __init__(
        self,
        form: Form,
        reverse: bool = True,
        templates: int = MAX_TEMPLATES_TOTAL,
        pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self.form, self._reverse, self._pending_bytes = form, reverse, pending_bytes
        self.changes = 0  # rises with everything that templates and options say anew
        self.exporters = Exporters(form, templates)
        self._waiting: OrderedDict[int, _Waiting] = OrderedDict()  # by arrival
        self._waiting_for: dict[_Key, list[int]] = {}
        self._waiting_bytes = 0
        self._serial = 0
        self._sequences = Sequences()
        self._no_ends = f"{form.name} template has no sender and receiver address"

    def decode(self, datagrams: Sequence[Datagram], into: Decoded) -> None:
        """Append the flows of `datagrams` to `into`, one Records per layout. Never raises, whatever the bytes.

        A datagram whose sets do not add up is rejected whole. Otherwise each set stands alone: one that cannot be read
        rejects its datagram (once), the others still count. A data set before its template waits, bounded; what falls
        out is rejected.
        """
        batch = _Batch(self.form, into)
        for arrival, origin, raw in batch.take_known(datagrams):
            sets = frame(self.form, raw)
            broken = f"{self.form.name} sets do not add up to the datagram"
            reason = self._take(arrival, origin, raw, sets, batch) if sets else broken
            if reason:
                into.reject(arrival, origin, raw, reason)
        for runs in batch.runs.values():
            filled = [run for run in runs if run.bodies]
            if filled:
                into.records.append(convert(filled, into.counts))

    def held(self) -> dict[str, int]:
        """How much is kept now: exporters, templates, and data sets and bytes that wait for a template."""
        exporters = list(self.exporters)
        return {
            "exporters": len(exporters),
            "templates": sum(len(exporter.templates) for _, exporter in exporters),
            "waiting": len(self._waiting),
            "waiting_bytes": self._waiting_bytes,
        }

    def give_up(self, into: Decoded) -> None:
        """Reject every data set that still waits for its template: the source ends."""
        while self._waiting:
            self._drop_oldest(into)

    def _take(self, arrival: int, origin: str, raw: bytes, sets: list[tuple[int, int, int]], batch: _Batch) -> str:
        """Templates, then options, then flows of one datagram, however its sets are ordered; why some were not read."""
        sequence, domain = _SEQUENCE.unpack_from(raw, self.form.sequence_at)
        exporter, stream = self.exporters.admit(origin), self._sequences.stream(origin, domain, sequence)
        first = self.form.template_set
        content = [(set_id, raw[start:stop]) for set_id, start, stop in sets]
        defining = [(set_id > first, body) for set_id, body in content if first <= set_id <= first + 1]
        changed, reason = self.exporters.define(exporter, domain, defining)
        layouts = [self._layout(exporter, domain, set_id) for set_id, _ in content]
        records = [0] * len(content)  # -1 where nobody knows how many
        for place, ((_, body), layout) in enumerate(zip(content, layouts, strict=True)):
            if layout is not None and layout.options:
                records[place], why = exporter.learn(domain, layout, body)
                reason = why or reason
        if changed or any(records):
            self.changes += 1
            batch.close(origin, domain)
            for template_id in changed:
                self._release((origin, domain, template_id), exporter, batch)
        for place, ((set_id, body), layout) in enumerate(zip(content, layouts, strict=True)):
            if layout is None or not layout.options:
                run = _Place((origin, domain, set_id), layout, (arrival << 16) + place, exporter, stream)
                records[place], why = self._place(run, raw, body, batch)
                reason = why or reason
        batch.follow(stream, sequence, -1 if min(records) < 0 else sum(records) if self.form.ipfix else 1)
        return reason

    def _place(self, place: _Place, raw: bytes, body: bytes, batch: _Batch) -> tuple[int, str]:
        """Add the records of one set of the datagram `raw` to their run: how many, -1 unknown; why not, if none."""
        layout, set_id = place.layout, place.key[2]
        first = self.form.template_set
        if set_id < 256:
            known = first <= set_id <= first + 1
            return 0, "" if known else f"{self.form.name} set id {set_id} is reserved"
        if layout is None:
            return -1, self._wait(place.key, body, raw, batch.into)
        kept, reason = layout.records(body)
        if reason:
            return -1, reason
        if not layout.family:
            return len(kept) // layout.type_.itemsize, self._no_ends
        run = batch.run(layout, place.key, place.exporter, place.stream)
        run.orders.append(place.order)
        run.heads.append(raw[: self.form.header.itemsize])
        run.bodies.append(kept)
        return len(kept) // layout.type_.itemsize, ""

    def _layout(self, exporter: Exporter, domain: int, set_id: int) -> Layout | None:
        known = exporter.templates.get((domain, set_id))
        if known is None:
            return None
        exporter.templates.move_to_end((domain, set_id))
        return compile_template(self.form, known, self._reverse)

    def _wait(self, key: _Key, body: bytes, raw: bytes, into: Decoded) -> str:
        if not body:
            return f"{self.form.name} data set {key[2]} is empty"
        into.count(key[0], "unknown_templates")
        newest = next(reversed(self._waiting.values()), None)
        cost = len(body) if newest is not None and newest.raw is raw else len(raw)
        self._serial += 1
        self._waiting[self._serial] = _Waiting(key, body, raw, cost)
        self._waiting_for.setdefault(key, []).append(self._serial)
        self._waiting_bytes += cost
        while len(self._waiting) > MAX_PENDING or self._waiting_bytes > self._pending_bytes:
            self._drop_oldest(into)
        return ""

    def _drop_oldest(self, into: Decoded) -> None:
        serial, waiting = self._waiting.popitem(last=False)
        self._waiting_bytes -= waiting.cost
        self._waiting_for[waiting.key].remove(serial)
        if not self._waiting_for[waiting.key]:
            del self._waiting_for[waiting.key]
        origin, domain, set_id = waiting.key
        _reject_once(into, f"{origin}/{domain}", waiting.raw, f"{self.form.name} template {set_id} never came")

    def _release(self, key: _Key, exporter: Exporter, batch: _Batch) -> None:
        """Read the data sets that waited for the template `key`, before everything else of this batch."""
        origin, domain, set_id = key
        layout = self._layout(exporter, domain, set_id)
        if layout is None:
            return  # withdrawn, or pushed out at once: they wait on
        for serial in self._waiting_for.pop(key, ()):
            _, body, raw, cost = self._waiting.pop(serial)
            self._waiting_bytes -= cost
            if layout.options:
                _, reason = exporter.learn(domain, layout, body)
            else:
                stream = self._sequences.stream(origin, domain, 0)
                _, reason = self._place(_Place(key, layout, -1, exporter, stream), raw, body, batch)
            if reason:
                _reject_once(batch.into, f"{origin}/{domain}", raw, reason)


def _reject_once(into: Decoded, origin: str, raw: bytes, reason: str) -> None:
    """Keep the datagram of a set that waited; of its other sets, which come next to each other, only the first."""
    if not (into.rejected and into.rejected[-1].raw is raw and into.rejected[-1].arrival < 0):
        into.reject(-1, origin, raw, reason)
