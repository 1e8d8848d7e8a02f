# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""The first stage: flows of any Eddyline source."""

import os
import queue as queues
import signal
import typing

import mrc
from morpheus.cli.register_stage import register_stage
from morpheus.config import Config, PipelineModes
from morpheus.messages import ControlMessage
from morpheus.pipeline.execution_mode_mixins import GpuAndCpuMixin
from morpheus.pipeline.single_output_source import SingleOutputSource
from morpheus.pipeline.stage_schema import StageSchema

from eddyline.errors import redact
from eddyline.runtimes.morpheus.carried import Knock, put
from eddyline.runtimes.morpheus.feeds import open_feed
from eddyline.runtimes.morpheus.stream import Feed, FlushSettings

_POLL_S = 0.1


@register_stage("from-flows", modes=[PipelineModes.OTHER])
class FlowSourceStage(GpuAndCpuMixin, SingleOutputSource):
    """Read flows from any Eddyline source: NetFlow, a topic of Kafka, a file or the simulator.

    A thread of its own reads; what goes down the pipeline only says that a batch waits. A value that Morpheus drops
    when it is stopped is therefore no lost batch: the window stage takes what still waits when it is told of the end.
    A live source sends an empty batch with its clock at least once a second, so that windows close in a quiet network.

    Parameters
    ----------
    c : `morpheus.config.Config`
        Pipeline configuration instance.
    source : str
        URL to read from: netflow://:2055, file://x.parquet, kafka://broker:9092/topic, simulate://office.
    queue : int, default = 4
        Batches that may wait.
    flush_flows : int, default = 100000
        Flows after which sinks write and the source commits.
    flush_s : float, default = 2.0
        Seconds after which the sinks of a live source write and it commits.
    """

    feed: Feed

    def __init__(self, c: Config, source: str, queue: int = 4, flush_flows: int = 100_000, flush_s: float = 2.0):
        super().__init__(c)
        self._url, self._queue = source, queue
        self._flush = FlushSettings(flush_flows, flush_s)
        self._cores: typing.Set[int] = set()

    def __str__(self) -> str:
        return redact(super().__str__())  # Morpheus logs the arguments of every constructor

    __repr__ = __str__

    @property
    def name(self) -> str:
        """Name of the stage in logs."""
        return "from-flows"

    def supports_cpp_node(self) -> bool:
        """There is no C++ form of this stage."""
        return False

    def compute_schema(self, schema: StageSchema) -> None:
        """Declare control messages, and open the source: here an error still leaves `Pipeline.run` as it is."""
        schema.output_schema.set_type(ControlMessage)
        self._cores = os.sched_getaffinity(0)
        self.feed = open_feed(self._url, self._flush, self._queue)

    async def start_async(self) -> None:
        """Let SIGINT and SIGTERM through to the main thread again: the constructor of MRC's executor blocks them."""
        await super().start_async()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def stop(self) -> None:
        """Read no more; what was read drains through the stages."""
        super().stop()
        self.feed.close()

    async def join(self) -> None:
        """End the reading thread, after a failure too. The source still takes commits: the sink's come later."""
        await super().join()
        self.feed.give_up()

    def _build_source(self, builder: mrc.Builder) -> mrc.SegmentObject:
        return builder.make_source(self.unique_name, self._knocks)

    def _knocks(self, subscription: mrc.Subscription) -> typing.Iterator[ControlMessage]:
        os.sched_setaffinity(0, self._cores)  # the reading thread inherits it
        self.feed.start()
        while subscription.is_subscribed() and not self.feed.errors:
            try:
                yield put(ControlMessage(), Knock(self.feed.knocks.get(timeout=_POLL_S)))
            except queues.Empty:
                if self.feed.ended and self.feed.knocks.empty():
                    break
        if self.feed.errors:
            raise self.feed.errors[0]
