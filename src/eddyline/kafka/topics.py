"""What brokers say of topics: their partitions, and how far a group has read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eddyline.errors import ConfigError, Unreachable
from eddyline.kafka.address import Address
from eddyline.kafka.client import (
    ASK_S,
    AdminClient,
    Consumer,
    KafkaError,
    KafkaException,
    NewTopic,
    TopicPartition,
    connected,
    words,
)


def partitions_of(where: Address, topic: str, step: str) -> int | None:
    """How many partitions a topic has, None where there is no such topic; Unreachable where no broker answers."""
    try:
        found = connected(AdminClient, where, step, {}).list_topics(topic, timeout=ASK_S).topics[topic]
    except KafkaException as error:
        raise Unreachable(f"{step}: {where} does not answer: {words(error)}; start it, or check the address, the "
                          "listener and security.protocol") from error  # fmt: skip
    return None if found.error is not None else len(found.partitions)


def make_topics(where: Address, topics: Mapping[str, tuple[int, Mapping[str, str]]], step: str) -> None:
    """Create those of `topics` (name to partitions, -1 = the broker's default, and settings) that are not there.

    Raises:
        ConfigError: one cannot be created. Unreachable: no broker answers.
    """
    fresh = [name for name in topics if partitions_of(where, name, step) is None]
    admin = connected(AdminClient, where, step, {})
    asked = [NewTopic(name, topics[name][0], -1, config=dict(topics[name][1])) for name in fresh]
    for name, created in (admin.create_topics(asked, request_timeout=ASK_S) if asked else {}).items():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ConfigError(f"{step}: {where}: topic `{name}` is missing and cannot be created: {words(error)}; "
                                  "create it or grant the right to") from error  # fmt: skip


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group has read one partition, in offsets.

    Args:
        partition: its number. first: of what is still kept. end: that the next record will have.
        committed: up to here the group has read; None where it never committed.
    """

    partition: int
    first: int
    end: int
    committed: int | None

    @property
    def behind(self) -> int:
        """Offsets that are still to be read; all that are kept, where the group never committed."""
        return self.end - max(self.first, self.committed or 0)

    @property
    def gone(self) -> bool:
        """Whether the next ones to be read were deleted before."""
        return self.committed is not None and self.committed < self.first


def progress_of(where: Address, group: str, partitions: int, step: str) -> list[Progress]:
    """Where `group` stands in each partition of `where`'s topic; ConfigError where the brokers do not say."""
    own = {"group.id": group, "enable.auto.commit": False, "isolation.level": "read_committed"}
    asked = [TopicPartition(where.topic, number) for number in range(partitions)]
    consumer = connected(Consumer, where, step, own)
    try:
        found = []
        for at in consumer.committed(asked, timeout=ASK_S):
            first, end = consumer.get_watermark_offsets(at, timeout=ASK_S)
            found.append(Progress(at.partition, first, end, at.offset if at.offset >= 0 else None))
        return found
    except KafkaException as error:
        raise ConfigError(f"{step}: {where}: group `{group}` cannot be asked for: {words(error)}; "
                          "grant the right to describe it") from error  # fmt: skip
    finally:
        consumer.close()
