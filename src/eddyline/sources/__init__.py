"""Where flows come from: URL scheme to "module:function", imported on demand."""

from __future__ import annotations

import importlib
from typing import Final
from urllib.parse import parse_qs

from eddyline.contracts import Source
from eddyline.errors import ConfigError

SOURCES: Final = {
    "file": "eddyline.sources.files.source:open_file",
    "kafka": "eddyline.sources.kafka.source:open_kafka",
    "netflow": "eddyline.sources.netflow.udp:open_netflow",
    "netflow+tcp": "eddyline.sources.netflow.tcp:open_netflow_tcp",
    "simulate": "eddyline.sources.simulate:open_simulate",
}
_NETWORK: Final = ("netflow://", "netflow+tcp://", "kafka://")


def open_source(url: str) -> Source:
    """Open the source that `url` names; a path without a scheme is a file. Raises ConfigError for what cannot work."""
    scheme = url.split("://", 1)[0] if "://" in url else "file"
    if scheme not in SOURCES:
        raise ConfigError(
            f"source: unknown scheme `{scheme}` in `{url}`; known are {', '.join(f'{s}://' for s in SOURCES)}"
        )
    module, function = SOURCES[scheme].split(":")
    source: Source = getattr(importlib.import_module(module), function)(url)
    return source


def replays(url: str) -> bool:
    """Say whether a new run gets the same flows again: what came from the network never comes twice."""
    return not url.startswith(_NETWORK)


def is_live(url: str) -> bool:
    """Say whether the source has a clock of its own, so that results should not wait for more flows."""
    speed = parse_qs(url.partition("?")[2]).get("speed", ["0"])[0]
    return url.startswith(_NETWORK) or (url.startswith("simulate://") and speed.strip("0.") != "")
