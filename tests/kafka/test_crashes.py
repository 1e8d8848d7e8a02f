"""Kills at random points: a reader of committed records sees every flow once, scored as if nothing happened."""

import os
from pathlib import Path

import pytest

from tests.kafka.broker import Broker
from tests.kafka.feeding import EXACTLY, FLOWS, QUICK, SITES, Feeder, finish, killed_at_random, same_as_uninterrupted
from tests.kafka.forks import Forks
from tests.kafka.topics import as_scored, consume, new_topic, scored
from tests.test_end_to_end import scored as scored_in

KILLS = int(os.environ.get("KILLS", "6"))  # the suite has ten minutes; KILLS=20 for the whole test


@pytest.mark.slow
def test_kills_at_random_points_under_load_change_nothing(broker: Broker, forks: Forks) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    run = ("--source", f"kafka://{address}/{topic}?group=cut&{QUICK}", "--sink", f"kafka://{address}/{topic}-cut")
    minutes = 10 * KILLS
    feeder = Feeder(address, topic, minutes, 0.25)
    seen = killed_at_random(forks, feeder, KILLS, 5, lambda: scored(address, f"{topic}-cut").num_rows, *run, *EXACTLY)
    feeder.finish()
    assert seen == sorted(seen), "what was committed is gone"
    cut = finish(forks, address, topic, "cut", f"{topic}-cut")
    assert len(cut) == len({one[:2] for one in cut}) == minutes * len(SITES) * FLOWS
    same_as_uninterrupted(forks, address, topic, cut)
    noise = sorted((got.headers["partition"], got.value) for got in consume(address, f"{topic}-cut.dead-letters"))
    assert noise == sorted((p, f"noise {n}".encode()) for p in "01" for n in range(2, minutes, 5))


@pytest.mark.slow
def test_kills_under_at_least_once_leave_each_window_once_in_a_folder(
    broker: Broker, forks: Forks, tmp_path: Path
) -> None:
    address, topic = broker.address, new_topic(broker.address, len(SITES))
    source, sink = f"kafka://{address}/{topic}?group=cut&{QUICK}", f"file://{tmp_path}/out"
    feeder = Feeder(address, topic, 60, 0.1)

    def written() -> int:
        return len(list((tmp_path / "out").glob("flows/*")))

    killed_at_random(forks, feeder, 5, 6, written, "--source", source, "--sink", sink, "--flush-s", 0.3)
    feeder.finish()
    assert forks.wait(forks.start("--source", f"{source}&until=end", "--sink", sink)) == 0
    cut = as_scored(scored_in(tmp_path / "out"))
    assert len(cut) == 60 * len(SITES) * FLOWS
    same_as_uninterrupted(forks, address, topic, cut)
