"""What stops Morpheus 25.06 on a machine, looked for before it starts, so that it is said in words.

Driver: its numba 0.60 fails from driver 580 on (nv-morpheus/Morpheus#2305). MIG: MRC ends the process where the only
GPU it sees is in MIG mode (nv-morpheus/MRC#205). NUMA: and where a GPU belongs to several NUMA nodes, unless
MRC_IGNORE_NUMA_CHECK is set (nv-morpheus/Morpheus#1805). Cores: and where there are fewer of them than GPUs.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from eddyline.errors import ConfigError

NEWEST_DRIVER: Final = 580  # this one and later do not work
_QUERY: Final = ("nvidia-smi", "--query-gpu=driver_version,mig.mode.current", "--format=csv,noheader")
_TOPOLOGY: Final = ("nvidia-smi", "topo", "-m")
_ASK_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found.

    Args:
        gpus: driver and MIG mode of each, as nvidia-smi writes them. topology: its table. cores: that we may use.
        numa_ignored: whether MRC was told not to look at NUMA nodes.
    """

    gpus: str
    topology: str
    cores: int
    numa_ignored: bool = False


def look_around(environment: Mapping[str, str] = os.environ) -> Machine:
    """Ask nvidia-smi; where there is none, there is no GPU."""
    ignored = "MRC_IGNORE_NUMA_CHECK" in environment
    return Machine(_answer(_QUERY), _answer(_TOPOLOGY), len(os.sched_getaffinity(0)), ignored)


def check(machine: Machine, device: str) -> None:
    """Raise ConfigError that says what is in the way of Morpheus on `device`, and what to do."""
    if not device.startswith("cuda"):
        return
    gpus = [[part.strip() for part in line.split(",")] for line in machine.gpus.splitlines() if "," in line]
    if not gpus:
        raise ConfigError(f"morpheus: device `{device}` asked for, and nvidia-smi finds no GPU; give --device cpu, or "
                          "start the container with --gpus=all")  # fmt: skip
    driver = gpus[0][0]
    if int(driver.split(".")[0]) >= NEWEST_DRIVER:
        raise ConfigError(f"morpheus: NVIDIA driver {driver} is too new for Morpheus 25.06, which needs one before "
                          f"{NEWEST_DRIVER}; give --device cpu or --runtime embedded")  # fmt: skip
    if len(gpus) == 1 and gpus[0][1] == "Enabled":
        raise ConfigError("morpheus: the only GPU is in MIG mode, on which MRC does not start; give --device cpu, "
                          "--runtime embedded, or a GPU that is not divided")  # fmt: skip
    if machine.cores < len(gpus):
        raise ConfigError(f"morpheus: {len(gpus)} GPUs and {machine.cores} CPU cores; MRC wants a core for each: "
                          "show it fewer by CUDA_VISIBLE_DEVICES, or give more cores")  # fmt: skip
    several = [nodes for nodes in _numa_nodes(machine.topology) if re.search(r"\d[-,]\d", nodes)]
    if several and not machine.numa_ignored:
        raise ConfigError(f"morpheus: a GPU belongs to NUMA nodes {several[0]}, on which MRC does not start; set "
                          "MRC_IGNORE_NUMA_CHECK=1")  # fmt: skip


def _numa_nodes(topology: str) -> list[str]:
    """NUMA nodes of each GPU from the table of `nvidia-smi topo -m`, whose columns are parted by tabs."""
    rows = [[cell.strip() for cell in row.split("\t")] for row in topology.splitlines()]
    head = next((row for row in rows if "NUMA Affinity" in row), None)
    if head is None:
        return []
    place = head.index("NUMA Affinity")
    return [row[place] for row in rows if re.fullmatch(r"GPU\d+", row[0]) and len(row) > place]


def _answer(command: tuple[str, ...]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""  # no nvidia-smi, or it finds no GPU
