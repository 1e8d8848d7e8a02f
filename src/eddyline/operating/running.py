"""What a service that runs already says of itself, asked over its own `/metrics`."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from typing import Final

from eddyline.drift import FREE
from eddyline.operating.findings import Finding

_PATIENCE_S: Final = 3.0
_LARGEST: Final = 4 << 20  # bytes of an answer that are read
_MARK: Final = "eddyline_build_info"
_LOST: Final = {
    "missing_datagrams": "datagrams were lost on the way; look for drops in `netstat -su` and on the path",
    "missing_flows": "flows were lost on the way; look for drops in `netstat -su` and on the path",
    "unknown_templates": "data sets had to wait for their template; let exporters send templates every minute",
    "clocks_ahead": "flows were dated over five seconds after their receipt; set NTP on the exporters",
}
_LATE_SHARE: Final = 0.01
_LATE: Final = (
    "an exporter's clock is behind, or it exports long after a flow ended: stop the service and ask again to hear "
    "which; set NTP, shorten its timeouts, or raise --windows.lateness-s"
)


def running(address: str) -> dict[str, float] | None:
    """Samples by name and labels of the Eddyline that answers at HOST:PORT; None where none does."""
    try:
        connection = http.client.HTTPConnection(address, timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read(_LARGEST).decode(errors="replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return None
    return _samples(text) if _MARK in text else None


def _samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            try:
                found[name] = float(value)
            except ValueError:
                continue  # another program's idea of the format: what it says is not for us
    return found


def told(service: Mapping[str, float], address: str) -> Iterator[Finding]:
    """What is worth knowing of a running service."""
    flows, rejected = service.get("eddyline_flows_total", 0.0), _sum(service, "eddyline_rejected_records_total")
    yield Finding("ok", "service", f"an Eddyline runs and answers on {address}: {flows:,.0f} flows so far")
    for what, says in _LOST.items():
        count = service.get(f'eddyline_source_total{{what="{what}"}}', 0.0)
        if count:
            finding, _, remedy = says.partition("; ")
            yield Finding("note", "service", f"{count:,.0f} {finding}", remedy)
    late = service.get("eddyline_late_flows_total", 0.0)
    if late > _LATE_SHARE * flows:
        yield Finding("note", "service", f"{late:,.0f} flows came after their window had closed", _LATE)
    if rejected:
        yield Finding("note", "service", f"{rejected:,.0f} records could not be read", "see dead-letter.jsonl for why")
    waiting, size = (service.get(f'eddyline_{name}{{queue="read"}}', 0.0) for name in _QUEUE)
    if size and waiting >= size:
        yield Finding("note", "service", "scoring does not keep up with reading", "give it --threads or another core")
    if service.get("eddyline_drift_bucket", 0.0) > FREE:
        yield Finding("note", "service", "alerts are held down because the network changed",
                      "if this lasts for a day: `eddyline calibrate`")  # fmt: skip


_QUEUE: Final = ("queue_batches", "queue_size_batches")


def _sum(service: Mapping[str, float], name: str) -> float:
    return sum(value for sample, value in service.items() if sample.startswith(f"{name}{{"))
