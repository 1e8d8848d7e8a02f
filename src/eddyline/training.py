"""Train on benign flows only, calibrate on later ones, save one folder that explains itself.

Windows are cut as in the service. The first part of them, in time order, trains; the rest stops the training early and
gives the calibration. Whatever is fitted sees benign training rows only; rows without a label count as benign.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from eddyline.artifacts import Manifest, libraries, load_models, read_manifest, save_model
from eddyline.calibration import Calibration
from eddyline.combine import combine
from eddyline.config import CalibrateSettings, Settings, TrainSettings
from eddyline.contracts import Detector
from eddyline.devices import chosen
from eddyline.errors import ConfigError, redact
from eddyline.graphs import FlowGraph, columns_of
from eddyline.habits import judged
from eddyline.scoring import Memory, remembered, strangeness
from eddyline.sources import open_source
from eddyline.windows import Window, Windower

T = TypeVar("T")
Report: TypeAlias = Callable[[str, int, int, str], None]  # what is being done, so much, of so much, in words
RECIPES: Final = {
    "habits": "eddyline.detectors.habits.recipe:fit",
    "gae": "eddyline.detectors.gae.recipes:fit",
}  # (train, held out, settings, checkpoint, report) to the detector, windows it can be calibrated on, metrics
_NATS: Final = 1.0  # least scale of the tail of a sum of surprises in nats


def train(settings: TrainSettings, report: Report) -> Manifest:
    """Train `settings.detector`, write the folder `settings.model`; raises ConfigError for too little benign data."""
    unknown = sorted(set(settings.detector) - set(RECIPES))
    if unknown:
        raise ConfigError(f"train: unknown detector `{unknown[0]}`; known are {', '.join(RECIPES)}")
    settings = settings.model_copy(update={"device": chosen(settings.device).device})
    windows = benign_windows(settings, settings.until, report)
    graphs, memories = remember(windows, settings.device, report)
    training, held = _split(graphs, settings.calibrate)
    checkpoint = settings.model.with_name(f".{settings.model.name}.checkpoint")
    detectors: dict[Detector, Sequence[FlowGraph]] = {}
    metrics: dict[str, float] = {}
    for name in settings.detector:
        module, function = RECIPES[name].split(":")
        fit = getattr(importlib.import_module(module), function)
        detector, fresh, measured = fit(training, held, settings, checkpoint / name, report)
        detectors[detector] = fresh
        metrics |= {f"{name}_{key}": value for key, value in measured.items()}
    calibrations, joint = _calibrated(detectors, report)
    for memory in memories.values():
        memory.drift.sources = _sources(held)
    manifest = _manifest(settings, windows, len(training), calibrations, metrics)
    save_model(settings.model, calibrations, manifest, joint, _parts(memories))
    _remove(checkpoint)
    return manifest


def remember(windows: Sequence[Window], device: str, report: Report) -> tuple[list[FlowGraph], dict[str, Memory]]:
    """Live through benign windows in time order: each as the memory saw it when it was new, and the memory after."""
    memories: dict[str, Memory] = {}
    taught: dict[str, set[int]] = {}
    graphs = []
    for number, window in enumerate(windows):
        memory = memories.get(window.site) or Memory.empty()
        graph, now = remembered(window, memory.habits, device)
        graphs.append(graph)
        habits = memory.habits.after(graph.conversations(), columns_of(graph), now, np.ones(len(window)))
        if window.start_us is not None:
            taught.setdefault(window.site, set()).add(now)
        memories[window.site] = Memory(habits, memory.drift)
        if number % 100 == 99 or number == len(windows) - 1:
            report("learning habits", number + 1, len(windows), f"{number + 1:,} windows")
    for site, memory in memories.items():
        memory.habits.taught = frozenset(taught.get(site, ()))
    return graphs, memories


def _calibrated(
    detectors: Mapping[Detector, Sequence[FlowGraph]], report: Report
) -> tuple[dict[Detector, Calibration], Calibration | None]:
    """Calibrate each detector on the windows that were new to it, and what they say together on those new to all."""
    found: dict[Detector, Calibration] = {}
    common = min(detectors.values(), key=len)
    together = []
    for detector, fresh in detectors.items():
        report("calibrating", len(found) + 1, len(detectors), detector.name)
        raw = [_scores(detector, [graph]) for graph in fresh]
        found[detector] = Calibration.of(np.concatenate(raw), pair_minutes(fresh), detector.least_scale)
        together.append(found[detector].p(np.concatenate(raw[-len(common) :])))
    if len(detectors) < 2:
        return found, None
    return found, Calibration.of(strangeness(combine(together, "fisher")), pair_minutes(common), _NATS)


def pair_minutes(graphs: Sequence[FlowGraph]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of the pair and window that each flow belongs to, over all flows of all graphs."""
    numbers, first = [], 0
    for graph in graphs:
        pairs, of_edge = graph.pairs()
        numbers.append(of_edge.cpu().numpy() + first)
        first += pairs.shape[1]
    return np.concatenate(numbers)


def _sources(graphs: Sequence[FlowGraph]) -> float:
    """Mean number of sources in a window."""
    return float(np.mean([len(np.unique(graph.conversations().source)) for graph in graphs]))


def _parts(memories: Mapping[str, Memory]) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
    return {site: memory.parts() for site, memory in memories.items()}


def calibrate(settings: CalibrateSettings, report: Report) -> Manifest:
    """Keep the weights of `settings.model`, calibrate on every benign window of the source, write `settings.out`."""
    model = load_models([settings.model], settings.device)
    windows = benign_windows(settings, None, report)
    graphs, memories = remember(windows, model.device, report)
    fresh = judged(graphs)
    detectors, joint = _calibrated({detector.refitted(fresh): fresh for detector in model.detectors}, report)
    for memory in memories.values():
        memory.drift.sources = _sources(fresh)
    old = read_manifest(settings.model)
    found = {"source": _name_of(settings.source), "rows": sum(map(len, windows)), "fingerprint": _fingerprint(windows)}
    manifest = old.model_copy(
        update={
            "detectors": {detector.name: fitted.flows.n for detector, fitted in detectors.items()},
            "pair_minutes": {detector.name: fitted.pairs.n for detector, fitted in detectors.items()},
            "training": {**old.training, "recalibrated": found},
            "windows": settings.windows.model_dump(),
            "libraries": libraries(),
        }
    )
    save_model(settings.out, detectors, manifest, joint, _parts(memories))
    return manifest


def benign_windows(settings: Settings, until: str | None, report: Report) -> list[Window]:
    """Cut the source into windows and keep their benign rows, in time order; raises ConfigError if nothing is left."""
    limit = _time(until)
    windower = Windower(settings.windows.settings())
    found: list[Window] = []
    with closing(open_source(settings.source)) as source:
        rows = 0
        for batch in source:
            rows += len(batch)
            report("reading", rows, 0, f"{rows:,} flows")
            table = batch.table if limit is None else batch.table.filter(pc.less(batch.table["ts_end"], limit))
            found.extend(windower.add(replace(batch, table=table)).closed)
        found.extend(windower.finish().closed)
    kept = [window for window in map(_benign, found) if len(window)]
    if not kept:
        raise ConfigError(
            f"train: no benign flow in `{_name_of(settings.source)}` ({rows} flows read); only rows labelled benign, "
            "or without a label, are used"
        )
    return sorted(
        kept, key=lambda window: (window.start_us is not None, window.start_us or 0, window.late, window.part)
    )


def _benign(window: Window) -> Window:
    label = window.flows["label"]
    if label.null_count == len(label):
        return window
    benign = pc.or_(pc.is_null(label), pc.equal(label.cast(pa.utf8()), "benign"))
    return replace(window, flows=window.flows.filter(pc.fill_null(benign, True)))


def _split(windows: Sequence[T], share: float) -> tuple[Sequence[T], Sequence[T]]:
    if len(windows) < 2:
        raise ConfigError(
            "train: only one window with benign flows; give a longer source, or shorter windows with "
            "--windows.length-s or --windows.count"
        )
    cut = min(max(1, round(len(windows) * (1 - share))), len(windows) - 1)
    return windows[:cut], windows[cut:]


def _scores(detector: Detector, graphs: Sequence[FlowGraph]) -> np.ndarray[Any, np.dtype[np.float32]]:
    with torch.inference_mode():
        return np.concatenate([detector.score(graph).to("cpu", torch.float32).numpy() for graph in graphs])


def _manifest(
    settings: TrainSettings,
    windows: Sequence[Window],
    trained: int,
    detectors: dict[Detector, Calibration],
    metrics: dict[str, float],
) -> Manifest:
    times = [window.start_us for window in windows if window.start_us is not None]
    recipe = settings.model_dump(
        include={
            "recipe",
            "epochs",
            "patience",
            "windows_per_epoch",
            "batch",
            "learning_rate",
            "hidden",
            "seed",
            "calibrate",
        }
    )
    return Manifest(
        detectors={detector.name: fitted.flows.n for detector, fitted in detectors.items()},
        pair_minutes={detector.name: fitted.pairs.n for detector, fitted in detectors.items()},
        windows=settings.windows.model_dump(),
        training={
            "source": _name_of(settings.source),
            "rows": sum(map(len, windows)),
            "windows": len(windows),
            "windows_trained_on": trained,
            "first_window": str(datetime.fromtimestamp(min(times) / 1e6, UTC)) if times else None,
            "last_window": str(datetime.fromtimestamp(max(times) / 1e6, UTC)) if times else None,
            "fingerprint": _fingerprint(windows),
            **recipe,
        },
        metrics=metrics,
        libraries=libraries(),
    )


def _name_of(url: str) -> str:
    """The source without the folders of the machine that trained: a manifest travels."""
    scheme, found, rest = url.partition("://")
    path, question, options = (rest if found else scheme).partition("?")
    name = path if scheme == "simulate" else Path(path).name
    return redact(f"{scheme}://{name}{question}{options}") if found else name


def _fingerprint(windows: Sequence[Window]) -> str:
    """Hash of the training flows' times and counters: the same data, the same 12 digits."""
    digest = hashlib.sha256()
    for column in _numbers(windows):
        digest.update(column.tobytes())
    return digest.hexdigest()[:12]


def _numbers(windows: Sequence[Window]) -> Iterator[np.ndarray[Any, Any]]:
    for window in windows:
        for name in ("ts_end", "dst_port", "bytes", "packets"):
            yield window.flows[name].cast(pa.int64()).fill_null(-1).to_numpy()


def _time(text: str | None) -> pa.Scalar | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"train: --until `{text}` is no ISO 8601 time; write 2026-01-31T00:00:00Z") from error
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    return pa.scalar(aware, pa.timestamp("us", tz="UTC"))


def _remove(checkpoint: Path) -> None:
    for file in sorted(checkpoint.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    if checkpoint.exists():
        checkpoint.rmdir()
