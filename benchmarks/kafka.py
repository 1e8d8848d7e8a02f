"""Flows per second out of a real broker, decoded and cut into windows, no model: `python benchmarks/kafka.py ADDRESS`.

`make kafka` starts a broker on 127.0.0.1:9092. The topic is filled anew each time, one partition, one site; printed are
records of 65,536 and of 4,096 flows as Arrow, and JSON with one flow a record, beside what decoding alone does.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from uuid import uuid4

import pyarrow as pa
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from rich.console import Console
from windows import SECOND, batches

from eddyline.dialects import load_dialect
from eddyline.flows import FlowBatch
from eddyline.sinks.kafka_rows import arrow_stream
from eddyline.sources.kafka.records import Decoder, Record
from eddyline.sources.kafka.source import PartitionSource, read_topic
from eddyline.windows import Windower, WindowSettings

JSON_FLOWS = 400_000


def arrow_values(stream: list[FlowBatch], rows: int) -> Iterator[bytes]:
    """Records of `rows` flows."""
    for batch in stream:
        for first in range(0, len(batch), rows):
            yield arrow_stream(batch.table.slice(first, rows))


def json_values(stream: list[FlowBatch]) -> Iterator[bytes]:
    """Records of one flow, their empty columns left out."""
    left = JSON_FLOWS
    for batch in stream:
        table = batch.table.slice(0, left).set_column(
            1, "ts_end", batch.table["ts_end"].slice(0, left).cast(pa.int64())
        )
        for row in table.drop_columns(["source_row"]).to_pylist():
            found = {name: value for name, value in row.items() if value is not None}
            yield json.dumps({**found, "ts_end": found["ts_end"] / 1e6, "proto": 6}).encode()
        left -= table.num_rows


def fill(servers: str, values: list[bytes]) -> str:
    """A new topic with these records."""
    name = f"benchmark-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": servers})
    config = {"max.message.bytes": "20000000"}
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(30)
    producer = Producer({"bootstrap.servers": servers, "message.max.bytes": 20_000_000, "compression.type": "lz4"})
    for value in values:
        while True:
            try:
                producer.produce(name, value)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0
    return name


def windowed(source: Iterator[FlowBatch]) -> int:
    """Flows that came out in windows."""
    windower = Windower(WindowSettings(lateness_us=10 * SECOND))
    flows = sum(len(window) for batch in source for window in windower.add(batch).closed)
    return flows + sum(len(window) for window in windower.finish().closed)


def timed(what: Callable[[], int]) -> tuple[int, str]:
    """Flows; flows per second, and per second of one core that this process had, its client's threads included."""
    began, used = time.perf_counter(), time.process_time()
    flows = what()
    speed, thrift = flows / (time.perf_counter() - began), flows / (time.process_time() - used)
    return flows, f"{speed / 1e6:.2f} M flows/s ({thrift / 1e6:.2f} M per core second)"


def decoded(values: list[bytes], form: str) -> int:
    """Flows decoded from memory."""
    decoder = Decoder(load_dialect("eddyline"), None, "benchmark/0")
    if form == "json":
        tables = (
            decoder.json([Record(n, value) for n, value in enumerate(values[first : first + 10_000])])[0]
            for first in range(0, len(values), 10_000)
        )
        return sum(table.num_rows for table in tables)
    return sum(decoder.arrow(Record(n, value))[0].num_rows for n, value in enumerate(values))


def main() -> None:
    """Print one line per kind of record."""
    servers = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9092"
    console, stream = Console(), batches(0)
    kinds = {
        "Arrow, 65,536 flows a record": ("arrow", list(arrow_values(stream, 65_536))),
        "Arrow, 4,096 flows a record": ("arrow", list(arrow_values(stream[: len(stream) // 4], 4_096))),
        "JSON, one flow a record": ("json", list(json_values(stream[:7]))),
    }
    for name, (form, values) in kinds.items():
        topic = fill(servers, values)
        alone = timed(lambda form=form, values=values: decoded(values, form))
        url = f"kafka://{servers}/{topic}?format={form}&until=end"
        whole = timed(lambda url=url: windowed(iter(PartitionSource(read_topic(url), 0))))
        assert alone[0] == whole[0], (alone, whole)
        size = sum(map(len, values)) / alone[0]
        console.print(
            f"kafka: {name} ({size:.0f} B a flow): {whole[1]} from the broker into windows, "
            f"decoding alone {alone[1]}", soft_wrap=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
