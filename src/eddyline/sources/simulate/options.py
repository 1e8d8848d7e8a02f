"""What a simulate:// URL may say: every option, its default and what it must look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from eddyline.errors import ConfigError
from eddyline.sources.simulate.campaigns import KINDS
from eddyline.sources.simulate.network import LARGEST, SMALLEST

_START: Final = "2026-01-05T08:00:00Z"


@dataclass(frozen=True, slots=True)
class Options:
    """A simulation.

    Args:
        hosts: of the network.
        seconds: simulated time, 0 = endless.
        speed: simulated seconds per second, 0 = as fast as possible.
        seed: of the network: hosts, addresses, habits.
        traffic: seed of the traffic on it and of the campaigns; None = `seed`.
        campaigns: kinds of attacks.
        start_us: microseconds since 1970, UTC.
        window_s: simulated seconds per batch, at most; with a speed, batches also end every half second.
    """

    hosts: int = 300
    seconds: float = 3600.0
    speed: float = 0.0
    seed: int = 7
    traffic: int | None = None
    campaigns: tuple[str, ...] = KINDS
    start_us: int = int(datetime.fromisoformat(_START).timestamp()) * 1_000_000
    window_s: float = 60.0


def read_options(url: str) -> Options:
    """The options of `simulate://office?hosts=300&…`.

    Raises:
        ConfigError: another network than `office`, an option that is unknown, given twice or out of range.
    """
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ConfigError(f"simulate: {url!r}: {error}; write simulate://office?hosts=300&seconds=3600") from error
    if parts.scheme != "simulate" or parts.netloc != "office" or parts.path not in ("", "/") or parts.fragment:
        raise ConfigError(f"simulate: {url!r} names no known network; write simulate://office?hosts=300&seconds=3600")
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in _READ:
            raise ConfigError(f"simulate: unknown option `{name}` in {url!r}; known are {', '.join(_READ)}")
        field, read, wanted = _READ[name]
        if field in found:
            raise ConfigError(f"simulate: option `{name}` stands twice in {url!r}; give it once")
        try:
            found[field] = read(text)
        except (ValueError, OverflowError) as error:
            raise ConfigError(f"simulate: {name}={text!r}; give {wanted}") from error
    return Options(**found)


def _whole(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise ValueError(text)
    return int(text)


def _number(text: str, above_zero: bool = False) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise ValueError(text)
    return value


def _time(text: str) -> int:
    when = datetime.fromisoformat(text)
    aware = when if when.tzinfo else when.replace(tzinfo=UTC)
    micros = round(aware.timestamp() * 1e6)
    if not 0 <= micros:
        raise ValueError(text)
    return micros


def _kinds(text: str) -> tuple[str, ...]:
    if text in ("all", "none"):
        return KINDS if text == "all" else ()
    kinds = tuple(dict.fromkeys(text.split(",")))
    if not set(kinds) <= set(KINDS):
        raise ValueError(text)
    return kinds


_SEEDS: Final = (1 << 63) - 1
_READ: Final[dict[str, tuple[str, Callable[[str], Any], str]]] = {
    "hosts": ("hosts", lambda text: _whole(text, SMALLEST, LARGEST), f"a whole number, {SMALLEST} to {LARGEST}"),
    "seconds": ("seconds", _number, "simulated seconds, 0 = endless"),
    "speed": ("speed", _number, "simulated seconds per second, 0 = as fast as possible"),
    "seed": ("seed", lambda text: _whole(text, 0, _SEEDS), "a whole number, 0 or greater"),
    "traffic": ("traffic", lambda text: _whole(text, 0, _SEEDS), "a whole number, 0 or greater"),
    "campaigns": ("campaigns", _kinds, f"all, none, or kinds with commas between: {', '.join(KINDS)}"),
    "start": ("start_us", _time, f"an ISO 8601 time since 1970, such as {_START}"),
    "window": ("window_s", lambda text: _number(text, above_zero=True), "simulated seconds per batch, above 0"),
}
