"""What happens when nothing is wrong: the flows that one slot of a minute begins, from the network's habits.

A slot depends on the network, the traffic seed and its own number only, so any cut of time gives the same flows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.activities import ACTIVITIES, CONTENT, FIRST_PART, PARTS, PARTS_OF
from eddyline.sources.simulate.draws import Floats, bell, generator, hashed, pick, unit
from eddyline.sources.simulate.grow import BY_SHAPE, Columns, Starts, grow, starts_of
from eddyline.sources.simulate.network import Network
from eddyline.sources.simulate.rhythm import DAY_US, HOUR_US, PHASE_US, curve, hour_of, is_weekend, rhythms
from eddyline.sources.simulate.shapes import STACK
from eddyline.sources.simulate.tasks import DARK, SITES

SLOT_US: Final = 60_000_000
FAVOURITES: Final = 18  # sites that a person returns to
_RETURNS: Final = 0.66  # share of visits that go to them
_LATEST_S: Final = 240.0  # a flow of an activity begins at most so long after the activity
_ABSENT: Final = 0.08  # share of people who do not come on a day
_PRESENT: Final = 0.12  # of the office rhythm, above which a workstation is on
_LEVEL, _DAY, _LEASE, _FAVOURITE, _CONTENT = range(1, 6)  # what a hash is for
_BENIGN, _BACKGROUND = 0, -1
_KIND_OF: Final = np.where([name.startswith("noise") for name in ACTIVITIES], _BACKGROUND, _BENIGN)


@dataclass(frozen=True, slots=True)
class _Phase:
    """Ten minutes during which rates stand still."""

    number: int
    random: NDArray[np.int64]  # tasks without a period
    cumulative: Floats  # of their rates per slot
    periodic: NDArray[np.int64]
    share: Floats  # of their turns that take place
    sites: Floats  # cumulative popularity


class Benign:
    """Benign and background traffic of a network. Keeps nothing but the rates of the current ten minutes.

    Args:
        network: whose habits.
        traffic: seed of everything that is not habit; 0 or greater.
    """

    def __init__(self, network: Network, traffic: int) -> None:
        self._network, self._seed = network, traffic
        self._usual = np.cumsum(network.hosts.popularity)
        self._phase: _Phase | None = None

    def slot(self, number: int) -> Columns:
        """Flows begun by slot `number`, counted from 1970; none starts before the slot."""
        rng = generator(self._seed, 1, number)
        start_us = number * SLOT_US
        phase = self._phase_of(start_us)
        task, time_us = self._occasions(rng, start_us, phase)
        return grow(rng, self._flows(rng, task, time_us, phase))

    def _phase_of(self, time_us: int) -> _Phase:
        number = time_us // PHASE_US
        if self._phase is None or self._phase.number != number:
            self._phase = self._make_phase(number)
        return self._phase

    def _make_phase(self, number: int) -> _Phase:
        network, tasks, time_us = self._network, self._network.tasks, number * PHASE_US
        active = np.ones(network.hosts.groups["public"].stop)
        active[: network.hosts.inside] = self._there(time_us)
        rate = tasks.rate * active[tasks.src]
        random, periodic = np.flatnonzero(tasks.period_us == 0), np.flatnonzero(tasks.period_us)
        busy = rhythms(time_us)[tasks.rhythm] * self._levels(time_us)[tasks.src]
        per_slot = (rate * busy)[random] * (SLOT_US / HOUR_US)
        return _Phase(number, random, np.cumsum(per_slot), periodic, rate[periodic], self._popularity(time_us))

    def _there(self, time_us: int) -> Floats:
        """Who is on the network now, 0 or 1 per inside host: servers always, people by day, guests as they come."""
        network, hosts = self._network, np.arange(self._network.hosts.inside)
        there = np.ones(len(hosts))
        day = unit(self._seed, _DAY, time_us // DAY_US, hosts)
        hours = hour_of(time_us) - network.shift_h
        office = curve("office", hours) > _PRESENT
        people = np.array(network.hosts.groups["workstations"])
        working = (day < 0.06) & office if is_weekend(time_us) else (day >= _ABSENT) & office
        there[people] = (working | network.always_on)[people]
        guests = np.array(network.hosts.groups["guests"])
        there[guests] = self._leased(time_us, guests)
        return there

    def _leased(self, time_us: int, guests: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Leases last one to four hours; a new one is somebody else, or nobody."""
        lasting = 1 + (hashed(self._network.seed, _LEASE, guests) % np.uint64(4)).astype(np.int64)
        lease = (time_us // HOUR_US + guests) // lasting
        begun = (lease * lasting - guests) * HOUR_US
        wanted = curve("guest", begun % DAY_US / HOUR_US) * (0.1 if is_weekend(time_us) else 1.0)
        return np.asarray(unit(self._seed, _LEASE, lease, guests) < 0.45 * wanted)

    def _levels(self, time_us: int) -> Floats:
        """Everyone has busy hours and idle ones: a log-normal factor per host and hour."""
        hosts = np.arange(self._network.hosts.groups["public"].stop)
        level = np.exp(0.5 * bell(hashed(self._seed, _LEVEL, time_us // HOUR_US, hosts)) - 0.125)
        level[self._network.hosts.inside :] = 1.0
        return np.asarray(level, np.float64)

    def _popularity(self, time_us: int) -> Floats:
        """Sites gain and lose visitors over 5 to 40 days."""
        usual = self._network.hosts.popularity
        bits = hashed(self._network.seed, _CONTENT, np.arange(len(usual)))
        days = 5 + 35 * (bits >> np.uint64(40)).astype(np.float64) / 2**24
        turn = (bits & np.uint64(0xFFFF)).astype(np.float64) / 2**16
        return np.cumsum(usual * np.exp(0.6 * np.sin(2 * np.pi * (time_us / DAY_US / days + turn))))

    def _occasions(
        self, rng: np.random.Generator, start_us: int, phase: _Phase
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tasks done in this slot, and when: random ones first, then periodic ones."""
        tasks, total = self._network.tasks, phase.cumulative[-1]
        random = phase.random[pick(phase.cumulative, rng.random(rng.poisson(total)))]
        at = start_us + (rng.random(len(random)) * SLOT_US).astype(np.int64)
        period, first = tasks.period_us[phase.periodic], tasks.phase_us[phase.periodic]
        turns = (start_us + SLOT_US - 1 - first) // period - (start_us - 1 - first) // period
        turns = turns * (rng.random(len(turns)) < phase.share)
        due = np.repeat(np.arange(len(turns)), turns)
        place = np.arange(len(due)) - np.repeat(np.cumsum(turns) - turns, turns)
        turn = -((first[due] - start_us) // period[due]) + place
        jitter = (rng.random(len(due)) * 400_000).astype(np.int64)
        regular = first[due] + turn * period[due] + jitter
        return np.concatenate([random, phase.periodic[due]]), np.concatenate([at, regular])

    def _flows(
        self, rng: np.random.Generator, task: NDArray[np.int64], time_us: NDArray[np.int64], phase: _Phase
    ) -> Starts:
        tasks = self._network.tasks
        chance = rng.random((3, len(task)))
        src = tasks.src[task] + (chance[0] ** 2 * tasks.src_n[task]).astype(np.int64)
        target = tasks.dst[task] + (chance[1] ** 2 * tasks.dst_n[task]).astype(np.int64)
        browsing = np.flatnonzero(tasks.dst[task] == SITES)
        target[browsing] = self._sites(src[browsing], chance[1, browsing], chance[2, browsing], time_us, phase)
        event, part = _parts(rng, tasks.activity[task])
        to, who = PARTS["to"][part], src[event]
        dst = np.where(to >= 0, 0, target[event])
        served = np.flatnonzero(to >= 0)
        dst[served] = self._network.hosts.assigned[who[served], to[served]]
        far = np.flatnonzero(to == CONTENT)
        dst[far] = self._content(target[event[far]], rng.random(len(far)))
        late = PARTS["delay_s"][part] + PARTS["spread_s"][part] * rng.standard_exponential(len(part), np.float32)
        begins = time_us[event] + (np.minimum(late, _LATEST_S) * 1e6).astype(np.int64)
        kind = _KIND_OF[tasks.activity[task]][event]
        return self._addressed(rng, begins, who, dst, PARTS["shape"][part], kind, task[event])

    def _sites(
        self, src: NDArray[np.int64], which: Floats, back: Floats, time_us: NDArray[np.int64], phase: _Phase
    ) -> NDArray[np.int64]:
        """Where a person goes: mostly to favourites, which change one by one over weeks, else where everybody goes."""
        sites, guests = self._network.hosts.groups["sites"], self._network.hosts.groups["guests"]
        favourite = (which**2 * FAVOURITES).astype(np.int64)
        place = src * FAVOURITES + favourite
        lasting = 15 + 45 * unit(self._network.seed, _FAVOURITE, place)
        version = ((phase.number * PHASE_US / DAY_US) / lasting).astype(np.int64)
        likes = unit(self._network.seed, _FAVOURITE, place, version)
        returning = (back < _RETURNS) & (src < guests.start)  # a guest's address is somebody else each time
        found = pick(self._usual, likes)
        found[~returning] = pick(phase.sites, which[~returning])
        return found + sites.start

    def _content(self, site: NDArray[np.int64], chance: Floats) -> NDArray[np.int64]:
        """A site's pages come from two or three content networks, always the same."""
        content = self._network.hosts.groups["content"]
        wide = unit(self._network.seed, _CONTENT, site, (chance**1.5 * 3).astype(np.int64))
        return content.start + (wide**2 * len(content)).astype(np.int64)

    def _addressed(
        self, rng: np.random.Generator, begins: NDArray[np.int64], src: Any, dst: Any, shape: Any, kind: Any, task: Any
    ) -> Starts:
        """Hosts to address codes; IPv6 where both ends have it. Flows of a server with itself never meet the router."""
        plan, tasks = self._network.hosts.plan, self._network.tasks
        dark = np.flatnonzero(tasks.dst[task] == DARK)
        dst[dark] = src[dark]
        v6 = STACK["dual"][shape] & (plan.v6[src] >= 0) & (plan.v6[dst] >= 0) & (rng.random(len(src)) < 0.94)
        from_, to = np.where(v6, plan.v6[src], plan.v4[src]), np.where(v6, plan.v6[dst], plan.v4[dst])
        to[dark] = tasks.dst_n[task[dark]]
        reply = np.full(len(src), BY_SHAPE)
        reply[dark] = 0
        apart = np.flatnonzero(from_ != to)
        return starts_of(
            begins[apart], from_[apart], to[apart], shape[apart], six=v6[apart], kind=kind[apart], reply=reply[apart]
        )


def _parts(rng: np.random.Generator, what: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flows of activities `what`: which of them each belongs to, and its row in PARTS."""
    many = PARTS_OF[what]
    event = np.repeat(np.arange(len(what)), many)
    part = FIRST_PART[what][event] + np.arange(len(event)) - np.repeat(np.cumsum(many) - many, many)
    flows = PARTS["least"][part] + rng.poisson(PARTS["more"][part])
    return np.repeat(event, flows), np.repeat(part, flows)
