"""The Morpheus runtime between topics of a real broker: pieces equal the whole, a kill loses nothing."""

import signal
from collections.abc import Iterator

import pytest

from tests.kafka.broker import Broker
from tests.kafka.feeding import QUICK, SITES
from tests.kafka.forks import Forks
from tests.kafka.topics import as_scored, minute, new_topic, produce, scored, stream_of, wait_for_flows
from tests.runtimes.morpheus.standin import why_not
from tests.test_end_to_end import tiny_model

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    model = tiny_model(tmp_path_factory)
    started = Forks(model, tmp_path_factory.mktemp("morpheus"), "tests.runtimes.morpheus.standin")
    yield started
    started.close()


def fill(address: str, topic: str, *numbers: int) -> None:
    for partition, site in enumerate(SITES):
        produce(address, topic, [(site, stream_of(minute(number, site))) for number in numbers], partition)


def begin(services: Forks, address: str, topic: str, out: str, *more: object, until: str = "&until=end") -> int:
    source = f"kafka://{address}/{topic}?group={out}&{QUICK}{until}"
    return services.start("--source", source, "--sink", f"kafka://{address}/{out}", "--flush-s", 0.3, *more)


def ended(services: Forks, process: int) -> None:
    assert services.wait(process, 120) == 0, services.log.read_text()[-3000:]


def test_pieces_through_morpheus_equal_the_whole_through_the_embedded_runtime(broker: Broker, services: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, 2)
    for numbers in (range(4), range(4, 9)):
        fill(address, topic, *numbers)
        ended(services, begin(services, address, topic, f"{topic}-pieces", "--runtime", "morpheus"))
    ended(services, begin(services, address, topic, f"{topic}-whole"))
    whole = as_scored(scored(address, f"{topic}-whole"))
    assert len(whole) == 2 * 9 * 40
    assert as_scored(scored(address, f"{topic}-pieces")) == whole


def test_a_killed_pipeline_and_a_stopped_one_lose_nothing(broker: Broker, services: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, 2)
    out = f"{topic}-cut"
    for number, end in ((3, signal.SIGKILL), (6, signal.SIGTERM)):
        fill(address, topic, *range(number - 3, number))
        run = begin(services, address, topic, out, "--runtime", "morpheus", until="")
        wait_for_flows(address, out, 2 * (number - 1) * 40)  # the last minute's window is still open
        services.signal(run, end)
        assert services.wait(run, 60) == (-end if end == signal.SIGKILL else 0), services.log.read_text()[-3000:]
    fill(address, topic, *range(6, 9))
    ended(services, begin(services, address, topic, out, "--runtime", "morpheus"))
    ended(services, begin(services, address, topic, f"{topic}-whole"))
    whole = as_scored(scored(address, f"{topic}-whole"))
    assert len(whole) == 2 * 9 * 40
    assert set(as_scored(scored(address, out))) == set(whole)  # at least once: some may be there twice
