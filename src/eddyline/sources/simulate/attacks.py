"""What campaigns send in one slot of a minute. Like benign traffic, a slot depends on its number and seeds only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eddyline.sources.simulate.benign import SLOT_US
from eddyline.sources.simulate.campaigns import KINDS, Campaign
from eddyline.sources.simulate.draws import generator, unit
from eddyline.sources.simulate.grow import (
    ANSWERED,
    BY_SHAPE,
    HALF_OPEN,
    REFUSED,
    SILENT,
    Columns,
    Starts,
    grow,
    starts_of,
)  # fmt: skip
from eddyline.sources.simulate.network import NOBODY, Network
from eddyline.sources.simulate.shapes import number

_SWEPT: Final = (445, 22, 3389, 80, 5985)
_OPEN_ON_SERVERS: Final = (22, 80, 443, 445, 3389, 5985)
_OPEN_ON_WORKSTATIONS: Final = (445, 3389)
_PORTS: Final = 1024  # of a vertical scan, and as many again from above
_MARGIN_US: Final = 1_500_000  # the last flow begins so long before the end, where the campaign allows it


def attack(network: Network, traffic: int, campaign: Campaign, slot: int) -> Columns:
    """Flows of `campaign` begun by slot `slot`; none ends after the campaign."""
    rng = generator(traffic, 5, campaign.number, slot)
    fixed = generator(traffic, 6, campaign.number)  # what stays the same through the campaign
    starts = _KINDS[campaign.kind](network, campaign, fixed, rng, slot)
    return grow(rng, starts, campaign.end_us - 1)


def _times(campaign: Campaign, rng: np.random.Generator, slot: int, per_second: float) -> NDArray[np.int64]:
    """Random times within the slot and the campaign."""
    first, last = max(campaign.start_us, slot * SLOT_US), min(campaign.end_us - _MARGIN_US, (slot + 1) * SLOT_US)
    count = rng.poisson(max(0, last - first) / 1e6 * per_second)
    return np.sort(first + (rng.random(count) * (last - first)).astype(np.int64))


def _starts(campaign: Campaign, times: NDArray[np.int64], src: Any, dst: Any, shape: Any, **rest: Any) -> Starts:
    return starts_of(times, src, dst, shape, kind=1 + KINDS.index(campaign.kind), **rest)


def _any(rng: np.random.Generator, codes: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    return codes[rng.integers(0, len(codes), count)]


def _horizontal_scan(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    """One port on many addresses; firewalls of workstations stay silent more often than not."""
    port, rate = int(fixed.choice(_SWEPT)), fixed.uniform(6, 20)
    times = _times(campaign, rng, slot, rate)
    order = fixed.permutation(len(campaign.victim_codes))
    place = ((times - campaign.start_us) / 1e6 * rate).astype(np.int64) % len(order)
    dst = campaign.victim_codes[order[place]]
    reply = _reply(network, dst, np.full(len(dst), port))
    return _starts(campaign, times, campaign.attacker_codes[0], dst, number("probe"), port=port, reply=reply)


def _vertical_scan(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    """Many ports of one server, in random order."""
    rate = fixed.uniform(8, 25)
    times = _times(campaign, rng, slot, rate)
    ports = fixed.permutation(np.concatenate([np.arange(1, _PORTS + 1), fixed.integers(_PORTS, 49152, _PORTS)]))
    port = ports[((times - campaign.start_us) / 1e6 * rate).astype(np.int64) % len(ports)]
    victim = np.broadcast_to(campaign.victim_codes[0], len(times))
    reply = _reply(network, victim, port)
    return _starts(campaign, times, campaign.attacker_codes[0], victim, number("probe"), port=port, reply=reply)


def _reply(network: Network, dst: NDArray[Any], port: NDArray[Any]) -> NDArray[np.int64]:
    """What a probe gets: nothing from nobody, the handshake from open ports, else a reset or a firewall's silence."""
    host = network.host_of[dst]
    server = (host != NOBODY) & (host < network.hosts.groups["servers"].stop)
    is_open = np.where(server, np.isin(port, _OPEN_ON_SERVERS), np.isin(port, _OPEN_ON_WORKSTATIONS))
    luck = unit(network.seed, dst, port)
    guarded = np.where(server, luck < 0.1, luck < 0.6)
    answer = np.where(guarded, SILENT, np.where(is_open, HALF_OPEN, REFUSED))
    return np.where(host == NOBODY, SILENT, answer)


def _ssh_bruteforce(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    times = _times(campaign, rng, slot, fixed.uniform(1.5, 5))
    src = _any(rng, campaign.attacker_codes, len(times))
    return _starts(campaign, times, src, campaign.victim_codes[0], number("guess"))


def _ddos(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    """Thirty to two thousand flows a second, more against larger networks."""
    times = _times(campaign, rng, slot, np.clip(0.15 * network.count, 30, 2000) * fixed.uniform(0.7, 1.3))
    src = _any(rng, campaign.attacker_codes, len(times))
    return _starts(campaign, times, src, campaign.victim_codes[0], number("flood"))


def _dns_exfiltration(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    times = _times(campaign, rng, slot, fixed.uniform(3, 10))
    return _starts(campaign, times, campaign.attacker_codes[0], campaign.victim_codes[0], number("tunnel"))


def _beaconing(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    """Every 15 to 45 seconds, give or take a tenth."""
    period = int(fixed.uniform(15, 45) * 1e6)
    turns = np.arange(1, (campaign.end_us - campaign.start_us - _MARGIN_US) // period)
    times = campaign.start_us + turns * period
    times += ((unit(int(fixed.integers(1 << 30)), turns) - 0.5) * 0.2 * period).astype(np.int64)
    times = times[(times >= slot * SLOT_US) & (times < (slot + 1) * SLOT_US)]
    return _starts(campaign, times, campaign.attacker_codes[0], campaign.victim_codes[0], number("beacon"))


def _lateral_movement(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    times = _times(campaign, rng, slot, fixed.uniform(0.25, 0.6))
    shapes = np.array([number(name) for name in ("smb_move", "smb_move", "rdp_move", "winrm", "rpc")])
    dst = _any(rng, campaign.victim_codes, len(times))
    shape = shapes[rng.integers(0, len(shapes), len(times))]
    return _starts(campaign, times, campaign.attacker_codes[0], dst, shape, reply=BY_SHAPE)


def _data_theft(
    network: Network, campaign: Campaign, fixed: np.random.Generator, rng: np.random.Generator, slot: int
) -> Starts:
    """Some hundred megabytes per flow, gigabytes together."""
    times = _times(campaign, rng, slot, fixed.uniform(0.08, 0.2))
    src, dst = campaign.attacker_codes[0], campaign.victim_codes[0]
    return _starts(campaign, times, src, dst, number("theft"), reply=ANSWERED)


_KINDS: Final[
    dict[str, Callable[[Network, Campaign, np.random.Generator, np.random.Generator, int], Starts]]
] = {
    "horizontal_scan": _horizontal_scan, "vertical_scan": _vertical_scan, "ssh_bruteforce": _ssh_bruteforce,
    "ddos": _ddos, "dns_exfiltration": _dns_exfiltration, "beaconing": _beaconing,
    "lateral_movement": _lateral_movement, "data_theft": _data_theft,
}  # fmt: skip
