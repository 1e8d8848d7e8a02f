"""A model is a folder that explains itself: `manifest.json`, and one subfolder per detector.

    artifacts/gae/manifest.json                   what it is, what it was trained on, how good it was
    artifacts/gae/gae/detector.json               sizes, features with units, scaler
    artifacts/gae/gae/weights.safetensors         weights and random projection
    artifacts/gae/gae/calibration.safetensors     scores of held-out benign flows
    artifacts/gae/memory.safetensors              habits and customs of the sites it was trained on

Nothing here executes anything on load: JSON and safetensors only.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eddyline.calibration import Calibration
from eddyline.combine import Method
from eddyline.contracts import Detector, Model
from eddyline.detectors import DETECTORS
from eddyline.devices import chosen
from eddyline.errors import ArtifactError
from eddyline.habits import LAG

MANIFEST: Final = "manifest.json"
CALIBRATION: Final = "calibration.safetensors"
MEMORY: Final = "memory.safetensors"
_OF_SITE: Final = "\x1f"  # between a site's name and an array's: no name has it
_LIBRARIES: Final = ("eddyline", "torch", "torch-geometric", "numpy", "numba", "pyarrow")


class Manifest(BaseModel):
    """What a model folder says of itself; a missing or unknown field is an error that names it.

    Args:
        schema_version: of this manifest.
        detectors: detector name to the number of benign flows it is calibrated on.
        pair_minutes: and of pairs in a window among them: the evidence behind a small p.
        windows: how the flows were cut in training; a service should cut the same way.
        lag: scoring reads the memory as it was `lag` + 1 windows before.
        training: source, rows, time span and settings of the training.
        metrics: what was measured on held-out benign windows.
        libraries: versions that wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    detectors: dict[str, int]
    pair_minutes: dict[str, int]
    windows: dict[str, float | int | str]
    lag: int = LAG
    training: dict[str, Any]
    metrics: dict[str, float]
    libraries: dict[str, str]


def libraries() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def load_models(folders: Sequence[Path], device: str, method: Method = "fisher", frozen: bool = False) -> Model:
    """Load model folders as one model; raises ArtifactError that names the folder, file or field at fault.

    Args:
        folders: each a model folder, or a folder with exactly one model folder in it. Sites start with what the first
            one remembers.
        device: torch device to put the weights on, or auto.
        method: how the detectors' p-values are combined.
        frozen: never learn, score everything with the habits that were saved.
    """
    device = chosen(device).device
    detectors: list[Detector] = []
    calibrations: dict[str, Calibration] = {}
    prints: list[str] = []
    for folder in map(model_folder, folders):
        for name in read_manifest(folder).detectors:
            if name in calibrations:
                raise ArtifactError(
                    f"model: detector `{name}` of `{folder}` is already loaded from another folder; give it once"
                )
            detectors.append(_load_detector(name, folder / name, device))
            calibrations[name] = Calibration.load(folder / name / CALIBRATION)
        prints.append(fingerprint(folder))
    joint = joint_file(folders)
    memories = _load_memories(model_folder(folders[0]) / MEMORY)
    joined = Calibration.load(joint) if joint else None
    return Model("+".join(prints), detectors, calibrations, joined, method, device, memories, frozen)


def _load_memories(file: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """By site; empty where the model was saved without any."""
    if not file.is_file():
        return {}
    try:
        parts = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"model: `{file}` cannot be read ({error}); train the model again") from error
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, part in parts.items():
        site, _, rest = name.partition(_OF_SITE)
        found.setdefault(site, {})[rest] = part
    return found


def joint_file(folders: Sequence[Path]) -> Path | None:
    """Return the calibration of the combined statistic, which only one folder with several detectors can have."""
    if len(folders) != 1:
        return None
    file = model_folder(folders[0]) / CALIBRATION
    return file if file.is_file() else None


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`; raises ArtifactError."""
    file = folder / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ArtifactError(f"model: no `{file}`; give a folder that `eddyline train` wrote") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"model: `{file}`: {field}: {first['msg']}") from error


def save_model(
    folder: Path,
    detectors: Mapping[Detector, Calibration],
    manifest: Manifest,
    joint: Calibration | None,
    memories: Mapping[str, Mapping[str, NDArray[Any]]],
) -> None:
    """Write a whole model folder, then put it in place of what was there: a reader sees the old or the new one."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    for detector, calibration in detectors.items():
        (fresh / detector.name).mkdir(parents=True)
        detector.save(fresh / detector.name)
        calibration.save(fresh / detector.name / CALIBRATION)
    if joint is not None:
        joint.save(fresh / CALIBRATION)
    named = {  # in C order: the library writes the bytes of an array as they lie and reads them back as if they lay so
        f"{site}{_OF_SITE}{name}": np.asarray(part, order="C")
        for site, parts in memories.items()
        for name, part in parts.items()
    }
    save_file(named, fresh / MEMORY)
    (fresh / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=2, sort_keys=True) + "\n")
    mode = (fresh / MANIFEST).stat().st_mode & 0o777
    for file in fresh.rglob("*.safetensors"):  # the library writes 0600; a service is often another user
        file.chmod(mode)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def fingerprint(folder: Path) -> str:
    """Hash every file of a model folder to 12 hex digits: equal means the same scores."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder).as_posix()}:{file.stat().st_size}:".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def model_folder(folder: Path) -> Path:
    """Return `folder`, or the one model folder in it; raises ArtifactError."""
    if (folder / MANIFEST).is_file():
        return folder
    inside = sorted(file.parent for file in folder.glob(f"*/{MANIFEST}"))
    if len(inside) == 1:
        return inside[0]
    found = (
        f"; it holds {', '.join(path.name for path in inside)}: name one"
        if inside
        else "; make one with `eddyline train`"
    )
    raise ArtifactError(f"model: `{folder}` is not a model folder{found}")


def _load_detector(name: str, folder: Path, device: str) -> Detector:
    if name not in DETECTORS:
        raise ArtifactError(f"model: unknown detector `{name}` in `{folder.parent}`; known are {', '.join(DETECTORS)}")
    module, kind = DETECTORS[name].split(":")
    detector: Detector = getattr(importlib.import_module(module), kind).load(folder, device)
    return detector
