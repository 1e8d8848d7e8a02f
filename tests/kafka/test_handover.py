"""Brokers that restart and replicas that come and go: every flow once, scored as if nothing happened."""

import signal

import pytest

from tests.kafka.broker import Broker
from tests.kafka.feeding import EXACTLY, FLOWS, QUICK, SITES, Feeder, finish, same_as_uninterrupted, wait_until_read
from tests.kafka.forks import Forks
from tests.kafka.topics import new_topic, wait_for_flows


@pytest.mark.slow
def test_a_broker_that_goes_or_is_killed_and_comes_back_costs_nothing(broker: Broker, forks: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    process = forks.start(*run, *EXACTLY)
    feeder = Feeder(address, topic, 60, 0.1)
    wait_for_flows(address, f"{topic}-cut", 5 * FLOWS)
    for kill in (False, True):  # one that goes tells its clients meanwhile that there is no broker
        broker.stop(kill=kill)
        broker.start()
    feeder.finish()
    wait_for_flows(address, f"{topic}-cut", 59 * len(SITES) * FLOWS, 120)
    forks.signal(process, signal.SIGTERM)
    assert forks.wait(process) == 0
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    same_as_uninterrupted(forks, address, topic, cut)


@pytest.mark.slow
def test_three_replicas_that_come_and_go_hand_their_sites_over(broker: Broker, forks: Forks) -> None:
    sites = (*SITES, "plant")
    address, topic = broker.address, new_topic(broker.address, len(sites))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    feeder = Feeder(address, topic, 60, 0.15, sites)
    first = forks.start(*run, *EXACTLY)
    wait_until_read(forks, topic, 3)
    second = forks.start(*run, *EXACTLY)
    wait_until_read(forks, topic, 4)
    third = forks.start(*run, *EXACTLY)
    wait_until_read(forks, topic, 5)  # now each has one
    forks.signal(first, signal.SIGTERM)
    assert forks.wait(first) == 0
    wait_until_read(forks, topic, 6)
    forks.signal(third, signal.SIGKILL)
    forks.wait(third)
    feeder.finish()
    wait_for_flows(address, f"{topic}-cut", 59 * len(sites) * FLOWS, 120)
    forks.signal(second, signal.SIGTERM)
    assert forks.wait(second) == 0
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    assert len(cut) == 60 * len(sites) * FLOWS
    same_as_uninterrupted(forks, address, topic, cut)
