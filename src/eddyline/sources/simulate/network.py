"""A network: its hosts, addresses and habits. The same seed and size give the same network (with the same NumPy)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from eddyline.errors import ConfigError
from eddyline.sources.simulate.draws import generator
from eddyline.sources.simulate.hosts import Hosts, make_hosts
from eddyline.sources.simulate.tasks import Tasks, make_tasks

SMALLEST, LARGEST = 10, 30_000
NOBODY: Final = -1


class Network:
    """An office and the part of the internet that it deals with. Never changes; clients that come and go are traffic.

    Args:
        seed: which network; 0 or greater.
        hosts: how many: workstations, servers, printers, phones, things and the guests usually there, 10 to 30,000.

    Attributes:
        count: the hosts asked for.
        hosts: groups, addresses, servers.
        tasks: habits.
        host_of: host of each address code, int32 (A,); -1 = nobody.
        shift_h: how many hours later than others a host's day begins, (I,).

    Raises:
        ConfigError: a size that the address plan does not hold.
    """

    def __init__(self, seed: int = 7, hosts: int = 300) -> None:
        if not SMALLEST <= hosts <= LARGEST:
            raise ConfigError(f"simulate: hosts={hosts}; give {SMALLEST} to {LARGEST}")
        if seed < 0:
            raise ConfigError(f"simulate: seed={seed}; give a whole number, 0 or greater")
        self.seed, self.count = seed, hosts
        rng = generator(seed, hosts, 0)
        self.hosts: Hosts = make_hosts(rng, hosts)
        self.tasks: Tasks = make_tasks(rng, self.hosts)
        self.shift_h: NDArray[np.float64] = np.clip(rng.normal(0, 0.5, self.hosts.inside), -1.5, 1.5)
        self.always_on: NDArray[np.bool_] = rng.random(self.hosts.inside) < 0.12
        self.host_of = np.full(len(self.hosts.plan.texts), NOBODY, np.int32)
        for codes in (self.hosts.plan.v4, self.hosts.plan.v6):
            having = np.flatnonzero(codes >= 0)
            self.host_of[codes[having]] = having
