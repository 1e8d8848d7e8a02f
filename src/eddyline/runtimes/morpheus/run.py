# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The runtime: builds the pipeline of a run and stays with it until it ends."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from typing import Final

from morpheus.config import Config, ExecutionMode, PipelineModes
from morpheus.pipeline import LinearPipeline
from morpheus.pipeline.pipeline import PipelineState
from morpheus.utils.logger import configure_logging, reset_logging

from eddyline.config import RunSettings
from eddyline.errors import ConfigError
from eddyline.metrics import Counts
from eddyline.runtimes.morpheus.combine_stage import CombinePredictionsStage
from eddyline.runtimes.morpheus.graph_stage import GraphConstructionStage
from eddyline.runtimes.morpheus.inference_stage import GaeInferenceStage
from eddyline.runtimes.morpheus.preflight import check, look_around
from eddyline.runtimes.morpheus.sink_stage import SinkStage
from eddyline.runtimes.morpheus.source_stage import FlowSourceStage
from eddyline.runtimes.morpheus.window_stage import WindowStage

_POLL_S: Final = 0.2
_EDGE: Final = 4  # messages between two stages, a window each: Morpheus' own 128 would be minutes of delay


def run(settings: RunSettings, stop: Event, report: Callable[[Counts], None]) -> Counts:
    """Run the path as a Morpheus pipeline until the source ends, `stop` is set or a signal comes; main thread only.

    Raises:
        ConfigError: what cannot work here, before anything is read. Else what the first failing stage raised.
    """
    if settings.delivery != "at_least_once":
        raise ConfigError("config: `delivery` = exactly_once is not for runtime morpheus; give --runtime embedded")
    if settings.device.startswith("cuda"):
        check(look_around(), settings.device)
    with _logging():
        pipeline, source = build(settings)
        return asyncio.run(_stay(pipeline, source, stop, report))


def build(settings: RunSettings) -> tuple[LinearPipeline, FlowSourceStage]:
    """Put the stages in their order; opens nothing yet."""
    config = Config()
    config.execution_mode = ExecutionMode.GPU if settings.device.startswith("cuda") else ExecutionMode.CPU
    config.mode = PipelineModes.OTHER
    # Morpheus binds its threads to the cores 0 to num_threads - 1 and fails where none of these is ours.
    config.num_threads = max(os.sched_getaffinity(0)) + 1
    config.edge_buffer_size = _EDGE
    windows, alerts = settings.windows.model_dump(), settings.alerts.model_dump()
    pipeline = LinearPipeline(config)
    source = FlowSourceStage(config, settings.source, settings.queue, settings.flush_flows, settings.flush_s)
    pipeline.set_source(source)
    pipeline.add_stage(WindowStage(config, **windows))
    pipeline.add_stage(GraphConstructionStage(config, settings.device))
    pipeline.add_stage(
        GaeInferenceStage(
            config, settings.model, settings.device, settings.combine, settings.habits, settings.threads
        )
    )  # fmt: skip
    pipeline.add_stage(CombinePredictionsStage(config, **alerts))
    pipeline.add_stage(SinkStage(config, settings.sink))
    return pipeline, source


async def _stay(
    pipeline: LinearPipeline, source: FlowSourceStage, stop: Event, report: Callable[[Counts], None]
) -> Counts:
    running = asyncio.create_task(pipeline.run_async())
    began = asyncio.get_running_loop().time()
    while not running.done():
        await asyncio.wait([running], timeout=_POLL_S)
        if pipeline.state is PipelineState.STARTED and stop.is_set():
            pipeline.stop()
        elif pipeline.state is PipelineState.STOPPED:
            stop.set()  # by a signal; whoever watches the run shall know that it takes no more flows
        if pipeline.state is not PipelineState.INITIALIZED:
            source.feed.counts.seconds = asyncio.get_running_loop().time() - began
            report(source.feed.counts)
    await running
    return source.feed.counts


@contextmanager
def _logging() -> Iterator[None]:
    """Let Morpheus log warnings; its thread is also what takes signals while MRC's executor blocks them in ours.

    Raises ConfigError where its file, under $HOME, cannot be written.
    """
    try:
        configure_logging(log_level=logging.WARNING)
    except OSError as error:
        raise ConfigError(f"morpheus: cannot write its log: {error}; set HOME to a folder that is writable") from error
    try:
        yield
    finally:
        reset_logging()
