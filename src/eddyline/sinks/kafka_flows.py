"""kafka://: flows that nobody has scored, to a topic that scoring replicas read; at least once.

    kafka://BROKER:PORT/TOPIC?dead_letters=TOPIC

A record is one Arrow IPC stream of flows of one site, keyed by the site, so that a site stays in one partition and in
order. What a collector could not read goes to TOPIC.dead-letters. message.timeout.ms is how long a record may wait for
its broker: five minutes, for ever from a collector, which cannot ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pyarrow as pa

from eddyline.flows import SCHEMA_VERSION, split_by_site
from eddyline.kafka.address import parse_address
from eddyline.kafka.topics import make_topics
from eddyline.kafka.writer import Writer
from eddyline.sinks.kafka_rows import dead_letters, table_values

_VERSION: Final = ("schema_version", SCHEMA_VERSION.encode())
_FOR_EVER: Final = {"message.timeout.ms": 0}


class FlowTopic:
    """Takes flow tables; blocks while the client's buffer is full, raises SinkError for what no broker took.

    Args:
        writer: sends; closed with this. topic, dead_letters: where to.
    """

    def __init__(self, writer: Writer, topic: str, dead_letters: str) -> None:
        self._writer, self._topic, self._dead_letters = writer, topic, dead_letters

    def send(self, table: pa.Table) -> int:
        """Hand over the flows of `table`, BATCH_SCHEMA, in its order within each site; how many."""
        there = [name for name in table.column_names if table[name].null_count < table.num_rows]
        self._writer.flows += table.num_rows
        for site, flows, _ in split_by_site(table):
            for _, rows, value in table_values(flows.select(there)):
                self._writer.send(self._topic, value, site.encode(), [_VERSION], flows=rows)
        return int(table.num_rows)

    def reject(self, rejected: pa.Table) -> None:
        """Hand over records that could not be read, as they came."""
        for key, value, headers in dead_letters(rejected):
            self._writer.send(self._dead_letters, value, key, [_VERSION, *headers])

    def flush(self) -> None:
        """Return when the brokers have everything; raises SinkError that counts what they have not."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and release; twice is once."""
        self._writer.close()


def open_flow_topic(
    url: str, rejects: bool = False, flush_s: float = 60.0, meanwhile: Callable[[], bool] | None = None
) -> FlowTopic:
    """Open what a URL names and create the topics that are missing; raises ConfigError for what cannot work.

    Args:
        rejects: whether there may be records that could not be read.
        flush_s: how long `flush` waits. meanwhile: see `Writer`; who gives one decides how long records wait.
    """
    where = parse_address(url, "kafka target", ("dead_letters",))
    dead = where.options.get("dead_letters", f"{where.topic}.dead-letters")
    make_topics(where, dict.fromkeys([where.topic, *([dead] if rejects else [])], (-1, {})), "kafka target")
    writer = Writer(where, usual=_FOR_EVER if meanwhile else {}, flush_s=flush_s)
    writer.meanwhile = meanwhile or writer.meanwhile
    return FlowTopic(writer, where.topic, dead)
