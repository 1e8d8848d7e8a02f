"""`eddyline simulate`: the labelled network into a Parquet file, or onto the wire as NetFlow without its labels."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from threading import Event
from typing import Protocol, Self
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.config import SimulateSettings
from eddyline.errors import ConfigError, SinkError
from eddyline.flows import BATCH_SCHEMA
from eddyline.sinks.alert_json import replacing
from eddyline.sinks.netflow import open_exporter
from eddyline.sources import open_source


class Target(Protocol):
    """Takes flow tables: a file or an exporter."""

    def send(self, table: pa.Table) -> int:
        """Take flows; return how many went out."""
        ...


class ParquetFile:
    """One Parquet file of our own layout; it appears under its name only if the block ends well, whole and durable."""

    def __init__(self, path: Path) -> None:
        self._path, self._sent = path, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as until_open:
                file = until_open.enter_context(replacing(path))
                writer = pq.ParquetWriter(file, BATCH_SCHEMA, compression="zstd")
                self._writer = until_open.enter_context(writer)
                self._ends = until_open.pop_all()
        except OSError as error:
            raise ConfigError(f"simulate: cannot write `{path}`: {error}; name a file in a writable folder") from error

    def send(self, table: pa.Table) -> int:
        """Append flows; raises SinkError when the disk does not take them."""
        try:
            self._writer.write_table(table)
        except OSError as error:
            raise self._failed(error) from error
        self._sent += table.num_rows
        return int(table.num_rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, failure: BaseException | None, trace: object) -> None:
        try:
            self._ends.__exit__(kind, failure, None)
        except OSError as error:
            if failure is None:  # else the first failure is the one to tell
                raise self._failed(error) from error

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(
            f"simulate: cannot write `{self._path}`: {error.strerror or error}; none of {self._sent:,} flows is in "
            "place; make room and run it again"
        )


def simulation_url(settings: SimulateSettings) -> str:
    """Write the settings as the URL of the simulated source."""
    options = settings.model_dump(exclude={"sink"}, exclude_none=True)
    return "simulate://office?" + urlencode(options)


def open_target(url: str) -> AbstractContextManager[Target]:
    """Open a `file://….parquet`, `netflow://host:port` or `kafka://…` target; ConfigError for anything else."""
    if url.startswith("netflow://"):
        return closing(open_exporter(url))
    if url.startswith("kafka://"):
        from eddyline.sinks.kafka_flows import open_flow_topic  # its library is an extra

        return closing(open_flow_topic(url))
    if url.startswith("file://") and url.endswith(".parquet"):
        return ParquetFile(Path(url.removeprefix("file://")))
    raise ConfigError(f"simulate: cannot write to `{url}`; give file://NAME.parquet, netflow://HOST:PORT?version=9 "
                      "or kafka://BROKER:PORT/TOPIC")  # fmt: skip


def export(settings: SimulateSettings, stop: Event, report: Callable[[str, int, int, str], None]) -> tuple[int, int]:
    """Write the simulated flows of `settings` until they end or `stop` is set; how many went out, of how many."""
    sent = taken = 0
    with closing(open_source(simulation_url(settings))) as source, open_target(settings.sink) as target:
        for batch in source:
            if stop.is_set():
                break
            taken += len(batch)
            sent += target.send(batch.table) if len(batch) else 0
            report("simulating", taken, 0, f"{sent:,} flows out")
    return sent, taken
