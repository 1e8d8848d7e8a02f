"""Templates and options kept in a small JSON file across a restart, so that no flows wait for the next templates."""

from __future__ import annotations

import json
import os
import struct
import time
from collections import Counter
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from eddyline.errors import ConfigError
from eddyline.sources.netflow.exporters import MAX_SAMPLERS, Exporter, Options
from eddyline.sources.netflow.forms import Template, sane
from eddyline.sources.netflow.templated import TemplatedDecoder

SCHEMA: Final = 1
SAVE_EVERY_S: Final = 10.0
MAX_FILE_BYTES: Final = 256 << 20  # as many templates as are ever kept fit


class TemplateFile:
    """Reads what decoders should know when they begin, and writes what they know whenever that has changed.

    The file is replaced whole, so a crash leaves the last one. It is written at most every SAVE_EVERY_S seconds, and at
    the end; that it cannot be written any more is counted as `templates_not_saved` and stops nothing.

    Args:
        path: of the file; absent means that nothing is known yet. For one process only.
        decoders: of every format.

    Raises:
        ConfigError: a file that is not of this kind, or a folder that cannot be written.
    """

    def __init__(self, path: Path, decoders: Mapping[int, TemplatedDecoder]) -> None:
        self._path, self._decoders = path, decoders
        if path.exists():
            self._load()
        try:
            self._write()
        except OSError as error:
            raise ConfigError(
                f"netflow source: templates={path}: {error.strerror}; give a file that can be written"
            ) from error
        self._saved = self._changes()
        self._due_s = time.monotonic() + SAVE_EVERY_S

    def save(self, counts: Counter[str], now: bool = False) -> None:
        """Write the file if anything changed and its time has come, or `now`."""
        changes = self._changes()
        if changes == self._saved or not (now or time.monotonic() >= self._due_s):
            return
        self._due_s = time.monotonic() + SAVE_EVERY_S
        try:
            self._write()
            self._saved = changes
        except OSError:
            counts["templates_not_saved"] += 1

    def _changes(self) -> int:
        return sum(decoder.changes for decoder in self._decoders.values())

    def _write(self) -> None:
        exporters = [
            {"version": version, "address": origin, **_written(exporter)}
            for version, decoder in self._decoders.items()
            for origin, exporter in decoder.exporters
        ]
        beside = self._path.with_name(self._path.name + ".new")
        beside.write_text(json.dumps({"schema": SCHEMA, "exporters": exporters}))
        os.replace(beside, self._path)

    def _load(self) -> None:
        try:
            if self._path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
            content = json.loads(self._path.read_text())
            if content["schema"] != SCHEMA:
                raise ValueError(f"schema {content['schema']}, expected {SCHEMA}")
            for found in content["exporters"]:
                self._admit(found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
            raise ConfigError(
                f"netflow source: templates={self._path} is not a file of templates ({error!r}); "
                "delete it, exporters send their templates again"
            ) from error

    def _admit(self, found: Mapping[str, Any]) -> None:
        decoder = self._decoders[found["version"]]
        exporter = decoder.exporters.admit(str(ip_address(found["address"])))
        for each in found["templates"]:
            scope = each["scope"] if each["scope"] is None else _within(each["scope"], 0, 0xFFFF)
            template = Template(bytes.fromhex(each["fields"]), scope)
            if not sane(decoder.form, template):
                raise ValueError(f"template {each['id']} is malformed or beyond the limits")
            domain, template_id = _within(each["domain"], 0, 0xFFFFFFFF), _within(each["id"], 256, 0xFFFF)
            decoder.exporters.keep(exporter, domain, template_id, template)
        for each in found["options"]:
            rates = [(_within(int(of), 0, 1 << 64), _within(n, 1, 0xFFFFFFFF)) for of, n in each["rates"].items()]
            options = Options(dict(rates[:MAX_SAMPLERS]), _within(each["boot_ms"], 0, 1 << 48))
            exporter.keep_options(_within(each["domain"], 0, 0xFFFFFFFF), options)


def _within(value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{value!r} is not a number from {least} to {most}")
    return value


def _written(exporter: Exporter) -> dict[str, Any]:
    return {
        "templates": [
            {"domain": domain, "id": template_id, "scope": template.scope, "fields": template.spec.hex()}
            for (domain, template_id), template in exporter.templates.items()
        ],
        "options": [
            {"domain": domain, "rates": options.rates, "boot_ms": options.boot_ms}
            for domain, options in exporter.options.items()
        ],
    }
