"""What a kafka:// URL would meet: brokers, topics, and how far the group is behind. Asks; creates and joins nothing."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from eddyline.errors import ConfigError, Unreachable
from eddyline.operating.findings import Finding

if TYPE_CHECKING:  # the client library is an extra
    from eddyline.kafka.topics import Progress
    from eddyline.sinks.kafka import Output
    from eddyline.sources.kafka.source import Topic

_REACH_S: Final = 3.0  # for a broker to take a connection
_PORT: Final = 9092


def asked(url: str, source: bool) -> Iterator[Finding]:
    """Whether the brokers of a URL answer, which of its topics are there, and where a source's group stands.

    Names and passwords in the URL are never said.
    """
    if importlib.util.find_spec("confluent_kafka") is None:
        yield Finding("wrong", "kafka", "a kafka:// URL needs confluent-kafka", "install eddyline[kafka]")
        return
    from eddyline.sinks.kafka import parse_output
    from eddyline.sources.kafka.source import parse_source, read_topic

    try:
        servers = (parse_source if source else parse_output)(url).where.servers
        reached = [_reached(broker) for broker in servers.split(",")]
        yield from reached
        if all(finding.level == "wrong" for finding in reached):
            return
        yield from _read(read_topic(url)) if source else _written(parse_output(url))
    except (ConfigError, Unreachable) as error:
        yield Finding("wrong", "kafka", str(error))


def _reached(broker: str) -> Finding:
    host, colon, port = broker.rpartition(":")
    if not colon or broker.endswith("]"):
        host, port = broker, str(_PORT)
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _REACH_S):
            return Finding("ok", "kafka", f"{broker} takes connections")
    except (OSError, ValueError) as error:
        return Finding("wrong", "kafka", f"{broker} cannot be reached: {getattr(error, 'strerror', None) or error}",
                       "start it, or give another host and port")  # fmt: skip


def _read(topic: Topic) -> Iterator[Finding]:
    from eddyline.kafka.topics import progress_of

    about = f"topic {topic.where.topic}"
    yield Finding("ok", about, f"{topic.partitions} partitions, which as many replicas can share")
    yield from standing(topic, progress_of(topic.where, topic.group, topic.partitions, "kafka source"))


def standing(topic: Topic, found: Sequence[Progress]) -> Iterator[Finding]:
    """What is to say of a group that stands so in a topic."""
    about, behind = f"group {topic.group}", sum(one.behind for one in found)
    for one in found:
        if one.gone:
            yield Finding("wrong", about, f"the records from {one.committed} up to {one.first} of partition "
                          f"{one.partition} were deleted before they were read",
                          "raise retention.ms of the topic, and give another group= to begin anew")  # fmt: skip
    if all(one.committed is None for one in found):
        there = sum(one.end - one.first for one in found)
        yield Finding("ok", about, f"has read nothing yet: a run begins at the {topic.start} of {there:,} records")
    elif behind:
        worst = max(found, key=lambda one: one.behind)
        yield Finding("note", about, f"{behind:,} records behind, {worst.behind:,} of them in partition "
                      f"{worst.partition}",
                      f"if this grows, scoring does not keep up: more replicas (up to {topic.partitions}), or "
                      "more --threads for each")  # fmt: skip
    else:
        yield Finding("ok", about, "has read everything")


def _written(output: Output) -> Iterator[Finding]:
    from eddyline.kafka.topics import partitions_of

    for name in output.topics():
        partitions = partitions_of(output.where, name, "kafka sink")
        if partitions is None:
            yield Finding("note", f"topic {name}", "is not there",
                          "create it, or `eddyline run` does with the brokers' number of partitions")  # fmt: skip
        else:
            yield Finding("ok", f"topic {name}", f"{partitions} partitions")
