# No `from __future__ import annotations` here: Morpheus reads the annotations of stages as types.
"""What our stages have in common: how one of the steps becomes a node of a Morpheus pipeline."""

import os
import signal
import typing

import mrc
from morpheus.messages import ControlMessage
from morpheus.pipeline.execution_mode_mixins import GpuAndCpuMixin
from morpheus.pipeline.single_port_stage import SinglePortStage
from morpheus.pipeline.stage_base import StageBase
from morpheus.pipeline.stage_schema import StageSchema
from mrc.core import operators as ops

from eddyline.errors import ConfigError, redact
from eddyline.runtimes.morpheus.carried import Carried, put, take
from eddyline.runtimes.morpheus.stream import Feed

Work = typing.Callable[[Carried, typing.Callable[[], bool]], typing.Iterator[Carried]]


class EddylineStage(GpuAndCpuMixin, SinglePortStage):
    """A node that does one step of the path on its own thread, control messages in and out.

    A subclass opens what it needs in `_open`, which runs on the main thread before anything is read, so that a wrong
    configuration stops the pipeline at once and with its own error. It opens nothing in its constructor.
    """

    feed: Feed
    _cores: typing.Set[int]
    _pinned: bool = True

    def __str__(self) -> str:
        return redact(super().__str__())  # Morpheus logs the arguments of every constructor

    __repr__ = __str__

    def accepted_types(self) -> typing.Tuple[type, ...]:
        """Types that this stage takes."""
        return (ControlMessage,)

    def compute_schema(self, schema: StageSchema) -> None:
        """Declare control messages and open what the stage needs: here an error still leaves `Pipeline.run` as is."""
        schema.output_schema.set_type(ControlMessage)
        self._cores = os.sched_getaffinity(0)  # of the main thread, which Morpheus does not pin
        self.feed = feed_of(self)
        self._open()

    def supports_cpp_node(self) -> bool:
        """There is no C++ form of this stage."""
        return False

    async def start_async(self) -> None:
        """Let SIGINT and SIGTERM through to the main thread again: the constructor of MRC's executor blocks them."""
        await super().start_async()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def _open(self) -> None:
        """Open what the stage needs; raises ConfigError."""

    def _work(self) -> Work:
        """Return the step."""
        raise NotImplementedError

    def _flush(self) -> typing.List[Carried]:
        """Return what is left when the input has ended. Must not raise."""
        return []

    def _build_single(self, builder: mrc.Builder, input_node: mrc.SegmentObject) -> mrc.SegmentObject:
        node = builder.make_node(self.unique_name, ops.build(self._subscribed))
        builder.make_edge(input_node, node)
        return node

    def _subscribed(self, obs: mrc.Observable, sub: mrc.Subscriber) -> None:
        work = self._work()

        def each(message: ControlMessage) -> typing.List[ControlMessage]:
            self._leave_core()
            return [put(ControlMessage(), carried) for carried in work(take(message), sub.is_subscribed)]

        def flush() -> typing.List[ControlMessage]:
            return [put(ControlMessage(), carried) for carried in self._flush()]

        obs.pipe(ops.map(each), ops.on_completed(flush), ops.flatten()).subscribe(sub)

    def _leave_core(self) -> None:
        # MRC pins each node's thread, and so all threads of torch that start from it, to one core.
        if self._pinned:
            os.sched_setaffinity(0, self._cores)
            self._pinned = False


def feed_of(stage: StageBase) -> Feed:
    """Return the feed of the source above a stage, which must be FlowSourceStage; raises ConfigError."""
    above: typing.List[StageBase] = stage.get_all_input_stages()
    if above:
        return feed_of(above[0])
    found = getattr(stage, "feed", None)
    if not isinstance(found, Feed):
        raise ConfigError(f"morpheus: {stage.name} gets no flows; begin the pipeline with FlowSourceStage, and do not "
                          "cut it into segments")  # fmt: skip
    return found
