"""kafka://: scored flows, alerts and dead letters to topics.

    kafka://BROKER:PORT/TOPIC?format=arrow|json&alerts=TOPIC&dead_letters=TOPIC&alert_format=flat|ecs|ocsf

Flows go to TOPIC, keyed by site; alerts to TOPIC.alerts, JSON keyed by alert id, so that a compacted topic keeps the
latest state of each; records that could not be read to TOPIC.dead-letters as they came, with `reason`, `topic`,
`partition` and `offset` in their headers. Every record says its `schema_version`, flows and alerts the `model`; flows
also their window (`site`, `window_start`, `late`, `part`) and `first_row`, by which a reader can tell a repetition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.errors import ConfigError
from eddyline.flows import SCHEMA_VERSION
from eddyline.kafka.address import Address, parse_address
from eddyline.kafka.topics import make_topics
from eddyline.kafka.writer import Writer
from eddyline.sinks.alert_views import VIEWS
from eddyline.sinks.kafka_rows import arrow_values, dead_letters, json_values

_VALUES: Final = {"arrow": arrow_values, "json": json_values}
_OPTIONS: Final = ("format", "alerts", "dead_letters", "alert_format")
_VERSION: Final = ("schema_version", SCHEMA_VERSION.encode())


@dataclass(frozen=True, slots=True)
class Output:
    """What a sink URL says.

    Args:
        where: brokers and the topic of flows. alerts, dead_letters: the other topics.
        form: arrow or json. view: of alerts.
    """

    where: Address
    alerts: str
    dead_letters: str
    form: str
    view: str

    def topics(self) -> dict[str, tuple[int, dict[str, str]]]:
        """What `make_topics` is to make of them: all with the brokers' own number of partitions."""
        return {
            self.where.topic: (-1, {}), self.alerts: (-1, {"cleanup.policy": "compact"}), self.dead_letters: (-1, {}),
        }  # fmt: skip


class KafkaSink:
    """Writes to three topics; in a transactional `writer` nothing is visible before its commit.

    Args:
        output: where to. writer: sends; closed with the sink.
    """

    def __init__(self, output: Output, writer: Writer) -> None:
        self._output, self._writer = output, writer

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        """Send one window and its alerts; blocks while the client's buffer is full, raises SinkError."""
        window, model = scored.window, ("model", scored.model.encode())
        about = [
            _VERSION, model, ("site", window.site.encode()), ("window_start", str(window.start_us).encode()),
            ("late", str(int(window.late)).encode()), ("part", str(window.part).encode()),
        ]  # fmt: skip
        for first, _, value in _VALUES[self._output.form](scored):
            headers = [*about, ("first_row", str(first).encode())]
            self._writer.send(self._output.where.topic, value, window.site.encode(), headers)
        for alert in alerts:
            told = json.dumps(VIEWS[self._output.view](alert), allow_nan=False, separators=(",", ":")).encode()
            self._writer.send(self._output.alerts, told, alert.id.encode(), [_VERSION, model])

    def reject(self, rejected: pa.Table) -> None:
        """Send records that could not be read, as they came; see `kafka_rows.dead_letters`."""
        for key, value, headers in dead_letters(rejected):
            self._writer.send(self._output.dead_letters, value, key, [_VERSION, *headers])

    def flush(self) -> None:
        """Return when the brokers have everything; raises SinkError that counts what they have not."""
        self._writer.flush()

    def close(self) -> None:
        """Flush, or give up an open transaction; twice is once."""
        self._writer.close()


def open_kafka_sink(url: str, *, live: bool = False, replays: bool = True) -> KafkaSink:
    """Write at least once: a window that comes again is written again; see `read_output` for the URL."""
    output = read_output(url)
    return KafkaSink(output, Writer(output.where))


def read_output(url: str) -> Output:
    """Read a sink URL and create the topics that are missing; raises ConfigError for what cannot work."""
    output = parse_output(url)
    make_topics(output.where, output.topics(), "kafka sink")
    return output


def parse_output(url: str) -> Output:
    """Read a sink URL and ask nobody; raises ConfigError for what it cannot mean."""
    where = parse_address(url, "kafka sink", _OPTIONS)
    form, view = where.options.get("format", "arrow"), where.options.get("alert_format", "flat")
    if form not in _VALUES:
        raise ConfigError(f"kafka sink: format={form}; give {' or '.join(_VALUES)}")
    if view not in VIEWS:
        raise ConfigError(f"kafka sink: alert_format={view}; give {', '.join(VIEWS)}")
    alerts = where.options.get("alerts", f"{where.topic}.alerts")
    dead = where.options.get("dead_letters", f"{where.topic}.dead-letters")
    return Output(where, alerts, dead, form, view)
