from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eddyline.flows import FlowBatch
from eddyline.sources.simulate.attacks import attack
from eddyline.sources.simulate.benign import SLOT_US, Benign
from eddyline.sources.simulate.campaigns import KINDS, Schedule
from eddyline.sources.simulate.grow import joined
from eddyline.sources.simulate.network import Network
from eddyline.sources.simulate.stream import REACH, Stream, flows, to_table

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
SMALL = Network(5, 20)


def at(text: str) -> int:
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1e6)


TUESDAY = at("2026-01-06T00:00:00")
TEN = TUESDAY + 10 * HOUR_US


def written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, whose order is no part of what a table says."""
    columns = [column.cast(pa.utf8()) if pa.types.is_dictionary(column.type) else column for column in table.columns]
    return pa.table(columns, names=table.column_names).combine_chunks()


def texts(column: pa.ChunkedArray) -> list[str]:
    return list(column.cast(pa.utf8()).to_pylist())


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(7, 300)


@pytest.fixture(scope="module")
def hour(network: Network) -> pa.Table:
    return flows(network, TEN, TEN + HOUR_US)


def test_the_same_seeds_give_the_same_table_byte_for_byte(network: Network, hour: pa.Table) -> None:
    again = flows(Network(7, 300), TEN, TEN + HOUR_US, traffic=7)
    assert written(again) == written(hour)


def test_other_traffic_on_the_same_network_has_the_same_hosts_and_other_flows(network: Network, hour: pa.Table) -> None:
    other = flows(network, TEN, TEN + HOUR_US, traffic=8)
    assert written(other) != written(hour)
    inside, habit = ({text for text in texts(table["src_addr"]) if text.startswith("10.")} for table in (hour, other))
    assert len(inside & habit) > 0.75 * len(inside | habit)
    assert texts(other["exporter"])[0] == texts(hour["exporter"])[0]


def test_another_network_has_other_hosts(hour: pa.Table) -> None:
    other = flows(Network(8, 300), TEN, TEN + HOUR_US, traffic=7)
    inside, others = ({text for text in texts(table["src_addr"]) if text.startswith("10.")} for table in (hour, other))
    assert not inside & others


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 10 * MINUTE_US - 1), max_size=5))
def test_any_cut_of_time_gives_the_same_flows(cuts: list[int]) -> None:
    campaigns = Schedule(SMALL, 1, KINDS, TEN, 600)
    bounds = [TEN, *(TEN + cut for cut in sorted(set(cuts))), TEN + 10 * MINUTE_US]
    whole = flows(SMALL, bounds[0], bounds[-1], 1, campaigns)
    alone = [flows(SMALL, a, b, 1, campaigns) for a, b in pairwise(bounds)]
    assert plain(pa.concat_tables(alone)).equals(plain(whole))
    stream = Stream(SMALL, 1, TEN, campaigns)
    pieces = [to_table(SMALL, stream.until(b)) for b in bounds[1:]]
    assert plain(pa.concat_tables(pieces)).equals(plain(whole))


def test_every_flow_comes_out_once_in_the_slot_in_which_it_ends() -> None:
    campaigns = Schedule(SMALL, 1, KINDS, TEN, 2400)
    first, count = TEN // SLOT_US, 40
    benign, made = Benign(SMALL, 1), []
    for slot in range(first - REACH, first + count):
        made.append(benign.slot(slot))
        for campaign in campaigns.between(slot * SLOT_US, (slot + 1) * SLOT_US):
            made.append(attack(SMALL, 1, campaign, slot))
    all_flows = joined(made)
    stream = Stream(SMALL, 1, TEN, campaigns)
    for slot in range(first, first + count):
        ended = stream.until((slot + 1) * SLOT_US)
        mine = (all_flows["ts_end"] >= slot * SLOT_US) & (all_flows["ts_end"] < (slot + 1) * SLOT_US)
        for name in ("ts_start", "ts_end", "src", "dst", "src_port", "bytes", "kind"):
            order = np.argsort(all_flows["ts_end"][mine], kind="stable")
            assert np.array_equal(ended[name], all_flows[name][mine][order])


def test_no_flow_reaches_further_than_the_stream_looks_back(network: Network) -> None:
    benign = Benign(network, 3)
    for hour in (2, 10):  # full copies by night, calls and long sessions by day
        for slot in range((TUESDAY + hour * HOUR_US) // SLOT_US, (TUESDAY + hour * HOUR_US) // SLOT_US + 60):
            columns = benign.slot(slot)
            assert columns["ts_start"].min() >= slot * SLOT_US
            assert columns["ts_end"].max() < (slot + REACH) * SLOT_US


def test_flows_are_ordered_by_their_end_and_inside_the_range(hour: pa.Table) -> None:
    ends = hour["ts_end"].cast(pa.int64()).to_numpy()
    assert (np.diff(ends) >= 0).all()
    assert ends[0] >= TEN
    assert ends[-1] < TEN + HOUR_US


def test_the_table_is_a_flow_batch_of_two_way_records(hour: pa.Table) -> None:
    FlowBatch(hour)
    never_null = set(hour.column_names) - {"attack", "app", "icmp_type", "icmp_code", "tcp_flags", "rev_tcp_flags"}
    assert all(hour[name].null_count == 0 for name in never_null - {"source_row"})
    assert hour["source_row"].null_count == len(hour)
    assert set(texts(hour["site"])) == {"default"}
    assert texts(hour["exporter"])[0].endswith(".1/0")
    assert pc.all(pc.equal(hour["sampling_rate"], 1)).as_py()
    lasting = pc.subtract(hour["ts_end"].cast(pa.int64()), hour["ts_start"].cast(pa.int64()))
    assert lasting.equals(hour["duration_us"])


def test_both_ends_share_one_dictionary_of_exactly_the_addresses_that_occur(hour: pa.Table) -> None:
    src, dst = (hour[name].chunk(0) for name in ("src_addr", "dst_addr"))
    assert src.dictionary.equals(dst.dictionary)
    assert set(src.dictionary.to_pylist()) == {*texts(hour["src_addr"]), *texts(hour["dst_addr"])}


def test_nobody_talks_to_himself(hour: pa.Table) -> None:
    assert not pc.any(pc.equal(hour["src_addr"].cast(pa.utf8()), hour["dst_addr"].cast(pa.utf8()))).as_py()


def test_a_host_has_two_to_five_flows_a_hundred_seconds_by_day(hour: pa.Table) -> None:
    assert 0.02 < len(hour) / 300 / 3600 < 0.05


def test_only_noise_from_the_internet_is_background_and_there_is_little_of_it(hour: pa.Table) -> None:
    labels = np.array(texts(hour["label"]))
    assert set(labels) == {"benign", "background"}
    assert hour["attack"].null_count == len(hour)
    noise = hour.filter(pa.array(labels == "background"))
    assert set(texts(noise["dst_addr"])) == {"203.0.113.20"}
    assert 20 < len(noise) < 200


def test_about_a_percent_of_benign_flows_get_no_reply(hour: pa.Table) -> None:
    benign = hour.filter(pc.equal(hour["label"].cast(pa.utf8()), "benign"))
    asked = benign.filter(pc.not_equal(benign["dst_port"], 514))  # nobody answers a log line
    silent = pc.mean(pc.equal(asked["rev_packets"], 0).cast(pa.float64())).as_py()
    assert 0.007 < silent < 0.018


@pytest.mark.parametrize("seed", [1, 7, 12])
def test_about_a_fifth_of_web_flows_go_over_ipv6(seed: int) -> None:
    table = flows(Network(seed, 300), TEN, TEN + HOUR_US)
    far = np.array([text.startswith(("198.", "2001:")) for text in texts(table["dst_addr"])])
    six = np.array([":" in text for text in texts(table["dst_addr"])])
    web = far & np.isin(table["dst_port"].to_numpy(), (80, 443))
    assert 0.13 < six[web].mean() < 0.28
    src_six = np.array([":" in text for text in texts(table["src_addr"])])
    assert (src_six == six).all()


def test_noon_is_busier_than_the_night_and_working_days_than_sundays(network: Network) -> None:
    def count(start_us: int) -> int:
        return len(flows(network, start_us, start_us + HOUR_US))

    noon = count(TUESDAY + 12 * HOUR_US)
    assert noon > 3 * count(TUESDAY + 3 * HOUR_US)
    assert count(TEN) > noon  # lunch
    assert noon > 2 * count(at("2026-01-11T12:00:00"))


def test_people_log_on_in_the_morning(network: Network) -> None:
    def kerberos(hour: int) -> int:
        table = flows(network, TUESDAY + hour * HOUR_US, TUESDAY + (hour + 1) * HOUR_US)
        return int(pc.sum(pc.equal(table["dst_port"], 88)).as_py())

    assert kerberos(8) > 1.5 * kerberos(15)


def test_guests_come_and_go(network: Network) -> None:
    prefixes = tuple(network.hosts.plan.texts[s.first].as_py()[:-1] for s in network.hosts.plan.subnets["guests"])

    def guests(hour: int) -> set[str]:
        table = flows(network, TUESDAY + hour * HOUR_US, TUESDAY + (hour + 1) * HOUR_US)
        return {text for text in texts(table["src_addr"]) if text.startswith(prefixes)}

    ten, eleven, fifteen = guests(10), guests(11), guests(15)
    assert ten & eleven  # some stay
    assert eleven - ten  # some come
    assert ten - eleven  # some go
    assert len(ten & fifteen) < 0.7 * len(ten)
    assert len(guests(3)) < len(ten) / 4


def test_people_return_to_their_sites_and_still_meet_new_ones_every_day(network: Network) -> None:
    def pairs(day: int) -> set[tuple[str, str]]:
        table = flows(network, TEN + day * 24 * HOUR_US, TEN + day * 24 * HOUR_US + HOUR_US)
        return set(zip(texts(table["src_addr"]), texts(table["dst_addr"]), strict=True))

    monday, tuesday = pairs(0), pairs(1)
    assert 0.3 < len(monday & tuesday) / len(tuesday) < 0.9


def test_benign_polls_are_as_regular_as_beacons(hour: pa.Table) -> None:
    polls = hour.filter(pc.equal(hour["dst_port"], 161))
    dst = texts(polls["dst_addr"])
    times = polls["ts_start"].cast(pa.int64()).to_numpy()
    one = times[np.array([text == dst[0] for text in dst])]
    gaps = np.diff(one) / 1e6
    assert len(gaps) > 50
    assert np.abs(gaps - 60).max() < 1


def test_nightly_copies_move_gigabytes(network: Network) -> None:
    night = flows(network, TUESDAY + HOUR_US, TUESDAY + 4 * HOUR_US)
    moved = pc.sum(night.filter(pc.equal(night["dst_port"], 9103))["bytes"]).as_py()
    assert moved > 50e9
