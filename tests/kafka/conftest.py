"""One broker for all tests here; they skip with the reason where none can be started."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka.broker import Broker, NoBroker, free_ports
from tests.kafka.forks import Forks

MODEL = Path(__file__).parents[2] / "artifacts" / "gae"  # its p follow what it remembers, a tiny model's hardly do


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    pytest.importorskip("confluent_kafka", reason="the extra `kafka` is not installed")
    try:
        started = Broker(tmp_path_factory.mktemp("kafka"), free_ports(4))
        started.start()
    except NoBroker as reason:
        pytest.skip(str(reason))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    started = Forks(MODEL, tmp_path_factory.mktemp("services"))
    yield started
    started.close()
