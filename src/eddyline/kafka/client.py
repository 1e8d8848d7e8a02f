"""Apache Kafka through confluent-kafka, the one file that imports it: readers and group members.

Versions from 2.10 on are not for us: their client forgets brokers that a metadata answer does not name. A lone broker
that shuts down names none, not even itself, and a client that asks at that moment never connects to anything again
(librdkafka issue 5301; of ten producers of 2.16.1, three sent nothing a minute after a restart of 8 s; of ten of 2.9.0
none in six restarts). Sending offsets to a transaction hangs there, too (5511).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from eddyline.errors import ConfigError, SourceError
from eddyline.kafka.address import Address

try:
    from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic
except ImportError as missing:
    raise ConfigError("kafka: confluent-kafka is not installed; install eddyline[kafka]") from missing

__all__ = [
    "ASK_S", "AdminClient", "Consumer", "Group", "KafkaError", "KafkaException", "Message", "NewTopic", "Producer",
    "Reader", "RecordsGone", "TopicPartition", "connected", "words",
]  # fmt: skip

_log = logging.getLogger(__name__)
ASK_S: Final = 10.0  # how long a question to the broker may take before a run begins
_OF_CONSUMERS: Final = ("session.", "heartbeat.", "fetch.", "queued.", "group.", "max.poll.", "max.partition.")
_OF_PRODUCERS: Final = ("linger.", "batch.", "compression.", "queue.", "transaction.", "delivery.", "sticky.")


def connected(
    kind: Callable[[dict[str, Any]], Any], where: Address, step: str, own: Mapping[str, object],
    usual: Mapping[str, object] = MappingProxyType({}),
) -> Any:  # fmt: skip
    """A client; the URL's options come before `usual`, and `own` before all."""
    foreign = _OF_PRODUCERS if kind is Consumer else _OF_CONSUMERS
    asked = {name: value for name, value in where.client.items() if not name.startswith(foreign)}
    common = {"log.connection.close": False, "reconnect.backoff.max.ms": 1_000}  # its 10 s prolong every restart
    settings = {"bootstrap.servers": where.servers, **common, **usual, **asked, **own}
    try:
        return kind({**settings, "logger": _log} if kind is not AdminClient else settings)
    except (KafkaException, TypeError, ValueError) as error:
        raise ConfigError(f"{step}: {where}: {words(error)}; correct the options with a dot in their names") from error


def words(error: Exception) -> str:
    """What the client library says of an error."""
    first = error.args[0] if error.args else error
    return str(first.str() if isinstance(first, KafkaError) else first)


class RecordsGone(SourceError):
    """What was to be read is not there any more: trying again does not help."""


class Reader:
    """One partition from one offset on, committed records only. Not for several threads."""

    def __init__(self, where: Address, topic: str, partition: int, offset: int | None, start: str = "earliest") -> None:
        own = {
            "group.id": "unused", "enable.auto.commit": False, "enable.partition.eof": True,
            "isolation.level": "read_committed", "auto.offset.reset": "error",
        }  # fmt: skip
        usual = {
            "queued.max.messages.kbytes": 32_768, "fetch.wait.max.ms": 100, "fetch.message.max.bytes": 8 << 20,
            "fetch.queue.backoff.ms": 10,
        }  # fmt: skip
        self._consumer = connected(Consumer, where, "kafka source", own, usual)
        self._name, self.at_end = f"{topic}/{partition}", False
        self._at = TopicPartition(topic, partition)
        low, high = self._bounds()
        self.offset = offset if offset is not None else high if start == "latest" else low
        if self.offset < low:
            raise RecordsGone(f"kafka source: {self._name}: records {self.offset} to {low - 1} are gone before they "
                              "were read; keep them longer, or give another group= to begin anew")  # fmt: skip
        self._consumer.assign([TopicPartition(topic, partition, self.offset)])

    def read(self, most: int, seconds: float) -> list[Message]:
        """What has come after `seconds`, or `most` records if they are there before; `at_end` if nothing follows."""
        found = self._consumer.consume(most, seconds)
        messages = []
        for message in found:
            fault = message.error()
            if fault is None:
                messages.append(message)
                self.offset, self.at_end = message.offset() + 1, False
            elif fault.code() == KafkaError._PARTITION_EOF:
                self.offset, self.at_end = max(self.offset, message.offset()), True
            elif fault.fatal() or fault.code() == KafkaError._AUTO_OFFSET_RESET:
                raise RecordsGone(f"kafka source: {self._name}: {fault.str()}; records may have been deleted: "
                                  "give another group= to begin anew")  # fmt: skip
            else:
                _log.warning("kafka source: %s: %s; trying on", self._name, fault.str())
        return messages

    def is_idle(self) -> bool:
        """Ask the broker whether everything has been read: False also where it does not answer."""
        try:
            return self.at_end and bool(self._bounds(1.0)[1] <= self.offset)
        except SourceError:
            return False

    def behind(self) -> int | None:
        """Offsets up to the end, as the broker said with what it sent last; None before. Asks nobody."""
        high = int(self._consumer.get_watermark_offsets(self._at, cached=True)[1])
        return max(0, high - self.offset) if high >= 0 else None

    def end(self) -> int:
        """The offset that the next record will have."""
        return int(self._bounds()[1])

    def close(self) -> None:
        """Let go of the partition."""
        self._consumer.close()

    def _bounds(self, seconds: float = ASK_S) -> tuple[int, int]:
        try:
            low, high = self._consumer.get_watermark_offsets(self._at, timeout=seconds)
        except KafkaException as error:
            raise SourceError(f"kafka source: {self._name}: {words(error)}; check that the broker is up") from error
        return int(low), int(high)


Partitions = Callable[[list[int]], None]


class Group:
    """This replica's place among those that share a topic; says which partitions are its own, and reads nothing.

    Args:
        where, name: the topic and the group.
        gained: partitions that are this replica's from now on.
        leaving: those that another one will get as soon as this returns. lost: those that another one may have already.

    Attributes:
        member: the membership; lets a transaction refuse offsets of a partition that has moved on.
    """

    def __init__(self, where: Address, name: str, gained: Partitions, leaving: Partitions, lost: Partitions) -> None:
        own = {
            "group.id": name, "enable.auto.commit": False, "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
        }  # fmt: skip
        usual = {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 2_000}
        self._consumer = connected(Consumer, where, "kafka source", own, usual)
        self.member: Any = None  # the client answers this only in the thread that polls

        def assigned(consumer: Any, taken: list[TopicPartition]) -> None:
            consumer.incremental_assign(taken)
            if taken:
                consumer.pause(taken)
                self.member = consumer.consumer_group_metadata()
                gained([one.partition for one in taken])

        def told(what: Partitions) -> Callable[[Any, list[TopicPartition]], None]:
            def give(consumer: Any, taken: list[TopicPartition]) -> None:
                what([one.partition for one in taken])
                consumer.incremental_unassign(taken)

            return give

        self._consumer.subscribe([where.topic], on_assign=assigned, on_revoke=told(leaving), on_lost=told(lost))

    def poll(self, seconds: float) -> None:
        """Stay a member; the callbacks are called from here. At least every five minutes."""
        message = self._consumer.poll(seconds)
        self.member = self._consumer.consumer_group_metadata()
        fault = None if message is None else message.error()
        if fault is not None:
            if fault.fatal():
                raise SourceError(f"kafka source: the group has put this replica out: {fault.str()}; start it again")
            _log.warning("kafka source: %s; trying on", fault.str())

    def close(self) -> None:
        """Leave; `leaving` is called first."""
        self._consumer.close()
