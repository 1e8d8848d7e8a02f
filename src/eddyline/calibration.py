"""A detector's raw score to a conformal p-value: the share of held-out benign flows that look at least as strange."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from eddyline.combine import Floats
from eddyline.errors import ArtifactError, ConfigError

LIMIT: Final = 200_000  # scores kept; beyond it the ordinary ones are thinned, the strangest 20,000 never
_TAIL: Final = 20_000


@dataclass(frozen=True, slots=True)
class Calibration:
    """Raw scores of benign flows that the detector was not trained on.

    If a new benign flow is exchangeable with them, P(p <= a) <= a for every a (Vovk, Gammerman & Shafer 2005, ch. 2);
    a network that changes is not, which is why what a threshold achieves is measured and shown.

    Args:
        scores: distinct scores, ascending, float32 (K,).
        at_least: how many of the n flows score more than `scores[k - 1]` (all of them for k = 0), int64 (K,).
    """

    scores: NDArray[np.float32]
    at_least: NDArray[np.int64]

    @classmethod
    def of(cls, raw: NDArray[np.float32]) -> Calibration:
        """Calibrate on `raw` (n,): scores of held-out benign flows in any order. Raises ConfigError if empty or NaN."""
        if not len(raw):
            raise ConfigError(
                "calibration: no benign flow is left to calibrate on; give `eddyline train` a longer source"
            )
        if not np.isfinite(raw).all():
            raise ConfigError(f"calibration: {int((~np.isfinite(raw)).sum())} of {len(raw)} scores are not finite")
        scores, counts = np.unique(np.asarray(raw, np.float32), return_counts=True)
        at_least = counts[::-1].cumsum()[::-1].astype(np.int64)
        if len(scores) > LIMIT:
            last = len(scores) - 1
            kept = np.unique(np.r_[np.linspace(0, last, LIMIT - _TAIL).astype(np.int64), last - np.arange(_TAIL)])
            # Whoever falls into a thinned gap counts all of it as stranger: p errs upwards, never downwards.
            at_least = at_least[np.r_[0, kept[:-1] + 1]]
            scores = scores[kept]
        return cls(scores, at_least)

    @property
    def flows(self) -> int:
        """How many benign flows n stand behind it; p never goes below 1 / (n + 1)."""
        return int(self.at_least[0])

    def p(self, raw: NDArray[np.float32]) -> Floats:
        """Conformal p-values (E,) of raw scores (E,): (1 + number of benign scores >= raw) / (n + 1), in (0, 1]."""
        place = np.searchsorted(self.scores, np.asarray(raw, np.float32), side="left")
        beyond = np.append(self.at_least, 0)[place]
        return np.asarray((1.0 + beyond) / (self.flows + 1.0), np.float64)

    def save(self, file: Path) -> None:
        """Write one safetensors file."""
        save_file({"scores": self.scores, "at_least": self.at_least}, file)

    @classmethod
    def load(cls, file: Path) -> Calibration:
        """Read it back; raises ArtifactError that names the file."""
        try:
            tensors = load_file(file)
            return cls(tensors["scores"], tensors["at_least"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ArtifactError(f"calibration: `{file}` cannot be read ({error}); run `eddyline calibrate`") from error
