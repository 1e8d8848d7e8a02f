"""`eddyline simulate`: the labelled network into a Parquet file, or onto the wire as NetFlow without its labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.config import SimulateSettings
from eddyline.errors import ConfigError
from eddyline.flows import BATCH_SCHEMA
from eddyline.sinks.netflow import open_exporter
from eddyline.sources import open_source


class Target(Protocol):
    """Takes flow tables: a file or an exporter."""

    def send(self, table: pa.Table) -> int:
        """Take flows; return how many went out."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class ParquetFile:
    """One Parquet file of our own layout; it appears under its name when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._part, BATCH_SCHEMA, compression="zstd")
        except OSError as error:
            raise ConfigError(f"simulate: cannot write `{path}`: {error}; name a file in a writable folder") from error

    def send(self, table: pa.Table) -> int:
        """Append flows."""
        self._writer.write_table(table)
        return int(table.num_rows)

    def close(self) -> None:
        """Put the file in place."""
        self._writer.close()
        os.replace(self._part, self._path)


def simulation_url(settings: SimulateSettings) -> str:
    """Write the settings as the URL of the simulated source."""
    options = settings.model_dump(exclude={"sink"}, exclude_none=True)
    return "simulate://office?" + "&".join(f"{key}={value}" for key, value in options.items())


def open_target(url: str) -> Target:
    """Open a `file://….parquet` or `netflow://host:port` target; raises ConfigError for anything else."""
    if url.startswith("netflow://"):
        return open_exporter(url)
    if url.startswith("file://") and url.endswith(".parquet"):
        return ParquetFile(Path(url.removeprefix("file://")))
    raise ConfigError(f"simulate: cannot write to `{url}`; give file://NAME.parquet or netflow://HOST:PORT?version=9")


def export(settings: SimulateSettings, stop: Event, report: Callable[[str, int, int, str], None]) -> int:
    """Write the simulated flows of `settings` until they end or `stop` is set; return how many went out."""
    sent = taken = 0
    with closing(open_source(simulation_url(settings))) as source, closing(open_target(settings.sink)) as target:
        for batch in source:
            if stop.is_set():
                break
            taken += len(batch)
            sent += target.send(batch.table) if len(batch) else 0
            report("simulating", taken, 0, f"{sent:,} flows out")
    return sent
