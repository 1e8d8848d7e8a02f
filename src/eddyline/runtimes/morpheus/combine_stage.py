# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The fifth stage: one p-value for each flow, and alerts."""

from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes

from eddyline.config import AlertConfig
from eddyline.runtimes.morpheus.stage import EddylineStage, Work
from eddyline.runtimes.morpheus.steps import Combining


@register_stage("combine-predictions", modes=[PipelineModes.OTHER])
class CombinePredictionsStage(EddylineStage):
    """Calibrate and combine the detectors' scores into one p-value for each flow, and group strange flows into alerts.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    p : float, default = 0.001
        Flows with a p-value at or below it may become alerts.
    lone : float, default = 30.0
        How many times stranger than that a single flow must be to be an alert.
    per_hour : int, default = 10
        New alerts per hour of event time.
    per_day : int, default = 20
        New alerts per day of event time.
    services : int, default = 4
        Services of one host in a window beyond which they are one alert.
    reasons : int, default = 3
        Reasons per alert.
    """

    def __init__(
        self, c: Config, p: float = 1e-3, lone: float = 30.0, per_hour: int = 10, per_day: int = 20,
        services: int = 4, reasons: int = 3,
    ):  # fmt: skip
        super().__init__(c)
        asked = {
            "p": p, "lone": lone, "per_hour": per_hour, "per_day": per_day, "services": services, "reasons": reasons,
        }  # fmt: skip
        self._combining = Combining(AlertConfig.model_validate(asked).settings())

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "combine-predictions"

    def _work(self) -> Work:
        return self._combining
