"""Where the path runs: name to "module:function", imported on demand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from threading import Event
from typing import Final, TypeAlias

import torch

from eddyline.config import RunSettings
from eddyline.metrics import Counts

RUNTIMES: Final = {
    "embedded": "eddyline.runtimes.embedded:run",
    "morpheus": "eddyline.runtimes.morpheus.run:run",
    "replica": "eddyline.runtimes.replica:run",
}
Runtime: TypeAlias = Callable[[RunSettings, Event, Callable[[Counts], None]], Counts]


def use_threads(threads: int) -> None:
    """Let the model use so many CPU threads; 0 leaves it to torch, which takes all cores."""
    if threads:
        torch.set_num_threads(threads)


def load_runtime(name: str, source: str = "") -> Runtime:
    """Return the runtime of that name: takes settings, never open objects, and opens everything where it runs.

    A topic of Kafka may be shared, so it is always read as one replica of several.
    """
    chosen = "replica" if name == "embedded" and source.startswith("kafka://") else name
    module, function = RUNTIMES[chosen].split(":")
    runtime: Runtime = getattr(importlib.import_module(module), function)
    return runtime
