from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from eddyline.errors import ConfigError
from eddyline.sources.simulate.campaigns import KINDS, Campaign, Schedule, campaign_schedule
from eddyline.sources.simulate.network import Network
from eddyline.sources.simulate.stream import flows

SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
START = round(datetime(2026, 1, 5, 8, tzinfo=UTC).timestamp() * SECOND_US)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(7, 300)


@pytest.fixture(scope="module")
def campaigns(network: Network) -> dict[str, Campaign]:
    return {campaign.kind: campaign for campaign in campaign_schedule(network, START, 3600)}


@pytest.fixture(scope="module")
def attacks(network: Network) -> dict[str, pa.Table]:
    table = flows(network, START, START + HOUR_US, 7, Schedule(network, 7, KINDS, START, 3600))
    return {kind: table.filter(pc.equal(table["attack"].cast(pa.utf8()), kind)) for kind in KINDS}


def texts(column: pa.ChunkedArray) -> list[str]:
    return list(column.cast(pa.utf8()).to_pylist())


def numbers(table: pa.Table, name: str) -> Any:
    column = table[name]
    return np.asarray(column.cast(pa.int64()).to_numpy() if pa.types.is_timestamp(column.type) else column.to_numpy())


@pytest.mark.parametrize("traffic", range(5))
def test_an_hour_has_every_kind_once_between_a_quarter_and_95_percent(network: Network, traffic: int) -> None:
    found = campaign_schedule(network, START, 3600, traffic)
    assert sorted(campaign.kind for campaign in found) == sorted(KINDS)
    for campaign in found:
        assert campaign.start_us >= START + 900 * SECOND_US
        assert campaign.end_us <= START + 3420 * SECOND_US
        minutes = (campaign.end_us - campaign.start_us) / 60 / SECOND_US
        assert (8 < minutes < 40) if campaign.kind == "beaconing" else (2 <= minutes <= 8)
    assert [campaign.start_us for campaign in found] == sorted(campaign.start_us for campaign in found)


def test_other_traffic_has_other_campaigns(network: Network) -> None:
    first, other = campaign_schedule(network, START, 3600, 1), campaign_schedule(network, START, 3600, 2)
    assert first == campaign_schedule(network, START, 3600, 1)
    assert first != other


@pytest.mark.parametrize("kind", KINDS)
def test_flows_of_a_campaign_are_labelled_and_inside_it(
    attacks: dict[str, pa.Table], campaigns: dict[str, Campaign], kind: str
) -> None:
    table, campaign = attacks[kind], campaigns[kind]
    assert len(table) >= 10
    assert set(texts(table["label"])) == {"malicious"}
    assert numbers(table, "ts_start").min() >= campaign.start_us
    assert numbers(table, "ts_end").max() < campaign.end_us
    assert set(texts(table["src_addr"])) <= set(campaign.attackers)
    assert set(texts(table["dst_addr"])) <= set(campaign.victims)


def test_benign_flows_are_the_same_with_and_without_campaigns(network: Network) -> None:
    end = START + HOUR_US
    attacked = flows(network, START, end, 7, Schedule(network, 7, KINDS, START, 3600))
    quiet = attacked.filter(pc.invert(pc.equal(attacked["label"].cast(pa.utf8()), "malicious")))
    assert quiet.num_rows < attacked.num_rows
    alone = flows(network, START, end, 7)
    for name in alone.column_names:
        column, other = quiet[name], alone[name]
        if pa.types.is_dictionary(column.type):
            column, other = column.cast(pa.utf8()), other.cast(pa.utf8())
        assert column.combine_chunks().equals(other.combine_chunks())


def test_only_the_kinds_that_were_asked_for_happen(network: Network) -> None:
    assert {c.kind for c in campaign_schedule(network, START, 3600, 7, ("ddos", "beaconing"))} == {"ddos", "beaconing"}
    assert campaign_schedule(network, START, 3600, 7, ()) == []


def test_a_day_has_a_campaign_about_every_ten_minutes_of_every_kind(network: Network) -> None:
    found = campaign_schedule(network, START, 86_400)
    assert 80 < len(found) < 120
    assert {campaign.kind for campaign in found} == set(KINDS)


def test_an_endless_run_has_a_campaign_about_every_ten_minutes_however_it_is_asked(network: Network) -> None:
    endless = Schedule(network, 7, KINDS, START)
    whole = endless.between(START, START + 24 * HOUR_US)
    again = Schedule(network, 7, KINDS, START)
    pieces = [
        campaign
        for hour in range(24)
        for campaign in again.between(START + hour * HOUR_US, START + (hour + 1) * HOUR_US)
    ]
    assert 130 < len(whole) < 150
    assert {campaign.number: campaign for campaign in pieces} == {campaign.number: campaign for campaign in whole}
    assert {campaign.kind for campaign in whole} == set(KINDS)


def test_an_endless_run_has_no_list_and_an_unknown_kind_no_schedule(network: Network) -> None:
    with pytest.raises(ConfigError, match="endless"):
        campaign_schedule(network, START, 0)
    with pytest.raises(ConfigError, match="unknown campaign `picnic`; known are all, none, horizontal_scan"):
        campaign_schedule(network, START, 3600, 7, ("picnic",))


def test_a_horizontal_scan_tries_one_port_on_many_mostly_silent_addresses(
    attacks: dict[str, pa.Table],
) -> None:
    scan = attacks["horizontal_scan"]
    assert len(set(texts(scan["src_addr"]))) == 1
    assert len(set(numbers(scan, "dst_port"))) == 1
    assert len(set(texts(scan["dst_addr"]))) > 200
    assert numbers(scan, "packets").max() <= 2
    assert numbers(scan, "rev_packets").mean() < 0.5
    assert set(numbers(scan, "tcp_flags")) <= {0x02, 0x06}


def test_a_vertical_scan_tries_many_ports_of_one_host_that_mostly_resets(attacks: dict[str, pa.Table]) -> None:
    scan = attacks["vertical_scan"]
    assert len(set(texts(scan["dst_addr"]))) == 1
    assert len(set(numbers(scan, "dst_port"))) > 500
    assert (numbers(scan, "rev_tcp_flags") == 0x14).mean() > 0.5


def test_password_guesses_are_many_and_alike(attacks: dict[str, pa.Table]) -> None:
    guesses = attacks["ssh_bruteforce"]
    assert set(numbers(guesses, "dst_port")) == {22}
    answered = numbers(guesses, "rev_packets") > 1
    sizes = numbers(guesses, "bytes")[answered]
    assert len(sizes) > 150
    assert sizes.std() < 0.2 * sizes.mean()


def test_a_flood_comes_from_hundreds_of_outside_hosts_in_tiny_flows(attacks: dict[str, pa.Table]) -> None:
    flood = attacks["ddos"]
    assert len(set(texts(flood["src_addr"]))) > 300
    assert all(text.startswith("198.1") for text in set(texts(flood["src_addr"])))
    assert np.median(numbers(flood, "packets")) <= 5
    assert len(flood) > 3000


def test_exfiltration_over_dns_has_questions_far_longer_than_usual(
    network: Network, attacks: dict[str, pa.Table]
) -> None:
    usual = flows(network, START, START + HOUR_US // 2)
    usual = usual.filter(pc.equal(usual["dst_port"], 53))
    assert np.median(numbers(attacks["dns_exfiltration"], "bytes")) > 2.5 * np.median(numbers(usual, "bytes"))


def test_beacons_are_regular_and_call_a_host_that_nobody_else_knows(
    network: Network, attacks: dict[str, pa.Table], campaigns: dict[str, Campaign]
) -> None:
    gaps = np.diff(numbers(attacks["beaconing"], "ts_start")) / SECOND_US
    assert 12 < np.median(gaps) < 50
    assert gaps.std() < 0.15 * gaps.mean()
    benign = flows(network, START, START + HOUR_US)
    assert not set(campaigns["beaconing"].victims) & set(texts(benign["dst_addr"]))


def test_lateral_movement_reaches_many_hosts_inside(attacks: dict[str, pa.Table]) -> None:
    moves = attacks["lateral_movement"]
    assert len(set(texts(moves["src_addr"]))) == 1
    assert len(set(texts(moves["dst_addr"]))) >= 10
    assert all(text.startswith("10.") for text in set(texts(moves["dst_addr"])))
    assert set(numbers(moves, "dst_port")) <= {445, 3389, 5985, 135}


def test_theft_uploads_gigabytes_to_one_host(attacks: dict[str, pa.Table]) -> None:
    theft = attacks["data_theft"]
    assert len(set(texts(theft["dst_addr"]))) == 1
    assert 1e9 < numbers(theft, "bytes").sum() < 1e11
    assert numbers(theft, "bytes").sum() > 20 * numbers(theft, "rev_bytes").sum()


@pytest.mark.parametrize("count", [10, 25, 1000])
@pytest.mark.parametrize("traffic", [1, 2])
def test_every_kind_happens_in_networks_of_any_size(count: int, traffic: int) -> None:
    network = Network(3, count)
    schedule = Schedule(network, traffic, KINDS, START, 1200)
    table = flows(network, START, START + 1200 * SECOND_US, traffic, schedule)
    assert set(table["attack"].cast(pa.utf8()).drop_null().to_pylist()) == set(KINDS)
