"""What a person sees of Kafka: how far a service is behind, what the doctor finds, flows replayed into a topic."""

import logging
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.captures_bytes import ethernet, pcap, udp
from tests.kafka.broker import PASSWORD, Broker, free_ports
from tests.kafka.topics import MINUTE_US, START_US, consume, kafka, minute, new_topic, produce, scored, stream_of
from tests.sources.netflow_bytes import v5, v5_record
from tests.test_end_to_end import eddyline

from eddyline.config import ReplaySettings, RunSettings, load  # isort: skip  # the lines above skip without the extra
from eddyline.kafka.address import parse_address  # isort: skip
from eddyline.kafka.client import AdminClient  # isort: skip
from eddyline.metrics import Counts, Standing  # isort: skip
from eddyline.operating.brokers import asked  # isort: skip
from eddyline.operating.exposition import exposition  # isort: skip
from eddyline.replay import Replayed, replay  # isort: skip
from eddyline.runtimes import replica  # isort: skip
from eddyline.sources.kafka.source import PartitionSource, open_kafka, read_topic  # isort: skip

SITES = ("hq", "lab")


def filled(address: str, minutes: int) -> str:
    """A topic with one record a minute of two sites, each in its partition."""
    topic = new_topic(address, 2)
    for partition, site in enumerate(SITES):
        produce(address, topic, [(site, stream_of(minute(n, site))) for n in range(minutes)], partition)
    return topic


def said(url: str, source: bool = True) -> list[tuple[str, str, str]]:
    return [(one.level, one.about, one.says) for one in asked(url, source)]


def test_a_source_knows_how_many_records_come_after_what_it_has_read(broker: Broker) -> None:
    source = PartitionSource(read_topic(f"kafka://{broker.address}/{filled(broker.address, 5)}?until=end"), 0)
    behind = [source.behind for _ in source]
    assert behind == [4, 3, 2, 1, 0]


def test_the_metrics_say_how_far_each_partition_is_behind(broker: Broker) -> None:
    address, topic, stop = broker.address, filled(broker.address, 4), threading.Event()
    settings = load(RunSettings, {"source": f"kafka://{address}/{topic}", "flush_s": 0.2,
                                  "sink": [f"kafka://{address}/{topic}-out"]})  # fmt: skip
    end_us = START_US + 2 * MINUTE_US  # the third minute is open until the lateness after the fourth has passed
    reports, until = list[Counts](), time.monotonic() + 60

    def report(counts: Counts) -> None:
        reports.append(counts)
        there = [one.behind == 0 and (one.newest_us or 0) >= end_us for one in counts.partitions.values()]
        if (len(there) == 2 and all(there)) or time.monotonic() > until:
            stop.set()

    replica.run(settings, stop, report)
    last = max(reports, key=lambda counts: len(counts.partitions) * counts.windows)
    text = exposition(last, START_US / 1e6 + 1_000)
    for partition in (0, 1):
        labels = f'{{topic="{topic}",partition="{partition}"}}'
        assert f"eddyline_kafka_records_behind{labels} 0.0\n" in text
        newest = last.partitions[topic, partition].newest_us
        assert newest is not None
        assert f"eddyline_kafka_window_lag_seconds{labels} {1_000 - (newest - START_US) / 1e6!r}\n" in text


def test_partitions_beyond_the_bound_are_told_by_the_worst_of_them() -> None:
    standings = {("flows", n): Standing(n, (300 - n) * 1_000_000) for n in range(300)}
    text = exposition(Counts(partitions=standings), 1_000.0)
    lines = [line for line in text.splitlines() if line.startswith("eddyline_kafka_")]
    assert len(lines) == 2 * 201
    assert lines[200] == 'eddyline_kafka_records_behind{topic="flows",partition="others"} 299.0'
    assert lines[-1] == 'eddyline_kafka_window_lag_seconds{topic="flows",partition="others"} 999.0'


def test_the_doctor_says_where_a_group_stands_and_which_topics_are_missing(broker: Broker) -> None:
    address, topic = broker.address, filled(broker.address, 5)
    reached = ("ok", "kafka", f"{address} takes connections")
    missing = said(f"kafka://{address}/{topic}-none")
    assert missing[0] == reached
    assert missing[1][0] == "wrong"
    assert "there is no such topic; create it, keyed by site" in missing[1][2]
    shared = ("ok", f"topic {topic}", "2 partitions, which as many replicas can share")
    url = f"kafka://{address}/{topic}?group=soc"
    assert said(url) == [
        reached, shared, ("ok", "group soc", "has read nothing yet: a run begins at the earliest of 10 records"),
    ]  # fmt: skip
    consumer = kafka.Consumer({"bootstrap.servers": address, "group.id": "soc"})
    consumer.commit(offsets=[kafka.TopicPartition(topic, 1, 2)], asynchronous=False)
    assert said(url)[2] == ("note", "group soc", "8 records behind, 5 of them in partition 0")
    admin = AdminClient({"bootstrap.servers": address})
    for at in admin.delete_records([kafka.TopicPartition(topic, 1, 4)]).values():
        at.result(30)
    gone = "the records from 2 up to 4 of partition 1 were deleted before they were read"
    assert said(url)[2] == ("wrong", "group soc", gone)
    consumer.commit(offsets=[kafka.TopicPartition(topic, number, 5) for number in (0, 1)], asynchronous=False)
    consumer.close()
    assert said(url)[2] == ("ok", "group soc", "has read everything")
    out = said(f"kafka://{address}/{topic}?alerts={topic}-news", source=False)
    assert out == [
        reached, ("ok", f"topic {topic}", "2 partitions"), ("note", f"topic {topic}-news", "is not there"),
        ("note", f"topic {topic}.dead-letters", "is not there"),
    ]  # fmt: skip
    there = admin.list_topics(timeout=30).topics
    assert not {f"{topic}-none", f"{topic}-news", f"{topic}.dead-letters"} & set(there)


def play(source: Path, address: str, topic: str, speed: float) -> Replayed:
    sink = f"kafka://{address}/{topic}"
    settings = load(ReplaySettings, {"source": str(source), "sink": sink, "speed": speed})
    return replay(settings, threading.Event(), lambda what, done, of, words: None)


def test_flows_of_a_file_are_replayed_into_a_topic_by_site_in_their_order(broker: Broker, tmp_path: Path) -> None:
    file, topic = tmp_path / "flows.parquet", new_topic(broker.address, 2)
    minutes = {site: pa.concat_tables([minute(n, site) for n in (0, 1)]) for site in SITES}
    flows = pa.concat_tables(minutes.values()).unify_dictionaries().sort_by("ts_end")
    pq.write_table(flows, file)
    began = time.monotonic()
    done = play(file, broker.address, topic, speed=120.0)
    assert (done.sent, dict(done.left_out)) == (160, {})
    assert 0.9 < time.monotonic() - began < 30  # two minutes at 120 times their speed
    assert {got.key for got in consume(broker.address, topic)} == set(SITES)
    batches = list(open_kafka(f"kafka://{broker.address}/{topic}"))
    assert sum(batch.rejected.num_rows for batch in batches) == 0
    read = pa.concat_tables([batch.table for batch in batches]).unify_dictionaries()
    for site, sent in minutes.items():
        got = read.filter(pa.compute.equal(read["site"], site))
        for name in ("bytes", "ts_end", "src_addr", "rev_packets", "dst_port"):
            assert got[name].to_pylist() == sent[name].to_pylist()


def test_a_capture_is_replayed_into_a_topic_as_the_flows_that_it_holds(broker: Broker, tmp_path: Path) -> None:
    record = v5_record("10.0.0.1", "10.0.0.2", 1, 53, 17, 1, 60, 100_000, 100_000)
    sent = [(0, v5([record] * 3)), (1_000_000, v5([record], sequence=3)), (2_000_000, v5([record])[:-1])]
    file, topic = tmp_path / "x.pcap", f"{new_topic(broker.address)}-capture"  # created by the replay
    file.write_bytes(pcap([(START_US + at, ethernet(udp("192.0.2.1", "192.0.2.9", raw))) for at, raw in sent]))
    began = time.monotonic()
    done = play(file, broker.address, topic, speed=4.0)
    assert 0.5 <= time.monotonic() - began < 30
    assert (done.what, done.sent, done.exporters) == ("flows", 4, 1)
    assert dict(done.left_out) == {"v5 header says 1 records, datagram has 71 bytes": 1}
    batches = [batch for batch in open_kafka(f"kafka://{broker.address}/{topic}") if len(batch)]
    assert [batch.table["bytes"].to_pylist() for batch in batches] == [[60, 60, 60], [60]]
    assert batches[0].table["exporter"][0].as_py() == "192.0.2.1/0"


def test_the_service_reads_and_writes_over_tls_and_never_says_the_password(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    topic, secret = filled(broker.address, 3), f"ssl.keystore.password={PASSWORD}"
    (tmp_path / "client").write_text(secret)
    tls = f"security.protocol=ssl&ssl.ca.location={broker.certificate}&ssl.keystore.location={broker.keys}"
    source, sink = f"kafka://{broker.tls}/{topic}?until=end&{tls}", f"kafka://{broker.tls}/{topic}-out?{tls}"
    caplog.set_level(logging.DEBUG)
    exactly = ("--delivery", "exactly_once")
    assert (
        eddyline("run", "--source", f"{source}&client={tmp_path}/client", "--sink", f"{sink}&{secret}", *exactly) == 0
    )
    assert scored(broker.address, f"{topic}-out").num_rows == 2 * 3 * 40
    assert said(f"{source}&{secret}")[-1] == ("ok", "group eddyline", "has read everything")
    assert PASSWORD not in repr(parse_address(f"{sink}&{secret}", "sink", ()))
    wrong = f"ssl.keystore.password=not-{PASSWORD}"
    assert eddyline("run", "--source", f"{source}&{wrong}", "--sink", "stdout:") == 2
    told = capsys.readouterr()
    assert "ssl.keystore.location" in told.err
    for text in (told.out, told.err, caplog.text):
        assert PASSWORD not in text


def test_an_address_where_nobody_listens_is_named_without_waiting_for_an_answer() -> None:
    (port,) = free_ports(1)
    (only,) = said(f"kafka://127.0.0.1:{port}/flows?sasl.password={PASSWORD}")
    assert only == ("wrong", "kafka", f"127.0.0.1:{port} cannot be reached: Connection refused")
