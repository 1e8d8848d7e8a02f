"""Datagrams of every NetFlow version to flows, without sockets."""

from __future__ import annotations

from collections import Counter
from operator import itemgetter

import pyarrow as pa

from eddyline.flows import REJECTED_SCHEMA, FlowBatch
from eddyline.sources.netflow.exporters import MAX_TEMPLATES_TOTAL
from eddyline.sources.netflow.forms import IPFIX, V9
from eddyline.sources.netflow.sites import Sites
from eddyline.sources.netflow.table import dated_by, flows_of
from eddyline.sources.netflow.tally import Tally
from eddyline.sources.netflow.templated import MAX_PENDING_BYTES, TemplatedDecoder
from eddyline.sources.netflow.v5 import Datagram, Decoded, Sequences, decode_v5


class Decoder:
    """Datagrams of any NetFlow version to one FlowBatch, in arrival order; keeps templates, sequences and counters.

    Never raises, whatever the bytes: what cannot be read is in `FlowBatch.rejected`, with its reason.

    Args:
        reverse: fields 23 and 24 are the other direction of a flow; False ignores them.
        checked: flows dated over five seconds after they were received are moved back to then; False believes them.
        templates: at most so many are kept of each format, over all exporters.
        pending_bytes: at most so many of each format wait for their template.
        tally: takes what is counted of each exporter: datagrams, bad_datagrams, sequence_gaps, missing_flows,
            missing_datagrams and unknown_templates.
        sites: which site an exporter belongs to.
    """

    def __init__(
        self,
        reverse: bool = True,
        checked: bool = False,
        templates: int = MAX_TEMPLATES_TOTAL,
        pending_bytes: int = MAX_PENDING_BYTES,
        tally: Tally | None = None,
        sites: Sites | None = None,
    ) -> None:
        self._sites = sites or Sites()
        self._checked = checked
        self.templated = {
            form.version: TemplatedDecoder(form, reverse, templates, pending_bytes) for form in (V9, IPFIX)
        }
        self._sequences = Sequences()
        self.counters: Counter[str] = Counter()
        self.tally = Tally() if tally is None else tally

    def decode(self, datagrams: list[tuple[str, bytes]], now_us: int | None = None, last: bool = False) -> FlowBatch:
        """Read `datagrams` (exporter's address, bytes); `last` also rejects what still waits for its template."""
        decoded = Decoded()
        decoded.by_exporter.update(
            {(origin, "datagrams"): number for origin, number in Counter(map(itemgetter(0), datagrams)).items()}
        )
        versions: dict[int, list[Datagram]] = {5: [], 9: [], 10: []}
        for arrival, (origin, raw) in enumerate(datagrams):
            known = versions.get(int.from_bytes(raw[:2], "big"))
            if known is None or len(raw) < 2:
                decoded.reject(arrival, origin, raw, "not NetFlow v5 or v9, nor IPFIX")
            else:
                known.append((arrival, origin, raw))
        decode_v5(versions[5], decoded, self._sequences)
        for version, decoder in self.templated.items():
            decoder.decode(versions[version], decoded)
            if last:
                decoder.give_up(decoded)
        return self._batch(decoded, len(datagrams), now_us)

    def held(self) -> Counter[str]:
        """How much is kept now, v9 and IPFIX together: exporters, templates, waiting, waiting_bytes."""
        return sum((Counter(decoder.held()) for decoder in self.templated.values()), Counter())

    def _batch(self, decoded: Decoded, datagrams: int, now_us: int | None) -> FlowBatch:
        table = self._sites.named(flows_of(decoded))
        if self._checked and now_us is not None:
            table, ahead = dated_by(table, now_us)
            decoded.counts.update({"clocks_ahead": ahead} if ahead else {})
        found = {"datagrams": datagrams, "flows": table.num_rows, "rejected": len(decoded.rejected)}
        self.counters.update(decoded.counts)
        self.counters.update(found)
        decoded.by_exporter.update((found.origin.partition("/")[0], "bad_datagrams") for found in decoded.rejected)
        self.tally.add(decoded.by_exporter)
        rejected = sorted(decoded.rejected, key=lambda found: found.arrival)
        columns = {
            "reason": [found.reason for found in rejected],
            "origin": [found.origin for found in rejected],
            "source_row": [None] * len(rejected),
            "raw": [found.raw for found in rejected],
        }
        return FlowBatch(table, rejected=pa.table(columns, schema=REJECTED_SCHEMA), now_us=now_us)
