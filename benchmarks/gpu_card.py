"""The card that `gpu_check.py` measures on: its clock, its name, and the fastest copy and matrix products it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final

import numpy as np
import torch
from torch import Tensor

DRY: Final = "none: a dry run on the CPU, whose times say nothing"
LONG: Final = 4.0  # seconds after which nothing is repeated
Turn = Callable[[Callable[[str], None]], Tensor]


class Card:
    """The device, its clock, and what there is no more time for."""

    def __init__(self, device: str, seconds: float, repeats: int) -> None:
        self.device, self.repeats = device, repeats
        self.end = time.perf_counter() + seconds
        self.gpu = device != "cpu"

    def wait(self) -> None:
        """Wait until everything asked of the device is done."""
        if self.gpu:
            torch.cuda.synchronize()

    def over(self) -> bool:
        """Whether the time given is used up."""
        return time.perf_counter() > self.end

    def seconds(self, turn: Callable[[], object]) -> float:
        """Median time of a turn that ends when the device is done; the first, which compiles, is not counted."""
        spent: list[float] = []
        while len(spent) < 2 or (len(spent) <= self.repeats and sum(spent) < LONG):
            self.wait()
            start = time.perf_counter()
            turn()
            self.wait()
            spent.append(time.perf_counter() - start)
        return float(np.median(spent[1:]))

    def steps(self, turn: Turn) -> dict[str, float]:
        """Median time of each step, waiting for the device after each."""
        spent: dict[str, list[float]] = {}
        start = time.perf_counter()
        for turns in range(self.repeats):
            self.wait()
            last = time.perf_counter()
            if turns and last - start > LONG:
                break

            def step(name: str) -> None:
                nonlocal last
                self.wait()
                now = time.perf_counter()
                spent.setdefault(name, []).append(now - last)
                last = now

            turn(step)
        return {name: float(np.median(values)) for name, values in spent.items()}


def ceilings(card: Card, side: int, copied: int) -> dict[str, float]:
    """Copy bandwidth in GB/s, counting bytes read and written, and matrix products in TFLOP/s, on random numbers."""
    here = torch.randn(copied // 4, device=card.device)
    there, host = torch.empty_like(here), torch.empty(copied // 4, pin_memory=card.gpu)
    found = {"device copy": 2 * copied / card.seconds(lambda: there.copy_(here)) / 1e9}
    found["host to device"] = copied / card.seconds(lambda: there.copy_(host, non_blocking=True)) / 1e9
    found["device to host"] = copied / card.seconds(lambda: host.copy_(here, non_blocking=True)) / 1e9
    for name, dtype, tf32 in (("float32", torch.float32, False), ("tf32", torch.float32, True),
                              ("bfloat16", torch.bfloat16, False)):  # fmt: skip
        torch.backends.cuda.matmul.allow_tf32 = tf32
        one, two = (torch.randn(side, side, device=card.device, dtype=dtype) for _ in range(2))
        found[name] = 2 * side**3 / card.seconds(lambda one=one, two=two: one @ two) / 1e12  # type: ignore[misc]
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def name(card: Card) -> str:
    """The card."""
    if not card.gpu:
        return DRY
    found = torch.cuda.get_device_properties(0)
    return f"{found.name}, {found.total_memory / 2**30:.0f} GiB"


def versions() -> dict[str, str]:
    """Of what speed depends on."""
    found = {"python": sys.version.split()[0], "torch": torch.__version__, "cuda": str(torch.version.cuda)}
    for library in ("triton", "cudf", "torch_geometric"):
        found[library] = __import__(library).__version__ if find_spec(library) else "none"
    return found
