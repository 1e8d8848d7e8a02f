"""Flows from a source into a Kafka topic, not scored: the collector before any number of scoring replicas.

One thread. While the brokers are away, however long, the client's buffer fills (queue.buffering.max.kbytes, 64 MiB),
then the socket's; what no longer fits the kernel drops and counts: memory is bounded, and the loss is known. What is in
the client's buffer goes out when they are back, in order. Only a stop ends the waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from threading import Event

from eddyline.config import CollectSettings
from eddyline.contracts import Counting
from eddyline.metrics import Counts, count_reasons
from eddyline.sinks.kafka_flows import open_flow_topic
from eddyline.sources import open_source


def collect(settings: CollectSettings, stop: Event, report: Callable[[Counts], None]) -> Counts:
    """Send what the source gives until it ends or `stop` is set; returns when the brokers have all of it.

    Args:
        report: called at least about once a second, also while the brokers are away.

    Raises:
        SinkError: the brokers refused something, or `settings.stop_s` after a stop they had not everything: it says
            how many flows are lost.
    """
    counts, began, until = Counts(), time.monotonic(), float("inf")

    def waits_on() -> bool:
        nonlocal until
        now = time.monotonic()
        until = min(until, now + settings.stop_s) if stop.is_set() else until
        counts.seconds = now - began
        report(counts)
        return now < until

    with (
        closing(open_flow_topic(settings.sink, True, settings.stop_s, waits_on)) as topic,
        closing(open_source(settings.source)) as source,
    ):
        for batch in source:
            if len(batch):
                counts.flows += topic.send(batch.table)
            if batch.rejected.num_rows:
                topic.reject(batch.rejected)
                count_reasons(batch.rejected, counts.rejected)
            if isinstance(source, Counting):
                counts.source, counts.exporters = dict(source.counters), source.exporters
            counts.seconds = time.monotonic() - began
            report(counts)
            if stop.is_set():
                source.close()
        topic.flush()
    return counts
