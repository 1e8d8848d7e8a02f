"""Topics with flows in them, services over them as processes of their own, and what came out, with the real client."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from eddyline.flows import flow_table

kafka = pytest.importorskip("confluent_kafka", reason="the extra `kafka` is not installed")
MINUTE_US = 60_000_000
START_US = 1_767_600_000_000_000  # 2026-01-05T08:00:00Z
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
SCORES = ("p", "score", "lambda", "h")


def new_topic(servers: str, partitions: int = 1) -> str:
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    name = f"flows-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def minute(number: int, site: str, flows: int = 40) -> pa.Table:
    """Some flows of one minute of a site, in time order; `source_row`-like identity stands in `bytes`, unique."""
    rng = np.random.default_rng([number, *site.encode()])
    times = START_US + number * MINUTE_US + np.sort(rng.integers(0, MINUTE_US, flows))
    columns = {
        "ts_start": pa.array(times - 1_000).cast(pa.timestamp("us", tz="UTC")),
        "ts_end": pa.array(times).cast(pa.timestamp("us", tz="UTC")),
        "src_addr": [f"10.0.1.{client}" for client in rng.integers(0, 12, flows)],
        "dst_addr": [f"10.0.2.{server}" for server in rng.integers(0, 4, flows)],
        "src_port": rng.integers(20_000, 60_000, flows),
        "dst_port": rng.choice([53, 443, 22], flows),
        "proto": [6] * flows,
        "bytes": (np.arange(flows) + number * 1_000 + 100).astype(np.uint64),
        "packets": [5] * flows,
        "rev_bytes": rng.integers(100, 9_000, flows),
        "rev_packets": [4] * flows,
        "site": [site] * flows,
    }
    return flow_table(columns, flows)


def stream_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def produce(servers: str, topic: str, records: Sequence[tuple[str, bytes]], partition: int = -1) -> None:
    """Send (key, value) in order, durably; by the key where no partition is given."""
    producer = kafka.Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    for key, value in records:
        producer.produce(topic, value, key.encode(), partition)
    assert producer.flush(60) == 0


@dataclass(frozen=True)
class Got:
    key: str
    value: bytes
    headers: Mapping[str, str]
    partition: int
    offset: int


def consume(servers: str, topic: str, seconds: float = 30.0) -> list[Got]:
    """Every committed record of a topic, partition after partition."""
    settings = {
        "bootstrap.servers": servers, "group.id": uuid4().hex, "isolation.level": "read_committed",
        "enable.partition.eof": True, "auto.offset.reset": "earliest", "enable.auto.commit": False,
    }  # fmt: skip
    consumer = kafka.Consumer(settings)
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([kafka.TopicPartition(topic, number, 0) for number in partitions])
    found, open_, until = [], set(partitions), time.monotonic() + seconds
    while open_:
        assert time.monotonic() < until, f"{topic} not read after {seconds} s"
        for message in consumer.consume(500, 0.2):
            if message.error() is None:
                headers = {name: value.decode() for name, value in message.headers() or []}
                key = (message.key() or b"").decode()
                found.append(Got(key, message.value() or b"", headers, message.partition(), message.offset()))
            else:
                open_.discard(message.partition())
    consumer.close()
    return sorted(found, key=lambda got: (got.partition, got.offset))


def scored(servers: str, topic: str) -> pa.Table:
    """Every scored flow in a topic."""
    tables = [pa.ipc.open_stream(got.value).read_all() for got in consume(servers, topic)]
    return pa.concat_tables(tables).unify_dictionaries() if tables else pa.table({"bytes": pa.array([], pa.uint64())})


def wait_for_flows(servers: str, topic: str, flows: int, seconds: float = 60.0) -> pa.Table:
    """The scored flows, once there are `flows` of them; the test fails where they do not come."""
    until = time.monotonic() + seconds
    while True:
        table = scored(servers, topic)
        if table.num_rows >= flows:
            return table
        assert time.monotonic() < until, f"{table.num_rows} of {flows} flows after {seconds} s"
        time.sleep(0.5)


def as_scored(table: pa.Table, *more: str) -> list[tuple[Any, ...]]:
    """What a run says of each flow, sorted; flows are told apart by site and bytes."""
    names = ("site", "bytes", "window_start", "window_part", "late", *SCORES, *more)
    return sorted(zip(*(table[name].to_pylist() for name in names), strict=True), key=repr)
