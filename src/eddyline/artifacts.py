"""A model is a folder that explains itself: `manifest.json`, and one subfolder per detector.

    artifacts/gae/manifest.json                   what it is, what it was trained on, how good it was
    artifacts/gae/gae/detector.json               sizes, features with units, scaler
    artifacts/gae/gae/weights.safetensors         weights and random projection
    artifacts/gae/gae/calibration.safetensors     scores of held-out benign flows

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

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from eddyline.calibration import Calibration
from eddyline.combine import Method
from eddyline.contracts import Detector, Model
from eddyline.detectors import DETECTORS
from eddyline.errors import ArtifactError, ConfigError
from eddyline.habits import LAG

MANIFEST: Final = "manifest.json"
CALIBRATION: Final = "calibration.safetensors"
_LIBRARIES: Final = ("eddyline", "torch", "torch-geometric", "numpy", "pyarrow")


class Manifest(BaseModel):
    """What a model folder says of itself; a missing or unknown field is an error that names it.

    Args:
        schema_version: of this manifest.
        detectors: detector name to the number of benign flows it is calibrated on.
        windows: how the flows were cut in training; a service should cut the same way.
        lag: scoring reads the memory as it was `lag` + 1 windows before.
        training: source, rows, time span and settings of the training.
        metrics: what was measured on held-out benign windows.
        libraries: versions that wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    detectors: dict[str, int]
    windows: dict[str, float | int | str]
    lag: int = LAG
    training: dict[str, Any]
    metrics: dict[str, float]
    libraries: dict[str, str]


def libraries() -> dict[str, str]:
    """Return the versions of what a model depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def load_models(folders: Sequence[Path], device: str, method: Method = "half_cauchy") -> Model:
    """Load model folders as one model; raises ArtifactError that names the folder, file or field at fault.

    Args:
        folders: each a model folder, or a folder with exactly one model folder in it.
        device: torch device to put the weights on.
        method: how the detectors' p-values are combined.
    """
    if not device.startswith("cpu") and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise ConfigError(f"model: no device `{device}` here; give --device cpu, or cuda where torch finds a GPU")
    detectors: list[Detector] = []
    calibrations: dict[str, Calibration] = {}
    prints: list[str] = []
    for folder in map(_model_folder, folders):
        for name in read_manifest(folder).detectors:
            if name in calibrations:
                raise ArtifactError(
                    f"model: detector `{name}` of `{folder}` is already loaded from another folder; give it once"
                )
            detectors.append(_load_detector(name, folder / name, device))
            calibrations[name] = Calibration.load(folder / name / CALIBRATION)
        prints.append(fingerprint(folder))
    joint = joint_file(folders)
    return Model("+".join(prints), detectors, calibrations, Calibration.load(joint) if joint else None, method, device)


def joint_file(folders: Sequence[Path]) -> Path | None:
    """Return the calibration of the combined statistic, which only one folder with several detectors can have."""
    if len(folders) != 1:
        return None
    file = _model_folder(folders[0]) / CALIBRATION
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
    folder: Path, detectors: Mapping[Detector, Calibration], manifest: Manifest, joint: Calibration | None
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
    (fresh / MANIFEST).write_text(json.dumps(manifest.model_dump(), indent=2, sort_keys=True) + "\n")
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


def _model_folder(folder: Path) -> Path:
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
