from ipaddress import ip_address

import numpy as np
import pytest

from eddyline.errors import ConfigError
from eddyline.sources.simulate.draws import bell, generator, hashed, pick, unit
from eddyline.sources.simulate.hosts import make_hosts
from eddyline.sources.simulate.network import Network


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(7, 300)


def test_every_address_is_canonical_and_stands_once(network: Network) -> None:
    texts = network.hosts.plan.texts.to_pylist()
    assert [str(ip_address(text)) for text in texts] == texts
    assert len(set(texts)) == len(texts)


def test_no_address_outside_belongs_to_anybody_real(network: Network) -> None:
    texts, v4 = network.hosts.plan.texts.to_pylist(), network.hosts.plan.v4
    assert all(texts[code].startswith("10.") for code in v4[: network.hosts.inside])
    assert all(texts[code].startswith(("198.18.", "198.19.", "203.0.113.")) for code in v4[network.hosts.inside :])
    assert all(text.startswith("2001:db8:") for text in texts if ":" in text)


def test_every_host_has_an_address_of_its_own(network: Network) -> None:
    v4, v6 = network.hosts.plan.v4, network.hosts.plan.v6
    given = np.concatenate([v4, v6[v6 >= 0]])
    assert (v4 >= 0).all()
    assert len(np.unique(given)) == len(given)
    assert (network.host_of[v4] == np.arange(len(v4))).all()


def test_the_groups_add_up_to_the_hosts_that_were_asked_for(network: Network) -> None:
    sizes = {name: len(found) for name, found in network.hosts.groups.items()}
    lasting = sum(sizes[name] for name in ("servers", "workstations", "printers", "phones", "things"))
    assert lasting + sizes["guests"] // 4 == 300


@pytest.mark.parametrize("count", [10, 11, 15, 40, 300, 2000])
def test_every_role_has_a_server_and_every_host_uses_one_of_them(count: int) -> None:
    hosts = make_hosts(generator(1), count)
    for column, found in enumerate(hosts.servers.values()):
        assert len(found) >= 1
        assert set(found) <= set(hosts.groups["servers"])
        assert set(hosts.assigned[:, column]) <= set(found)


def test_the_seed_settles_the_network() -> None:
    first, again, other = Network(3, 60), Network(3, 60), Network(4, 60)
    assert first.hosts.plan.texts.equals(again.hosts.plan.texts)
    assert all(
        np.array_equal(getattr(first.tasks, name), getattr(again.tasks, name))
        for name in ("activity", "src", "dst", "rate", "period_us", "phase_us")
    )
    assert first.hosts.plan.router != other.hosts.plan.router
    assert not np.array_equal(first.hosts.assigned, other.hosts.assigned)


@pytest.mark.parametrize(("seed", "count"), [(7, 9), (7, 30_001), (-1, 300)])
def test_a_network_that_cannot_be_is_a_configuration_error(seed: int, count: int) -> None:
    with pytest.raises(ConfigError, match=r"simulate: .*; give "):
        Network(seed, count)


def test_hashed_draws_depend_on_every_key_and_look_uniform_and_normal() -> None:
    rows = np.arange(100_000)
    draws, other = unit(7, rows, 1), unit(7, rows, 2)
    assert abs(draws.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(draws, other)[0, 1]) < 0.02
    assert abs(np.histogram(draws, 10, (0, 1))[0] - 10_000).max() < 500
    normal = bell(hashed(7, rows))
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert (unit(7, rows[:5], 1) == draws[:5]).all()


def test_a_weighted_pick_takes_each_row_as_often_as_it_weighs() -> None:
    assert pick(np.cumsum([1.0, 2.0, 1.0]), np.array([0.0, 0.24, 0.26, 0.74, 0.76, 0.999])).tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
    ]
