# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The second stage: windows of event time."""

import typing

from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes

from eddyline.config import WindowConfig
from eddyline.errors import ConfigError
from eddyline.runtimes.morpheus.carried import Carried
from eddyline.runtimes.morpheus.stage import EddylineStage, Work
from eddyline.runtimes.morpheus.steps import Windowing, guarded


@register_stage("flow-windows", modes=[PipelineModes.OTHER])
class WindowStage(EddylineStage):
    """Cut flows into windows, one for each site and stretch of event time.

    A window closes when the watermark passes its end; on a graceful stop all that are open close, but for a source
    that a later run reads on from. Behind the windows of a batch goes a mark that says how far may be committed.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    length_s : float, default = 60.0
        Length of a window, seconds of event time.
    lateness_s : float, default = 10.0
        How long a window waits for stragglers, seconds of event time.
    max_flows : int, default = 1000000
        Flows at which a window is closed early, in parts.
    by : str, default = "time"
        Cut by "time", or by "count" of rows.
    count : int, default = 10000
        Rows of a window that is cut by count.
    """

    def __init__(
        self, c: Config, length_s: float = 60.0, lateness_s: float = 10.0, max_flows: int = 1_000_000,
        by: str = "time", count: int = 10_000,
    ):  # fmt: skip
        super().__init__(c)
        if by not in ("time", "count"):
            raise ConfigError(f"windows: by={by}; give time or count")
        asked = {"by": by, "length_s": length_s, "lateness_s": lateness_s, "max_flows": max_flows, "count": count}
        self._windows = WindowConfig.model_validate(asked)
        self._windowing = Windowing(self._windows.settings())

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "flow-windows"

    def _open(self) -> None:
        self.feed.windows = self._windows

    def _work(self) -> Work:
        return self._windowing

    def _flush(self) -> typing.List[Carried]:
        return guarded(lambda: self._windowing.finish(self.feed), self.feed)
