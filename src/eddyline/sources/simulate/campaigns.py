"""Attacks: which, when, by whom and against whom. What they send is in `attacks.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.errors import ConfigError
from eddyline.sources.simulate.draws import generator
from eddyline.sources.simulate.network import Network

KINDS: Final = (
    "horizontal_scan", "vertical_scan", "ssh_bruteforce", "ddos", "dns_exfiltration", "beaconing", "lateral_movement",
    "data_theft",
)  # fmt: skip
EVERY_US: Final = 600_000_000  # a long or endless run has a campaign about so often
FIRST, LAST = 0.25, 0.95  # of a run, between which its campaigns lie
_SHORTEST_US, _LONGEST_US = 120_000_000, 480_000_000
_BEACON: Final = 5  # a beaconing campaign lasts so many times longer
_SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Campaign:
    """One attack. Every flow of it begins and ends in [start_us, end_us), from one of `attackers` to one of `victims`.

    Args:
        number: which of the run; with the traffic seed it settles everything else.
        attackers, victims: addresses.
        attacker_codes, victim_codes: the same as address codes of the network.
    """

    kind: str
    start_us: int
    end_us: int
    attackers: tuple[str, ...]
    victims: tuple[str, ...]
    number: int
    attacker_codes: NDArray[np.int32] = field(compare=False, repr=False)
    victim_codes: NDArray[np.int32] = field(compare=False, repr=False)


class Schedule:
    """The campaigns of a run. The same arguments give the same campaigns.

    Args:
        network: whose hosts take part.
        traffic: seed of the choices.
        kinds: which attacks; a run that is too short for one every ten minutes still has each of them once.
        start_us, seconds: the run; 0 seconds = endless, with a campaign of a random kind about every ten minutes.

    Raises:
        ConfigError: a kind that does not exist.
    """

    def __init__(
        self, network: Network, traffic: int, kinds: Sequence[str] = KINDS, start_us: int = 0, seconds: float = 0
    ) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise ConfigError(f"simulate: unknown campaign `{kind}`; known are all, none, {', '.join(KINDS)}")
        self._network, self._traffic, self._kinds, self._start_us = network, traffic, tuple(kinds), start_us
        self._recent: dict[int, Campaign] = {}
        self._fixed = self._spread(int(seconds * _SECOND_US)) if kinds and seconds else []
        self._endless = bool(kinds) and not seconds

    def between(self, from_us: int, to_us: int) -> list[Campaign]:
        """Campaigns that overlap [from_us, to_us), by start; any order of calls gives the same."""
        found = self._fixed
        if self._endless:
            earliest = (from_us - self._start_us - _BEACON * _LONGEST_US) // EVERY_US - 1
            latest = (to_us - self._start_us) // EVERY_US
            found = [self._epoch(number) for number in range(max(earliest, 0), latest + 1)]
        return [campaign for campaign in found if campaign.start_us < to_us and campaign.end_us > from_us]

    def _spread(self, lasting_us: int) -> list[Campaign]:
        """Each kind once or more, in random order, one after another; neighbours may overlap."""
        rng = generator(self._traffic, 2)
        room = (LAST - FIRST) * lasting_us
        count = max(len(self._kinds), int(room // EVERY_US))
        rounds = -(-count // len(self._kinds))
        kinds = [self._kinds[i] for _ in range(rounds) for i in rng.permutation(len(self._kinds))][:count]
        first_us, last_us = self._start_us + int(FIRST * lasting_us), self._start_us + int(LAST * lasting_us)
        campaigns = []
        for number, kind in enumerate(kinds):
            lasting = min(rng.uniform(_SHORTEST_US, _LONGEST_US), 0.4 * room) * (_BEACON if kind == "beaconing" else 1)
            lasting = min(lasting, 0.6 * room)
            start = min(first_us + int((number + rng.uniform(0, 0.6)) * room / count), last_us - int(lasting))
            campaigns.append(self._cast(kind, number, start, start + int(lasting)))
        return sorted(campaigns, key=lambda campaign: campaign.start_us)

    def _epoch(self, number: int) -> Campaign:
        if number not in self._recent:
            rng = generator(self._traffic, 3, number)
            kind = self._kinds[int(rng.integers(len(self._kinds)))]
            start = self._start_us + number * EVERY_US + int(rng.uniform(0.2, 0.8) * EVERY_US)
            lasting = rng.uniform(_SHORTEST_US, _LONGEST_US) * (_BEACON if kind == "beaconing" else 1)
            while len(self._recent) > 16:
                del self._recent[next(iter(self._recent))]
            self._recent[number] = self._cast(kind, number, start, start + int(lasting))
        return self._recent[number]

    def _cast(self, kind: str, number: int, start_us: int, end_us: int) -> Campaign:
        rng = generator(self._traffic, 4, number)
        attackers, victims = _CAST[kind](rng, self._network)
        texts = self._network.hosts.plan.texts
        by, on = (tuple(texts.take(codes).to_pylist()) for codes in (attackers, victims))
        return Campaign(kind, start_us, end_us, by, on, number, attackers, victims)


def campaign_schedule(
    network: Network, start_us: int, seconds: float, traffic: int | None = None, kinds: Sequence[str] = KINDS
) -> list[Campaign]:
    """All campaigns of a run that ends, by start.

    Raises:
        ConfigError: an endless run, whose campaigns `Schedule.between` gives, or an unknown kind.
    """
    if seconds <= 0:
        raise ConfigError("simulate: an endless run has no list of campaigns; ask Schedule.between for a stretch of it")
    schedule = Schedule(network, network.seed if traffic is None else traffic, kinds, start_us, seconds)
    return schedule.between(start_us, start_us + int(seconds * _SECOND_US))


def _codes(network: Network, hosts: Any) -> NDArray[np.int32]:
    return np.atleast_1d(network.hosts.plan.v4[np.asarray(hosts)])


def _some(rng: np.random.Generator, network: Network, group: str, most: int) -> NDArray[np.int32]:
    members = network.hosts.groups[group]
    return _codes(network, rng.choice(np.array(members), min(most, len(members)), replace=False))


def _server(rng: np.random.Generator, network: Network, *roles: str) -> NDArray[np.int32]:
    return _codes(network, rng.choice(np.concatenate([network.hosts.servers[role] for role in roles])))


def _scan(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """One workstation; all addresses of two or three networks, nobody's included."""
    attacker = _some(rng, network, "workstations", 1)
    subnets = [subnet for some in network.hosts.plan.subnets.values() for subnet in some]
    chosen = rng.choice(len(subnets), min(int(rng.integers(2, 4)), len(subnets)), replace=False)
    size = np.arange(253, dtype=np.int32)
    targets = np.concatenate([subnets[i].first + size for i in chosen.tolist()])
    return attacker, targets[targets != attacker[0]]


def _ports(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    return _some(rng, network, "workstations", 1), _some(rng, network, "servers", 1)


def _guess(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Half from inside, half from a few hosts outside."""
    group, most = ("workstations", 1) if rng.random() < 0.5 else ("bots", int(rng.integers(1, 4)))
    return _some(rng, network, group, most), _server(rng, network, "build", "web", "app")


def _many(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    bots = len(network.hosts.groups["bots"])
    return _some(rng, network, "bots", int(rng.uniform(0.4, 0.9) * bots)), _server(rng, network, "web")


def _tunnel(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """By the resolver that the workstation uses anyway."""
    host = int(rng.choice(np.array(network.hosts.groups["workstations"])))
    return _codes(network, host), _codes(network, network.hosts.assigned[host, 0])


def _abroad(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """A host outside that nobody else has ever talked to."""
    return _some(rng, network, "workstations", 1), _some(rng, network, "strangers", 1)


def _onwards(rng: np.random.Generator, network: Network) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    attacker = _some(rng, network, "workstations", 1)
    near = _some(rng, network, "workstations", int(rng.integers(15, 35)))
    targets = np.concatenate([near, _some(rng, network, "servers", int(rng.integers(3, 8)))])
    return attacker, targets[targets != attacker[0]]


_CAST: Final = {
    "horizontal_scan": _scan, "vertical_scan": _ports, "ssh_bruteforce": _guess, "ddos": _many,
    "dns_exfiltration": _tunnel, "beaconing": _abroad, "lateral_movement": _onwards, "data_theft": _abroad,
}  # fmt: skip
