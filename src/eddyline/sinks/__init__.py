"""Where results go: URL scheme to "module:function", imported on demand."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from eddyline.errors import ConfigError

if TYPE_CHECKING:  # the contracts import torch, which nothing that only writes needs
    from eddyline.contracts import Sink

SINKS: Final = {
    "file": "eddyline.sinks.files:open_files",
    "kafka": "eddyline.sinks.kafka:open_kafka_sink",
    "stdout": "eddyline.sinks.stdout:open_stdout",
}
_SHAPES: Final = {"file": "file://FOLDER", "kafka": "kafka://BROKER:PORT/TOPIC", "stdout": "stdout:"}


def open_sink(url: str, *, live: bool = False, replays: bool = True) -> Sink:
    """Open the sink that `url` names; raises ConfigError for what cannot work, before anything is read.

    Args:
        url: `file://FOLDER` (relative or absolute), `kafka://BROKER:PORT/TOPIC` or `stdout:`.
        live: whether the source has no end of its own, so that a reader should not wait for more flows.
        replays: whether windows that an earlier run wrote come again, whole, and are to be replaced.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme not in SINKS:
        raise ConfigError(f"sink: unknown scheme in `{url}`; known are {', '.join(_SHAPES[name] for name in SINKS)}")
    module, function = SINKS[scheme].split(":")
    sink: Sink = getattr(importlib.import_module(module), function)(url, live=live, replays=replays)
    return sink
