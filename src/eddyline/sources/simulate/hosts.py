"""Who is in the network: hosts by group, what each server is for and who uses it. Fixed by the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.activities import ROLES
from eddyline.sources.simulate.addresses import AddressPlan, plan_addresses
from eddyline.sources.simulate.draws import Floats

SERVER_SHARE, PRINTER_SHARE, PHONE_SHARE, THING_SHARE, GUEST_SHARE = 0.06, 0.04, 0.12, 0.08, 0.08
GUEST_ADDRESSES: Final = 4  # in the pool, for each guest present
DUAL_WEIGHT: Final = 0.22  # of web popularity is reachable over IPv6
_SPARE_ROLES: Final = ("file", "app", "directory", "database", "dns", "web")  # of servers beyond one per role


@dataclass(frozen=True, slots=True)
class Hosts:
    """H hosts, the site's own first. Host ids are rows everywhere.

    Args:
        groups: the hosts of each group, by name.
        plan: their addresses.
        servers: the servers of each role.
        assigned: (I, R) int32, the server that an inside host uses for a role.
        popularity: weights of the hosts of group `sites`, before they drift.
    """

    groups: dict[str, range]
    plan: AddressPlan
    servers: dict[str, NDArray[np.int64]]
    assigned: NDArray[np.int32]
    popularity: Floats

    @property
    def inside(self) -> int:
        """How many hosts the site has, guests' pool of addresses included."""
        return self.groups["guests"].stop


def make_hosts(rng: np.random.Generator, count: int) -> Hosts:
    """The network of `count` hosts; guests count as many as are usually there at a time."""
    groups = _groups(count)
    inside, total = groups["guests"].stop, groups["public"].stop
    popularity: Floats = rng.permutation(1.0 / (np.arange(len(groups["sites"])) + 3.0) ** 0.95)  # Zipf-Mandelbrot
    dual = np.zeros(total, bool)
    for name in ("workstations", "guests", "names"):
        dual[groups[name].start : groups[name].stop] = True
    dual[groups["sites"].start + _with_six(rng, popularity)] = True
    for name in ("content", "clouds"):
        dual[groups[name].start : groups[name].stop : 4] = True
    names = ("servers", "workstations", "printers", "phones", "things", "guests")
    servers = _servers(rng, groups["servers"])
    plan = plan_addresses(rng, {name: groups[name] for name in names}, range(inside, total), dual)
    return Hosts(groups, plan, servers, _assign(rng, inside, servers), popularity)


def _groups(count: int) -> dict[str, range]:
    servers = max(3, round(SERVER_SHARE * count))
    printers, phones, things, guests = (
        max(1, round(share * count)) for share in (PRINTER_SHARE, PHONE_SHARE, THING_SHARE, GUEST_SHARE)
    )
    sizes = {
        "servers": servers,
        "workstations": max(2, count - servers - printers - phones - things - guests),
        "printers": printers,
        "phones": phones,
        "things": things,
        "guests": GUEST_ADDRESSES * guests,
        "sites": min(800 + 4 * count, 20_000),
        "content": 48,
        "clouds": 40,
        "names": 30,  # name servers of others
        "mailers": 160,
        "visitors": min(600 + 4 * count, 8_000),
        "noise": 3_000,
        "bots": min(600 + 3 * count, 6_000),
        "strangers": 512,  # that only attackers know
        "public": 1,
    }
    stops = np.cumsum(list(sizes.values())).tolist()
    return {name: range(stop - size, stop) for (name, size), stop in zip(sizes.items(), stops, strict=True)}


def _with_six(rng: np.random.Generator, popularity: Floats) -> NDArray[np.int64]:
    """Sites with IPv6: chosen at random until together they have their share of the visits, whoever is in the head."""
    order = rng.permutation(len(popularity))
    share = np.cumsum(popularity[order]) / popularity.sum()
    return np.asarray(order[share <= DUAL_WEIGHT])


def _servers(rng: np.random.Generator, members: range) -> dict[str, NDArray[np.int64]]:
    """One server per role; small networks put several roles on one, large ones several servers into one role."""
    machines = rng.permutation(np.arange(members.start, members.stop))
    serving: dict[str, list[int]] = {role: [int(machines[row % len(machines)])] for row, role in enumerate(ROLES)}
    for extra, machine in enumerate(machines[len(ROLES) :].tolist()):
        serving[_SPARE_ROLES[extra % len(_SPARE_ROLES)]].append(machine)
    return {role: np.array(found) for role, found in serving.items()}


def _assign(rng: np.random.Generator, inside: int, servers: dict[str, NDArray[np.int64]]) -> NDArray[np.int32]:
    """Departments of 24 neighbours share their servers; a server never uses itself where another has the role."""
    department = np.arange(inside) // 24
    assigned = np.empty((inside, len(ROLES)), np.int32)
    for column, role in enumerate(ROLES):
        choices = servers[role]
        turn = rng.permutation(len(choices))
        chosen = choices[turn[department % len(choices)]]
        itself = chosen == np.arange(inside)
        assigned[:, column] = np.where(itself, choices[turn[(department + 1) % len(choices)]], chosen)
    return assigned
