"""What a reader of committed records sees, and when; and how much memory processes have."""

import json
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from tests.kafka.topics import MINUTE_US, kafka


class Watcher(threading.Thread):
    """Reads topics of scored flows and of alerts to their ends, until `finish`.

    Attributes:
        flows: per site, (ts_end ms, bytes), one (2, E) int64 per record. scoreless: flows without a finite score.
        windows: (site, window end us) to when its last record was seen, us; late windows apart.
        alerts: (site, window end us, when it was seen).
    """

    def __init__(self, servers: str, scored: str, alerts: str) -> None:
        super().__init__(daemon=True)
        settings = {
            "bootstrap.servers": servers, "group.id": uuid4().hex, "isolation.level": "read_committed",
            "auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 50,
        }  # fmt: skip
        self._consumer, self._alerts = kafka.Consumer(settings), alerts
        partitions = [
            kafka.TopicPartition(topic, number, 0)
            for topic in (scored, alerts)
            for number in self._consumer.list_topics(topic, 10).topics[topic].partitions
        ]
        self._consumer.assign(partitions)
        self._over = threading.Event()
        self._flows: dict[str, list[np.ndarray]] = {}
        self.scoreless = self.late = 0
        self.windows: dict[tuple[str, int], int] = {}
        self.alerts: list[tuple[str, int, int]] = []
        self.start()

    def run(self) -> None:
        quiet = 0.0
        while not self._over.is_set() or quiet < 3:
            found = [one for one in self._consumer.consume(500, 0.1) if one.error() is None]
            quiet = 0.0 if found else quiet + 0.1
            for one in found:
                self._take(one, time.time_ns() // 1000)
        self._consumer.close()

    def finish(self) -> dict[str, np.ndarray]:
        """Read what is there, then stop: the flows of each site."""
        self._over.set()
        self.join(120)
        assert not self.is_alive()
        return {site: np.concatenate(parts, axis=1) for site, parts in self._flows.items()}

    def _take(self, message: Any, seen_us: int) -> None:
        if message.topic() == self._alerts:
            told = json.loads(message.value())
            last_us = round(datetime.fromisoformat(told["last_seen"]).timestamp() * 1e6)
            self.alerts.append((told["site"], (last_us // MINUTE_US + 1) * MINUTE_US, seen_us))
            return
        table = pa.ipc.open_stream(message.value()).read_all()
        site = message.key().decode()
        ends_ms = table["ts_end"].cast(pa.int64()).to_numpy() // 1000
        self._flows.setdefault(site, []).append(np.stack([ends_ms, table["bytes"].to_numpy().astype(np.int64)]))
        self.scoreless += int((~np.isfinite(table["score"].to_numpy())).sum())
        if table["late"][0].as_py():
            self.late += table.num_rows
        else:
            self.windows[site, table["window_end"].cast(pa.int64())[0].as_py()] = seen_us


def rss_mib(process: int) -> float:
    """Memory that a process has in RAM; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)
