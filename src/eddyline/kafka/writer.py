"""Sending to Kafka: at least once, or in transactions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from eddyline.errors import SinkError
from eddyline.kafka.address import Address
from eddyline.kafka.client import ASK_S, KafkaError, KafkaException, Message, Producer, TopicPartition, connected, words

Headers = Sequence[tuple[str, bytes]]
_log = logging.getLogger(__name__)
_TRANSACTION_S: Final = 60.0  # how long a commit is tried again while brokers restart


class Writer:
    """Sends records, all that were sent or, in a transaction, all or none. For one thread.

    Args:
        transactional_id: who writes: the next writer of that name shuts out this one, and what it had not committed
            never happened. None: at least once, without transactions.
        usual: client options that the URL's come before. flush_s: how long `flush` waits.

    Attributes:
        meanwhile: called several times a second while this waits for a broker; False ends the waiting in SinkError.
        flows: of what was handed over, those that no broker has yet; who sends flows adds them here.
    """

    def __init__(
        self, where: Address, transactional_id: str | None = None, *,
        usual: Mapping[str, object] = MappingProxyType({}), flush_s: float = _TRANSACTION_S,
    ) -> None:  # fmt: skip
        own: dict[str, object] = {"enable.idempotence": True}
        if transactional_id is not None:
            own |= {"transactional.id": transactional_id}
        ours = {"linger.ms": 20, "compression.type": "lz4", "queue.buffering.max.kbytes": 65_536, **usual}
        self._producer = connected(Producer, where, "kafka sink", own, ours)
        self._where, self._transactional, self._open = where, transactional_id is not None, False
        self._failed: list[str] = []
        self._waiting, self._abandoned, self._failing = 0, False, False
        self._flush_s, self.flows = flush_s, 0
        self.meanwhile: Callable[[], bool] = lambda: True
        if self._transactional:
            self._asked(self._producer.init_transactions, "cannot begin")

    @property
    def is_open(self) -> bool:
        """Whether something waits for a commit."""
        return self._open

    def send(self, topic: str, value: bytes | None, key: bytes | None = None, headers: Headers = (),
             partition: int = -1, flows: int = 0) -> None:  # fmt: skip
        """Hand over one record, with so many of `flows`; blocks while the buffer is full.

        Raises:
            SinkError: an earlier one failed, or `meanwhile` has had enough.
        """
        told = partial(self._delivered, flows)
        if self._transactional and not self._open:
            self._asked(lambda _: self._producer.begin_transaction(), "cannot begin")
            self._open = True
        while True:
            self._check()
            try:
                self._producer.produce(topic, value, key, partition, told, headers=list(headers))
                self._waiting += 1
                break
            except BufferError:
                self._go_on()
                self._producer.poll(0.1)
            except KafkaException as error:
                self._give_up(f"topic `{topic}`: {words(error)}", error)
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when the broker has everything that was sent; raises SinkError that counts what it has not."""
        until = time.monotonic() + self._flush_s
        while self._producer.flush(0.2):
            self._go_on()
            if time.monotonic() > until:
                self._give_up(f"the brokers did not take everything within {self._flush_s:g} s")
        self._check()

    def commit(self, topic: str, partition: int, offset: int, member: Any) -> None:
        """End the transaction with the offset up to which `topic` has been read, as what `member` has read."""
        at = [TopicPartition(topic, partition, offset)]
        if member is not None:
            self._asked(lambda s: self._producer.send_offsets_to_transaction(at, member, s), "offsets are not kept")
        self._asked(self._producer.commit_transaction, "nothing since the last commit is kept")
        self._open, self._waiting = False, 0

    def abandon(self) -> None:
        """Let nothing more be kept, from any thread: whoever uses this writer gets a SinkError soon."""
        self._abandoned = True

    def close(self) -> None:
        """Give up an open transaction, else send what waits, unless SinkError has said what is lost; twice is once."""
        if not self._transactional:
            return None if self._failing else self.flush()
        try:
            if self._open:
                self._open = False
                self._producer.abort_transaction(ASK_S)
        except KafkaException as error:  # the next writer of that name ends it; until then it is invisible
            _log.warning("kafka sink: %s: transaction not ended: %s", self._where, words(error))

    def _asked(self, ask: Callable[[float], object], consequence: str) -> None:
        until = time.monotonic() + _TRANSACTION_S
        while True:
            try:
                ask(ASK_S)
                return
            except KafkaException as error:
                if self._abandoned or not error.args[0].retriable() or time.monotonic() > until:
                    self._give_up(f"{words(error)}; {consequence}", error)

    def _delivered(self, flows: int, fault: KafkaError | None, message: Message) -> None:
        if fault is None:
            self._waiting, self.flows = self._waiting - 1, self.flows - flows
        elif len(self._failed) < 10:
            self._failed.append(f"topic `{message.topic()}`: {fault.str()}")

    def _go_on(self) -> None:
        if not self.meanwhile():
            self._give_up("the brokers do not take it, and it is not waited for any longer")

    def _check(self) -> None:
        if self._abandoned:
            self._give_up("the partition is another replica's now")
        if self._failed:
            first = self._failed[0]
            self._failed.clear()
            self._give_up(first)

    def _give_up(self, why: str, cause: Exception | None = None) -> None:
        self._failing = True
        flows = f" with {self.flows:,} flows" if self.flows else ""
        again = "come again" if self._transactional else "come again where the source resumes, and are lost if by UDP"
        raise SinkError(f"kafka sink: {self._where}: {why}; not written: up to {self._waiting:,} records{flows} since "
                        f"the last commit, which {again}") from cause  # fmt: skip
