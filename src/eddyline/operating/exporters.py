"""Who exports NetFlow to a port, how wrong their clocks are, and which templates are missing. Pure.

The skew of a clock is the export time in a header minus the time of receipt; of several, the one least behind, since
waiting on the way only ever makes a datagram look older. Headers of v9 and IPFIX count whole seconds.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from eddyline.operating.findings import Finding
from eddyline.sources.netflow.decoder import Decoder
from eddyline.sources.netflow.tally import OTHERS, Tally

WRONG_SKEW_S: Final = 60.0  # beyond it windows of several exporters do not belong together
_NOTED_SKEW_S: Final = 5.0
_EXPORTERS: Final = 1_000  # that are told apart
_SHOWN: Final = 20
_TIME: Final = {b"\0\x05": 8, b"\0\x09": 8, b"\0\x0a": 4}  # version: where its header has the seconds since 1970
_NAMES: Final = {b"\0\x05": "v5", b"\0\x09": "v9", b"\0\x0a": "IPFIX"}
_SILENCE: Final = (
    "point an exporter at this port; `tcpdump -n udp` shows whether its packets reach this machine, and its firewall "
    "may still hold them back"
)
_LOST: Final = "look for drops in `netstat -su` and on the path: what is lost there is never scored"
_SFLOW: Final = b"\0\0\0\x05"


@dataclass(slots=True)
class Exporter:
    """What came from one address."""

    datagrams: int = 0
    flows: int = 0
    versions: set[str] = field(default_factory=set)
    skew_s: float | None = None
    reasons: Counter[str] = field(default_factory=Counter)  # of what could not be read
    lost: Counter[str] = field(default_factory=Counter)  # flows (v5, IPFIX) and datagrams (v9) that never came


class Exporters:
    """A tally of datagrams by the address they came from; beyond a thousand addresses the rest count together.

    Args:
        checked: as for the source's decoder.
    """

    def __init__(self, checked: bool = False) -> None:
        self._decoder = Decoder(checked=checked, tally=Tally(_EXPORTERS))
        self.seen: dict[str, Exporter] = {}

    def take(self, datagrams: Sequence[tuple[str, bytes]], now_us: int, last: bool = False) -> None:
        """Count datagrams (address, bytes) received at `now_us`; after the `last`, missing templates are missing."""
        for origin, raw in datagrams:
            exporter = self._of(origin)
            exporter.datagrams += 1
            place = _TIME.get(raw[:2])
            if place is not None and len(raw) >= place + 4:
                exporter.versions.add(_NAMES[raw[:2]])
                skew = struct.unpack_from(">I", raw, place)[0] - now_us / 1e6
                exporter.skew_s = skew if exporter.skew_s is None else max(exporter.skew_s, skew)
            elif raw[:4] == _SFLOW:
                exporter.versions.add("sFlow")
        batch = self._decoder.decode(list(datagrams), now_us, last)
        for found in batch.table["exporter"].value_counts().to_pylist():
            self._of(str(found["values"]).partition("/")[0]).flows += found["counts"]
        for address, total in self._decoder.tally.by_address().items():
            lost = {what: total.get(f"missing_{what}", 0) for what in ("flows", "datagrams")}
            self._of(address).lost = +Counter(lost)
        for row in batch.rejected.select(["origin", "reason"]).to_pylist():
            self._of(row["origin"].partition("/")[0]).reasons[row["reason"]] += 1

    def _of(self, origin: str) -> Exporter:
        known = origin in self.seen or len(self.seen) < _EXPORTERS
        return self.seen.setdefault(origin if known else OTHERS, Exporter())

    def findings(self, seconds: float, where: str) -> Iterator[Finding]:
        """Say what came in `seconds` to `where`; the loudest exporters first."""
        if not self.seen:
            says = f"no datagram came to {where} within {seconds:g} s"
            yield Finding("note", "exporters", says, _SILENCE)
        loudest = sorted(self.seen.items(), key=lambda item: -item[1].datagrams)
        for address, exporter in loudest[:_SHOWN]:
            yield from _about(address, exporter)
        if len(loudest) > _SHOWN:
            yield Finding("ok", "exporters", f"{len(loudest) - _SHOWN} more, not shown")


def _about(address: str, exporter: Exporter) -> Iterator[Finding]:
    about = f"exporter {address}"
    if exporter.versions == {"sFlow"}:
        yield Finding("wrong", about, "it sends sFlow", "switch it to NetFlow or IPFIX, or take goflow2 between")
        return
    spoken = "/".join(sorted(exporter.versions)) or "nothing that is NetFlow"
    counted = f"{spoken}, {exporter.datagrams:,} datagrams, {exporter.flows:,} flows"
    yield Finding("ok" if exporter.versions else "wrong", about, counted, "" if exporter.versions else
                  "let only exporters send to this port")  # fmt: skip
    if exporter.skew_s is not None and abs(exporter.skew_s) > _NOTED_SKEW_S:
        wrong = abs(exporter.skew_s) > WRONG_SKEW_S
        side = "ahead of" if exporter.skew_s > 0 else "behind"
        yield Finding("wrong" if wrong else "note", about,
                      f"its clock is {abs(exporter.skew_s):,.0f} s {side} this machine's",
                      "set NTP on both; a replayed or simulated network needs `?times=exporter`")  # fmt: skip
    if exporter.lost:
        lost = " and ".join(f"{count:,} {what}" for what, count in exporter.lost.items())
        yield Finding("note", about, f"{lost} never came: its sequence numbers skip them", _LOST)
    for reason, count in exporter.reasons.most_common(3):
        template = "never came" in reason
        yield Finding("wrong", about, f"{count:,} times: {reason}",
                      "listen longer, or let the exporter send its templates every minute" if template else
                      "compare with what `eddyline run` keeps in dead-letter.jsonl")  # fmt: skip
