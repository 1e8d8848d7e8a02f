"""The service between topics of a real broker: what goes in comes out, and what cannot be read is kept."""

import json
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eddyline.errors import SinkError
from eddyline.kafka.address import parse_address
from tests.kafka.broker import PASSWORD, USER, Broker
from tests.kafka.forks import Forks
from tests.kafka.topics import (
    as_scored,
    consume,
    minute,
    new_topic,
    produce,
    scored,
    stream_of,
    wait_for_flows,
)
from tests.test_end_to_end import eddyline, tiny_model
from tests.test_end_to_end import scored as scored_in

EXACTLY = ("--delivery", "exactly_once")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def fill(address: str, topic: str, *numbers: int, site: str = "hq", partition: int = -1) -> None:
    produce(address, topic, [(site, stream_of(minute(number, site))) for number in numbers], partition)


def run(model: Path, source: str, sink: str, *more: object) -> int:
    return eddyline("run", "--source", source, "--model", model, "--sink", sink, *more)


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_a_topic_is_scored_like_the_same_flows_in_a_file(
    broker: Broker, model: Path, tmp_path: Path, delivery: str
) -> None:
    address, topic = broker.address, new_topic(broker.address)
    fill(address, topic, *range(6))
    out = f"kafka://{address}/{topic}-out"
    assert run(model, f"kafka://{address}/{topic}?until=end", out, "--delivery", delivery) == 0
    pq.write_table(pa.concat_tables([minute(n, "hq") for n in range(6)]), tmp_path / "flows.parquet")
    assert run(model, f"file://{tmp_path}/flows.parquet?dialect=eddyline", f"file://{tmp_path}/out") == 0
    found = scored(address, f"{topic}-out")
    assert len(found) == 6 * 40
    assert as_scored(found, "alert_id", "src_addr") == as_scored(scored_in(tmp_path / "out"), "alert_id", "src_addr")


def test_what_comes_later_is_scored_with_the_memory_of_what_came_before(broker: Broker, model: Path) -> None:
    address, topic = broker.address, new_topic(broker.address)
    for group, parts in {"pieces": (range(4), range(4, 9), ()), "whole": ((), ())}.items():
        for numbers in parts:
            fill(address, topic, *numbers)
            assert run(
                model, f"kafka://{address}/{topic}?until=end&group={group}", f"kafka://{address}/{topic}-{group}"
            ) == 0  # fmt: skip
    whole = as_scored(scored(address, f"{topic}-whole"))
    assert len(whole) == 9 * 40
    assert as_scored(scored(address, f"{topic}-pieces")) == whole


def test_records_say_their_schema_model_and_window(broker: Broker, model: Path) -> None:
    address, topic = broker.address, new_topic(broker.address)
    fill(address, topic, 0, 1)
    assert run(model, f"kafka://{address}/{topic}?until=end", f"kafka://{address}/{topic}-out?format=json") == 0
    flows = consume(address, f"{topic}-out")
    assert len(flows) == 80
    first = json.loads(flows[0].value)
    assert {got.key for got in flows} == {"hq"}
    assert [got.headers["first_row"] for got in flows] == [str(row) for row in (*range(40), *range(40))]
    assert flows[0].headers["schema_version"] == "1"
    assert flows[0].headers["model"] == first["model"]
    assert flows[0].headers["window_start"] == "1767600000000000"
    assert first["window_start"] == "2026-01-05T08:00:00.000000Z"
    assert first["bytes"] == 100
    alerts = consume(address, f"{topic}-out.alerts")
    assert alerts
    assert all(json.loads(got.value)["id"] == got.key for got in alerts)
    assert alerts[0].headers == {"schema_version": "1", "model": first["model"]}


def test_poison_is_kept_with_its_place_and_costs_nobody_else(broker: Broker, model: Path) -> None:
    address, topic = broker.address, new_topic(broker.address)
    poison = [b"", b"\x00 noise", stream_of(minute(1, "hq"))[:-300], stream_of(pa.table({"x": [1]})), b"\xff" * 950_000]
    fill(address, topic, 0)
    produce(address, topic, [("hq", value) for value in poison])
    fill(address, topic, 1)
    out = f"kafka://{address}/{topic}-out?dead_letters={topic}-bad"
    assert run(model, f"kafka://{address}/{topic}?until=end", out, *EXACTLY) == 0
    assert len(scored(address, f"{topic}-out")) == 80
    letters = consume(address, f"{topic}-bad")
    assert [got.headers["offset"] for got in letters] == ["1", "2", "3", "4", "5"]
    assert {(got.headers["topic"], got.headers["partition"]) for got in letters} == {(topic, "0")}
    assert [got.value for got in letters[:4]] == poison[:4]
    assert (letters[4].value, letters[4].headers["cut_from_bytes"]) == (b"\xff" * 900_000, "950000")
    assert letters[3].headers["reason"] == "lacks src_addr, dst_addr, ts_end, proto, bytes (dialect eddyline)"


def test_a_site_in_two_partitions_stops_the_run(
    broker: Broker, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, topic = broker.address, new_topic(broker.address, 2)
    fill(address, topic, 0, 1, partition=0)
    fill(address, topic, 0, 1, partition=1)
    assert run(model, f"kafka://{address}/{topic}?until=end", f"kafka://{address}/{topic}-out", *EXACTLY) == 2
    assert "site `hq` lies in partitions" in capsys.readouterr().err


def test_a_password_opens_the_guarded_listener_and_is_never_said(
    broker: Broker, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, topic = broker.guarded, new_topic(broker.address)
    fill(broker.address, topic, 0)
    options = "security.protocol=SASL_PLAINTEXT&sasl.mechanism=PLAIN&sasl.username="
    (tmp_path / "client").write_text(f"# ours\nsasl.password = {PASSWORD}\n")
    source = f"kafka://{address}/{topic}?until=end&{options}{USER}&client={tmp_path}/client"
    assert run(model, source, f"file://{tmp_path}/out") == 0
    assert len(scored_in(tmp_path / "out")) == 40
    for wrong in ("&format=protobuf9", "&group.id=other", "&colour=red", "&linger.ms=never"):
        bad = f"kafka://{address}/{topic}?{options}{USER}&sasl.password={PASSWORD}{wrong}"
        assert run(model, bad, f"file://{tmp_path}/out") == 2
    said = capsys.readouterr()
    assert PASSWORD not in said.err + said.out
    assert "sasl.password=***" in said.err


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("kafka://{address}/nowhere", "there is no such topic"),
        ("kafka://{address}", "is not of the form kafka://BROKER:PORT/TOPIC"),
        ("kafka://me:s3cret@{address}/t", "is not of the form"),
        ("kafka://{address}/{topic}?start=middle", "start=middle; give earliest or latest"),
        ("kafka://{address}/{topic}?dialect=klingon", "unknown dialect `klingon`"),
    ],
)
def test_a_wrong_address_stops_at_once(
    broker: Broker, model: Path, source: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = source.format(address=broker.address, topic=new_topic(broker.address))
    assert run(model, url, f"kafka://{broker.address}/never-made", *EXACTLY) == 2
    said = capsys.readouterr().err
    assert wrong in said
    assert "s3cret" not in said


def test_exactly_once_is_refused_where_it_cannot_be_kept(
    broker: Broker, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = new_topic(broker.address)
    assert run(model, f"kafka://{broker.address}/{topic}", "stdout:", *EXACTLY) == 2
    assert "needs a sink kafka://" in capsys.readouterr().err
    assert run(model, "simulate://office?seconds=60", f"kafka://{broker.address}/{topic}", *EXACTLY) == 2
    assert "from Kafka to Kafka only" in capsys.readouterr().err


def test_whoever_takes_a_partition_over_shuts_out_who_had_it(broker: Broker) -> None:
    from eddyline.kafka.writer import Writer  # needs the extra, without which this file skips

    where, topic = parse_address(f"kafka://{broker.address}/x", "test", ()), new_topic(broker.address)
    old = Writer(where, "same-name")
    old.send(topic, b"never seen")
    new = Writer(where, "same-name")
    new.send(topic, b"seen")
    with pytest.raises(SinkError, match="nothing since the last commit is kept"):
        old.commit(topic, 0, 1, None)
    new.commit(topic, 0, 1, None)
    assert [got.value for got in consume(broker.address, topic)] == [b"seen"]
    old.close()
    new.close()


def test_records_that_were_deleted_unread_stop_the_run(
    broker: Broker, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    address, topic = broker.address, new_topic(broker.address)
    again = (model, f"kafka://{address}/{topic}?until=end", f"kafka://{address}/{topic}-out")
    fill(address, topic, 0)
    assert run(*again) == 0
    fill(address, topic, 1, 2, 3)
    admin = AdminClient({"bootstrap.servers": address})
    for gone in admin.delete_records([TopicPartition(topic, 0, 3)]).values():
        gone.result(10)
    capsys.readouterr()
    assert run(*again) == 1
    assert "records 1 to 2 are gone before they were read" in capsys.readouterr().err


def test_a_service_that_was_stopped_goes_on_where_it_was(broker: Broker, forks: Forks) -> None:
    topic, address = new_topic(broker.address), broker.address
    cut = f"{topic}-cut"
    live = ("--source", f"kafka://{address}/{topic}?group=cut", "--sink", f"kafka://{address}/{cut}", *EXACTLY)
    for first, last in ((0, 6), (6, 12)):
        fill(address, topic, *range(first, last))
        process = forks.start(*live)
        wait_for_flows(address, cut, (last - 1) * 40)
        forks.signal(process, signal.SIGTERM)
        assert forks.wait(process) == 0, forks.log.read_text()[-3000:]
        assert len(scored(address, cut)) == (last - 1) * 40  # the last window is open and stays with the broker
    whole = f"kafka://{address}/{topic}-whole"
    assert run(forks.model, f"kafka://{address}/{topic}?group=whole&until=end", whole, *EXACTLY) == 0
    expected = as_scored(scored(address, f"{topic}-whole"))
    assert as_scored(scored(address, cut)) == [one for one in expected if one[1] < 11_000]
    assert consume(address, f"{cut}.dead-letters") == []
