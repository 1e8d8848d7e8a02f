"""kafka://BROKER:PORT/TOPIC as a target of flows that nobody has scored: Arrow batches keyed by site, as sources read.

Order holds within a site. At least once: what the brokers have not confirmed at the end is an error that counts it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from eddyline.flows import SCHEMA_VERSION
from eddyline.kafka.address import parse_address
from eddyline.kafka.client import Writer
from eddyline.kafka.topics import make_topics
from eddyline.sinks.kafka_rows import table_values

_HEADERS: Final = [("schema_version", SCHEMA_VERSION.encode())]
_SITE: Final = "default"  # of flows that name none


class FlowTopic:
    """Sends flow tables to a topic.

    Args:
        topic: its name. writer: sends; closed with the target.
    """

    def __init__(self, topic: str, writer: Writer) -> None:
        self._topic, self._writer = topic, writer

    def send(self, table: pa.Table) -> int:
        """Send the flows of `table`, BATCH_SCHEMA, in its order within each site; all of them can be said.

        Blocks while the client's buffer is full; raises SinkError where an earlier record was refused.
        """
        for site, flows in _sites(table):
            for _, _, value in table_values(flows):
                self._writer.send(self._topic, value, site.encode(), _HEADERS)
        return int(table.num_rows)

    def close(self) -> None:
        """Return when the brokers have everything; raises SinkError that counts what they have not."""
        self._writer.close()


def open_flow_topic(url: str) -> FlowTopic:
    """The topic that a URL names, created if it is missing; raises ConfigError for what cannot work."""
    where = parse_address(url, "kafka target", ())
    make_topics(where, {where.topic: (-1, {})}, "kafka target")
    return FlowTopic(where.topic, Writer(where))


def _sites(table: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    names = pc.fill_null(table["site"].cast(pa.string()), _SITE)
    sites = pc.unique(names).to_pylist()
    for site in sites:
        yield site, table if len(sites) == 1 else table.filter(pc.equal(names, site))
