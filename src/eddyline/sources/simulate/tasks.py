"""Who does what how often: the habits of a network, one task per row. Fixed by the network's seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.activities import activity
from eddyline.sources.simulate.hosts import Hosts
from eddyline.sources.simulate.rhythm import HOUR_US, RHYTHMS

SITES: Final = -1  # instead of a destination: wherever people browse
DARK: Final = -2  # an address of the site that nobody has
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Tasks:
    """T habits, (T,) each.

    Args:
        activity: rows of ACTIVITIES.
        src, src_n: done by one of the hosts `src` to `src + src_n - 1`.
        dst, dst_n: with one of these hosts, or SITES, or DARK, where `dst_n` is an address code.
        rate: times per hour while its rhythm is 1; of a periodic task the share of turns that take place.
        rhythm: rows of RHYTHMS.
        period_us, phase_us: every so many microseconds, first at `phase_us` after 1970; period 0 = at random.
    """

    activity: NDArray[np.int64]
    src: NDArray[np.int64]
    src_n: NDArray[np.int64]
    dst: NDArray[np.int64]
    dst_n: NDArray[np.int64]
    rate: NDArray[np.float64]
    rhythm: NDArray[np.int64]
    period_us: NDArray[np.int64]
    phase_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.activity)


def make_tasks(rng: np.random.Generator, hosts: Hosts) -> Tasks:
    """Everything that the hosts of a network do without being told to."""
    book = _Book(rng)
    for write in _CHAPTERS:
        write(book, rng, hosts)
    return Tasks(**{name: np.concatenate(column) for name, column in book.columns.items()})


class _Book:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.columns: dict[str, list[NDArray[Any]]] = {name: [] for name in Tasks.__dataclass_fields__}

    def add(
        self, what: str, who: Any, rate: float = 1.0, to: Any = SITES, of: Any = 1, rhythm: str = "steady",
        crowd: int = 1, period_s: float = 0.0, phase_us: Any = None,
    ) -> None:  # fmt: skip
        """One task for each of `who`; random rates differ between hosts by a log-normal factor of sigma 0.4."""
        src = np.atleast_1d(np.asarray(who, np.int64))
        period = int(period_s * _SECOND)
        phase = self.rng.integers(0, period or 1, len(src)) if phase_us is None else phase_us
        vary = np.exp(self.rng.normal(-0.08, 0.4, len(src))) if not period and crowd == 1 else 1.0
        row = {
            "activity": activity(what), "src": src, "src_n": crowd, "dst": to, "dst_n": of, "rate": rate * vary,
            "rhythm": RHYTHMS.index(rhythm), "period_us": period, "phase_us": phase,
        }  # fmt: skip
        for name, value in row.items():
            self.columns[name].append(np.broadcast_to(np.asarray(value), src.shape))


def _some(rng: np.random.Generator, members: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    return members[rng.random(len(members)) < share]


def _workstations(book: _Book, rng: np.random.Generator, hosts: Hosts) -> None:
    every = np.array(hosts.groups["workstations"])
    by_proxy = rng.random(len(every) // 24 + 1) < 0.22  # whole departments must use the proxy
    proxied = by_proxy[np.arange(len(every)) // 24]
    book.add("browse", every[~proxied], 11, rhythm="office")
    book.add("proxied", every[proxied], 11, rhythm="office")
    book.add("fetch", hosts.servers["proxy"], 8.0 * proxied.sum(), rhythm="office")
    clouds = hosts.groups["clouds"]
    for _ in range(3):
        book.add("cloud", every, 5, rng.integers(clouds.start, clouds.stop, len(every)), rhythm="office")
    for what, rate in (("read_mail", 8), ("send_mail", 1.5), ("files", 5), ("tickets", 2.5), ("names", 9)):
        book.add(what, every, rate, rhythm="office")
    book.add("logon", every, 0.35, rhythm="logon")
    book.add("update", every, 0.12, rhythm="office")
    book.add("time", every, rhythm="office", period_s=1024)
    printers = hosts.groups["printers"]
    near = printers.start + np.arange(len(every)) // 24 % len(printers)
    book.add("print", every, 0.4, near, rhythm="office")
    _specialists(book, rng, hosts, every)


def _specialists(book: _Book, rng: np.random.Generator, hosts: Hosts, every: NDArray[np.int64]) -> None:
    developers, operators = _some(rng, every, 0.15), every[: max(1, len(every) // 40)]
    servers = hosts.groups["servers"]
    book.add("git", developers, 3, rhythm="office")
    book.add("packages", developers, 0.8, rhythm="office")
    book.add("query", _some(rng, every, 0.1), 4, rhythm="office")
    for what, rate in (("admin_ssh", 1.6), ("admin_rdp", 0.5)):
        book.add(what, operators, rate, servers.start, len(servers), rhythm="office")
    forgetful = _some(rng, every, 0.04)  # who still try a server that was switched off
    dark = np.array(_unused(hosts))
    book.add("stale", forgetful, 8, DARK, rng.choice(dark, len(forgetful)), rhythm="office")


def _unused(hosts: Hosts) -> list[int]:
    subnet = hosts.plan.subnets["servers"][0]
    used = set(hosts.plan.v4.tolist())
    return [code for code in range(subnet.first, subnet.first + 20) if code not in used] or [subnet.first]


def _servers(book: _Book, rng: np.random.Generator, hosts: Hosts) -> None:
    every = np.array(hosts.groups["servers"])
    book.add("syslog", every, 18)
    book.add("names", every, 12)
    book.add("tickets", every, 1.5)
    book.add("update", every, 0.04)
    book.add("time", every, period_s=1024)
    # Each server's copies leave at its own minute, and are about as large each time.
    book.add("backup", every, period_s=3600)
    night = HOUR_US + rng.integers(0, 3 * HOUR_US, len(every))
    book.add("full_backup", every, period_s=86_400, phase_us=night)
    for role in ("directory", "database"):
        these = hosts.servers[role]
        if len(these) > 1:
            book.add("replicate", these, 12, np.roll(these, 1))
    monitor = hosts.servers["monitor"][0]
    for watched in every[every != monitor].tolist():
        book.add("watch", monitor, to=watched, period_s=60)


def _services(book: _Book, rng: np.random.Generator, hosts: Hosts) -> None:
    people = len(hosts.groups["workstations"])
    names, mailers, visitors = (hosts.groups[name] for name in ("names", "mailers", "visitors"))
    share = {role: 1 / len(found) for role, found in hosts.servers.items()}
    for server in hosts.servers["dns"].tolist():
        book.add("recursion", server, 9 * people * share["dns"], names.start, len(names), rhythm="business")
    book.add("query", hosts.servers["app"], 3.5 * people * share["app"], rhythm="business")
    book.add("query", hosts.servers["web"], 0.6 * people * share["web"], rhythm="visitor")
    for server in hosts.servers["mail"].tolist():
        book.add("relay_mail", server, 0.7 * people * share["mail"], mailers.start, len(mailers), rhythm="business")
        book.add("receive_mail", mailers.start, 1.1 * people * share["mail"], server, rhythm="business",
                 crowd=len(mailers))  # fmt: skip
    for server in hosts.servers["web"].tolist():
        book.add("visit", visitors.start, 0.9 * people * share["web"], server, rhythm="visitor", crowd=len(visitors))
    for server in hosts.servers["build"].tolist():
        book.add("packages", server, 6, rhythm="business")


def _machines(book: _Book, rng: np.random.Generator, hosts: Hosts) -> None:
    printers, phones, things = (np.array(hosts.groups[name]) for name in ("printers", "phones", "things"))
    monitor, clouds, every = hosts.servers["monitor"][0], hosts.groups["clouds"], hosts.groups["phones"]
    for watched in printers.tolist():
        book.add("watch", monitor, to=watched, period_s=300)
    for watched in [*phones.tolist(), *things.tolist()]:
        book.add("alive", monitor, to=watched, period_s=600)
    book.add("spool", printers, 1)
    for some in (printers, phones, things):
        book.add("time", some, period_s=2048)
    book.add("register", phones, period_s=180)
    book.add("call_out", phones, 1.6, rhythm="office")
    book.add("call_in_house", phones, 1.2, every.start, len(every), rhythm="office")
    cameras, sensors = things[::2], things[1::2]
    book.add("stream", cameras, period_s=300)
    for sensor in sensors.tolist():  # as regular as a beacon, and benign
        book.add("telemetry", sensor, to=int(rng.choice(clouds)), period_s=float(rng.choice([30, 45, 60, 90])))


def _outsiders(book: _Book, rng: np.random.Generator, hosts: Hosts) -> None:
    guests = np.array(hosts.groups["guests"])
    book.add("browse", guests, 12, rhythm="guest")
    book.add("names", guests, 14, rhythm="guest")
    book.add("dhcp", guests, 1.5, rhythm="guest")
    noise, public = hosts.groups["noise"], hosts.groups["public"]
    for what, rate in (("noise_tcp", 55), ("noise_udp", 12), ("noise_ping", 4)):
        book.add(what, noise.start, rate, public.start, crowd=len(noise))


_CHAPTERS: Final[tuple[Callable[[_Book, np.random.Generator, Hosts], None], ...]] = (
    _workstations, _servers, _services, _machines, _outsiders,
)  # fmt: skip
