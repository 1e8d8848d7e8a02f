# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The last stage: scored flows, alerts and dead letters to any Eddyline sinks."""

import typing
from contextlib import ExitStack

from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes

from eddyline.contracts import Sink
from eddyline.runtimes.morpheus.stage import EddylineStage, Work
from eddyline.runtimes.morpheus.steps import Writing
from eddyline.sinks import open_sink


@register_stage("to-sinks", modes=[PipelineModes.OTHER])
class SinkStage(EddylineStage):
    """Write scored flows and alerts to sinks; only what they have is committed at the source.

    The last commit is made when every stage has ended, which Morpheus also says after a failure; then it covers what
    had been written, and the rest comes again after a restart.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    sink : typing.List[str]
        URLs to write to: file://out, kafka://broker:9092/topic, stdout:.
    """

    def __init__(self, c: Config, sink: typing.List[str]):
        super().__init__(c)
        self._urls = list(sink)
        self._sinks: typing.List[Sink] = []  # none before the pipeline is built

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "to-sinks"

    async def join(self) -> None:
        """Commit the end of the stream, if it came here, and close the sinks; raises what had to wait until now."""
        await super().join()
        with ExitStack() as ends:
            ends.callback(self.feed.leave)
            for sink in self._sinks:
                ends.callback(sink.close)
            self._writing.finish()
        if self.feed.errors:
            raise self.feed.errors[0]

    def _open(self) -> None:
        live, again = self.feed.flush.seconds is not None, self.feed.replays
        for url in self._urls:
            self._sinks.append(open_sink(url, live=live, replays=again))
        self._writing = Writing(self._sinks)

    def _work(self) -> Work:
        return self._writing
