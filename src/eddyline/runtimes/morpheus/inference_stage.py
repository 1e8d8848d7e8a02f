# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The fourth stage: what the detectors make of a graph."""

import pathlib
import typing

from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes

from eddyline.combine import Method
from eddyline.errors import ConfigError
from eddyline.runtimes import use_threads
from eddyline.runtimes.embedded import open_model
from eddyline.runtimes.morpheus.preflight import check, look_around
from eddyline.runtimes.morpheus.stage import EddylineStage, Work
from eddyline.runtimes.morpheus.steps import Detecting


@register_stage("gae-inference", modes=[PipelineModes.OTHER])
class GaeInferenceStage(EddylineStage):
    """Score every flow with the detectors of a model: the guided graph autoencoder, the habits, or what the folder has.

    The habits of a site are read here and updated after the predictions are combined, always with the same lag of one
    window, so that both stages work at once and the scores are those of one thread.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    model : typing.List[pathlib.Path]
        Model folders; several are combined.
    device : str, default = "cpu"
        Torch device: cpu, cuda, cuda:1.
    combine : str, default = "fisher"
        How several detectors become one p: "fisher" or "half_cauchy".
    habits : str, default = "causal"
        "causal" learns while running, "frozen" keeps the habits that were saved with the model.
    threads : int, default = 1
        CPU threads for the model, 0 takes all cores.
    """

    def __init__(
        self, c: Config, model: typing.List[pathlib.Path], device: str = "cpu", combine: str = "fisher",
        habits: str = "causal", threads: int = 1,
    ):  # fmt: skip
        super().__init__(c)
        if combine not in typing.get_args(Method):
            raise ConfigError(f"model: combine={combine}; give {' or '.join(typing.get_args(Method))}")
        if habits not in ("causal", "frozen"):
            raise ConfigError(f"model: habits={habits}; give causal or frozen")
        self._folders, self._device, self._threads = list(model), device, threads
        self._method: Method = typing.cast(Method, combine)
        self._frozen = habits == "frozen"

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "gae-inference"

    def _open(self) -> None:
        if self._device.startswith("cuda"):
            check(look_around(), self._device)
        use_threads(self._threads)
        model = open_model(self._folders, self._device, self._method, self._frozen, self.feed.windows)
        self.feed.model = model
        self._detecting = Detecting(model)

    def _work(self) -> Work:
        return self._detecting
