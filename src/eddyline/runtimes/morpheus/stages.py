# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""What `morpheus run pipeline-other` finds through the entry point: importing a stage registers its command."""

from eddyline.runtimes.morpheus.combine_stage import CombinePredictionsStage
from eddyline.runtimes.morpheus.graph_stage import GraphConstructionStage
from eddyline.runtimes.morpheus.inference_stage import GaeInferenceStage
from eddyline.runtimes.morpheus.sink_stage import SinkStage
from eddyline.runtimes.morpheus.source_stage import FlowSourceStage
from eddyline.runtimes.morpheus.window_stage import WindowStage

__all__ = [
    "CombinePredictionsStage", "FlowSourceStage", "GaeInferenceStage", "GraphConstructionStage", "SinkStage",
    "WindowStage",
]  # fmt: skip
