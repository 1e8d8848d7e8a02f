"""How a pipeline is fed: by one source of any URL, or by the partitions of a topic that its group gives to it."""

from __future__ import annotations

from dataclasses import replace

from eddyline.runtimes.morpheus.stream import Feed, FlushSettings
from eddyline.sources import is_live, open_source, replays


def open_feed(url: str, flush: FlushSettings, size: int) -> Feed:
    """Open what `url` names; raises ConfigError for what cannot work, before anything is read."""
    if url.startswith("kafka://"):
        from eddyline.runtimes.morpheus.topic import open_topic  # the client is an extra

        return open_topic(url, flush, size)
    feed = Feed(url, flush if is_live(url) else replace(flush, seconds=None), size, replays(url))
    feed.add(open_source(url))
    return feed
