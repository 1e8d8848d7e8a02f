"""One partition as a source: batches, positions and a clock that stands still until everything has been read."""

from tests.kafka.broker import Broker
from tests.kafka.topics import minute, new_topic, produce, stream_of  # first: skips where the extra is absent

from eddyline.sources.kafka.source import PartitionSource, open_kafka, read_topic  # isort: skip
from eddyline.windows import Commit  # isort: skip

STRIDE_US = 2_000_000


def filled(address: str, minutes: int, partitions: int = 1) -> str:
    topic = new_topic(address, partitions)
    for partition in range(partitions):
        values = [(f"site{partition}", stream_of(minute(n, f"site{partition}"))) for n in range(minutes)]
        produce(address, topic, values, partition)
    return f"kafka://{address}/{topic}"


def test_the_clock_moves_only_in_quiet_and_never_by_an_outage(broker: Broker) -> None:
    looks = [0]

    def clock() -> int:
        looks[0] += 3_600_000_000  # every look is an hour later, as after a long stall
        return looks[0]

    source = PartitionSource(read_topic(filled(broker.address, 3)), 0, clock=clock)
    batches = []
    for batch in source:
        batches.append(batch)
        if len(batches) == 5:
            source.close()
    assert [len(batch) for batch in batches] == [40, 40, 40, 0, 0]
    assert [batch.position for batch in batches] == [1, 2, 3, 3, 3]
    times = [batch.now_us for batch in batches]
    began, quiet, later = times[0], times[3], times[4]
    assert times[:3] == [began] * 3
    assert began < quiet < later <= began + 60 * STRIDE_US
    assert (later - began) % STRIDE_US == 0


def test_a_source_that_is_closed_is_unfinished_and_one_that_ends_is_not(broker: Broker) -> None:
    url = filled(broker.address, 2)
    closed = PartitionSource(read_topic(url), 0)
    for _ in closed:
        closed.close()
    assert closed.unfinished
    bounded = PartitionSource(read_topic(f"{url}?until=end"), 0)
    assert [(len(batch), batch.now_us) for batch in bounded] == [(40, None), (40, None)]
    assert not bounded.unfinished


def test_it_begins_at_an_offset_and_a_commit_without_a_position_keeps_where_it_began(broker: Broker) -> None:
    kept: list[Commit] = []
    url = filled(broker.address, 4)
    source = PartitionSource(read_topic(f"{url}?until=end"), 0, 2, kept.append)
    assert [batch.position for batch in source] == [3, 4]
    source.commit(Commit(None))
    source.commit(Commit(4))
    assert [commit.position for commit in kept] == [2, 4]
    latest = PartitionSource(read_topic(f"{url}?until=end&start=latest"), 0)
    assert list(latest) == []


def test_all_partitions_are_read_one_after_the_other_again_and_again(broker: Broker) -> None:
    source = open_kafka(filled(broker.address, 2, partitions=3))
    for _ in range(2):
        sites = [batch.table["site"][0].as_py() for batch in source if len(batch)]
        assert sites == ["site0", "site0", "site1", "site1", "site2", "site2"]
