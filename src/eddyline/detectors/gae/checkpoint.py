"""What a training carries from epoch to epoch, written after each of them: safetensors and JSON, no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from eddyline.config import TrainSettings
from eddyline.detectors.gae.model import GuidedGae
from eddyline.errors import ArtifactError

_SAME: Final = (
    "source", "windows", "recipe", "hidden", "seed", "learning_rate", "epochs", "batch", "calibrate", "until"
)  # fmt: skip


class Progress:
    """Weights, optimiser and the best epoch so far; resumes by itself from `folder` if that is of the same training.

    Args:
        model: what is trained. settings: of the training. folder: where the checkpoint lies.
        fitted: what was fitted to the training data, as JSON: other data under the same name starts afresh.
    """

    def __init__(self, model: GuidedGae, settings: TrainSettings, folder: Path, fitted: str) -> None:
        self.model, self._folder = model, folder
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate)
        self.epoch, self.stale = 0, 0
        self.measured: dict[str, float] = {}
        self.best = _copied(model.state_dict())
        self._facts = {key: settings.model_dump(mode="json")[key] for key in _SAME} | {"fitted": fitted}
        if (folder / "state.json").is_file():
            self._resume()

    def keep(self, epoch: int, measured: dict[str, float]) -> None:
        """Note this epoch; remember its weights if the held-out loss is the lowest so far."""
        self.epoch, self.stale = epoch + 1, self.stale + 1
        if measured["held_out_loss"] < self.measured.get("held_out_loss", float("inf")):
            self.measured, self.best, self.stale = measured, _copied(self.model.state_dict()), 0
        self._folder.mkdir(parents=True, exist_ok=True)
        moments = {
            f"{index}.{key}": value
            for index, each in self.optimizer.state_dict()["state"].items()
            for key, value in each.items()
        }
        parts = {"weights": self.model.state_dict(), "best": self.best, "moments": moments}
        for name, tensors in parts.items():
            save_file(
                {key: value.contiguous() for key, value in tensors.items()},
                self._folder / f"{name}.{self.epoch}.safetensors",
            )
        text = json.dumps({"facts": self._facts, "epoch": self.epoch, "stale": self.stale, "measured": self.measured})
        (self._folder / ".state.json").write_text(text)
        os.replace(self._folder / ".state.json", self._folder / "state.json")  # the epoch counts from here on
        for old in self._folder.glob("*.safetensors"):
            if old.name.split(".")[1] != str(self.epoch):
                old.unlink()

    def _resume(self) -> None:
        found = json.loads((self._folder / "state.json").read_text())
        if found["facts"] != self._facts:
            return  # left by a training with other settings: it is overwritten by the first epoch of this one
        self.epoch, self.stale, self.measured = found["epoch"], found["stale"], found["measured"]
        try:
            weights, self.best, moments = (
                load_file(self._folder / f"{name}.{self.epoch}.safetensors") for name in ("weights", "best", "moments")
            )
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"train: checkpoint `{self._folder}` is damaged ({error}); delete it") from error
        self.model.load_state_dict(weights)
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {}
        for key, value in moments.items():
            index, field = key.split(".")
            optimizer["state"].setdefault(int(index), {})[field] = value
        self.optimizer.load_state_dict(optimizer)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}
