"""The service between two topics of a real broker."""

import signal
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.kafka.topics import (
    as_scored,
    consume,
    ended,
    minute,
    new_topic,
    produce,
    scored,
    service,
    stream_of,
    wait_for_flows,
)  # fmt: skip
from tests.test_end_to_end import eddyline, tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory)


def test_every_flow_of_a_topic_comes_out_scored_once(broker: Broker, model: Path, tmp_path: Path) -> None:
    topic = new_topic(broker.address)
    produce(broker.address, topic, [("hq", stream_of(minute(number, "hq"))) for number in range(5)])
    source, out = f"kafka://{broker.address}/{topic}?until=end", f"kafka://{broker.address}/{topic}-out"
    assert eddyline("run", "--source", source, "--model", model, "--sink", out, f"file://{tmp_path}/out") == 0
    found = scored(broker.address, f"{topic}-out")
    assert found.num_rows == 200


def test_a_service_that_was_stopped_goes_on_where_it_was(broker: Broker, model: Path) -> None:
    topic, address = new_topic(broker.address), broker.address
    whole, cut = f"{topic}-whole", f"{topic}-cut"
    base = ("--model", model, "--delivery", "exactly_once")
    produce(address, topic, [("hq", stream_of(minute(number, "hq"))) for number in range(6)])
    run = ("--source", f"kafka://{address}/{topic}?group=cut", "--sink", f"kafka://{address}/{cut}", *base)
    with service(*run) as first:
        wait_for_flows(address, cut, 4 * 40)
        code, said = ended(first, signal.SIGTERM)
    assert code == 0, said
    assert scored(address, cut).num_rows == 5 * 40  # the last window is open and stays with the broker
    produce(address, topic, [("hq", stream_of(minute(number, "hq"))) for number in range(6, 12)])
    with service(*run) as second:
        wait_for_flows(address, cut, 11 * 40)
        code, said = ended(second, signal.SIGTERM)
    assert code == 0, said
    source = f"kafka://{address}/{topic}?group=whole&until=end"
    assert eddyline("run", "--source", source, "--sink", f"kafka://{address}/{whole}", *base) == 0
    expected = as_scored(scored(address, whole))
    assert as_scored(scored(address, cut)) == [one for one in expected if one[1] < 11_000]
    assert consume(address, f"{cut}.dead-letters") == []
