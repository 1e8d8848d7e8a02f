"""`eddyline doctor`: everything `eddyline run` with the same flags needs, tried for real, and what to do about it.

Nothing is changed: sockets are opened and closed again, a file is written where a sink would write and taken away.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Final

from eddyline.artifacts import load_models, model_folder, read_manifest
from eddyline.calibration import ENOUGH
from eddyline.config import METRICS, DoctorSettings
from eddyline.devices import chosen
from eddyline.errors import ConfigError, EddylineError
from eddyline.operating.brokers import asked
from eddyline.operating.exporters import Exporters
from eddyline.operating.findings import Finding
from eddyline.operating.running import running, told
from eddyline.operating.status import Status, StatusServer
from eddyline.sources import open_source
from eddyline.sources.netflow.udp import RECV_BUFFER_BYTES, NetflowSource, open_netflow, wall_clock

_RMEM_MAX: Final = Path("/proc/sys/net/core/rmem_max")
_LITTLE_GIB, _NONE_GIB = 10.0, 1.0  # free disk worth a note, and too little
Report = Callable[[str, int, int, str], None]


def examine(settings: DoctorSettings, stop: Event, report: Report) -> Iterator[Finding]:
    """Check after check, in the order of the path; listening takes `settings.seconds`, ended early by `stop`."""
    service = running(settings.metrics) if settings.metrics else None
    if service is not None:
        yield from told(service, settings.metrics)
    yield from _source(settings, stop, report, service is not None)
    yield from _model(settings)
    for url in settings.sink:
        yield from _sink(url)
    if service is None:
        yield _metrics(settings.metrics)
    for place, url in enumerate((settings.source, *settings.sink)):
        if url.startswith("kafka://"):
            yield from asked(url, source=place == 0)


def _source(settings: DoctorSettings, stop: Event, report: Report, runs: bool) -> Iterator[Finding]:
    url = settings.source
    if url.startswith("kafka://"):
        return
    if not url.startswith("netflow://"):
        try:
            open_source(url).close()
        except EddylineError as error:
            yield Finding("wrong", "source", str(error))
        else:
            yield Finding("ok", "source", f"{url} opens")
        return
    try:
        source = open_netflow(url)
    except ConfigError as error:
        if runs and isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE:
            yield Finding("note", "source", f"{url} is taken, it seems by the service that runs",
                          "to hear exporters one by one, stop it and ask again")  # fmt: skip
        else:
            yield Finding("wrong", "source", str(error))
        return
    try:
        yield Finding("ok", "source", f"listens on UDP port {source.port}")
        yield _buffer(source.recv_buffer_bytes)
        if settings.seconds:
            exporters = _heard(source, "times=exporter" not in url, settings.seconds, stop, report)
            yield from exporters.findings(settings.seconds, f"UDP port {source.port}")
    finally:
        source.close()


def _buffer(granted: int) -> Finding:
    says = f"the kernel grants {granted / 2**20:.1f} MiB of receive buffer"
    if granted >= RECV_BUFFER_BYTES:
        return Finding("ok", "socket", says)
    limit = f", net.core.rmem_max is {int(_RMEM_MAX.read_text()):,}" if _RMEM_MAX.exists() else ""
    return Finding("note", "socket", f"{says}, {RECV_BUFFER_BYTES / 2**20:.0f} MiB are asked for{limit}",
                   f"a burst may be lost: `sysctl -w net.core.rmem_max={RECV_BUFFER_BYTES}`")  # fmt: skip


def _heard(source: NetflowSource, checked: bool, seconds: float, stop: Event, report: Report) -> Exporters:
    exporters, began = Exporters(checked), time.monotonic()
    while not stop.is_set() and (passed := time.monotonic() - began) < seconds:
        exporters.take(source.listen(), wall_clock())
        report("listening", int(passed), int(seconds), f"{len(exporters.seen)} exporters")
    exporters.take([], wall_clock(), last=True)
    return exporters


def _model(settings: DoctorSettings) -> Iterator[Finding]:
    try:
        model = load_models(settings.model, settings.device, settings.combine)
        folders = [model_folder(folder) for folder in settings.model]
        manifests = [read_manifest(folder) for folder in folders]
    except EddylineError as error:
        yield Finding("wrong", "model", str(error), "train one with `eddyline train`")
        return
    names = ", ".join(detector.name for detector in model.detectors)
    yield Finding("ok", "model", f"{model.fingerprint}: {names} on {model.device} ({chosen(settings.device).why})")
    for folder, manifest in zip(folders, manifests, strict=True):
        for difference in settings.windows.unlike(manifest.windows):
            yield Finding("wrong", f"model {folder}", difference, "give it the same, or run `eddyline calibrate`")
    fewest = min(known.pairs.n for known in (model.joint, *model.calibrations.values()) if known)
    if fewest < ENOUGH:
        yield Finding("note", "model", f"only {fewest:,} pair-minutes stand behind p, {ENOUGH:,} are enough",
                      "train or calibrate on more windows")  # fmt: skip


def _sink(url: str) -> Iterator[Finding]:
    if not url.startswith("file://"):
        if not url.startswith(("stdout:", "kafka://")):
            yield Finding("wrong", "sink", f"`{url}` is of no kind that is known", "give stdout: or file://FOLDER")
        return
    folder = Path(os.path.expanduser(url.removeprefix("file://").partition("?")[0])).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding("wrong", "sink", f"cannot write in `{there}`: {error.strerror or error}",
                      "make room, or give a folder that this user may write in")  # fmt: skip
        return
    free = shutil.disk_usage(there).free / 2**30
    level = "wrong" if free < _NONE_GIB else "note" if free < _LITTLE_GIB else "ok"
    remedy = "" if free >= _LITTLE_GIB else "a full disk ends the run: make room, or write elsewhere"
    yield Finding(level, "sink", f"{folder}: {free:,.1f} GiB free", remedy)  # type: ignore[arg-type]


def _metrics(address: str) -> Finding:
    if not address:
        return Finding("note", "metrics", "none", "give --metrics HOST:PORT to watch the service")
    try:
        with StatusServer(address, Status()):
            return Finding("ok", "metrics", f"http://{address}/metrics, /live and /ready")
    except ConfigError as error:  # a run that finds the default address taken goes on without it
        return Finding("note" if address == METRICS else "wrong", "metrics", str(error))
