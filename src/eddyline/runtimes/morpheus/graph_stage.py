# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The third stage: a window as a graph."""

from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes

from eddyline.runtimes.morpheus.stage import EddylineStage, Work
from eddyline.runtimes.morpheus.steps import Graphing


@register_stage("graph-construction", modes=[PipelineModes.OTHER])
class GraphConstructionStage(EddylineStage):
    """Build the graph of every window: hosts are nodes, every flow is an edge, edge i is row i.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    device : str, default = "cpu"
        Torch device: cpu, cuda, cuda:1. On cuda the columns go through cuDF.
    """

    def __init__(self, c: Config, device: str = "cpu"):
        super().__init__(c)
        self._graphing = Graphing(device)

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "graph-construction"

    def _work(self) -> Work:
        return self._graphing
