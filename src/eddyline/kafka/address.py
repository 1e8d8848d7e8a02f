"""kafka:// URLs: brokers, topic, our options, and those of the client library. Needs no Kafka.

    kafka://BROKER:PORT[,BROKER:PORT]/TOPIC?OPTION=VALUE&client=FILE&sasl.username=me&security.protocol=SASL_SSL

An option with a dot in its name goes to the client library as it is (TLS, SASL, buffers); `client=FILE` reads more of
them from lines NAME=VALUE, so that a password need not stand on a command line. Secrets are never shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from eddyline.errors import ConfigError

_OWN: Final = (
    "bootstrap.servers", "group.id", "enable.auto.commit", "enable.auto.offset.store", "transactional.id",
    "enable.partition.eof", "isolation.level", "auto.offset.reset", "partition.assignment.strategy",
)  # fmt: skip  # what delivery rests on, and no option may change


@dataclass(frozen=True, slots=True)
class Address:
    """What a kafka:// URL says.

    Args:
        servers: brokers to ask first, with commas between. topic: its path.
        options: ours, by name. client: those of the client library; holds secrets and is never shown.
    """

    servers: str
    topic: str
    options: Mapping[str, str]
    client: Mapping[str, str]

    def __repr__(self) -> str:
        return f"kafka://{self.servers}/{self.topic}"


def parse_address(url: str, step: str, known: Collection[str]) -> Address:
    """Read a URL; raises ConfigError for what is malformed, and for an option that is neither `known` nor dotted."""
    parts = urlsplit(url)
    try:
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ConfigError(f"{step}: options of `{url}`: {error}; write ?NAME=VALUE&NAME=VALUE") from error
    topic = unquote(parts.path.strip("/"))
    if parts.scheme != "kafka" or not parts.netloc or not topic or "@" in parts.netloc or "/" in topic:
        raise ConfigError(f"{step}: `{url}` is not of the form kafka://BROKER:PORT/TOPIC; a user name is "
                          "sasl.username=NAME")  # fmt: skip
    client = _client_options(given.pop("client", None), step)
    client |= {name: value for name, value in given.items() if "." in name}
    options = {name: value for name, value in given.items() if "." not in name}
    for name in (*(set(options) - set(known)), *(set(client) & set(_OWN))):
        raise ConfigError(f"{step}: option `{name}` of `{url}` is unknown or not yours to set; known are "
                          f"{', '.join([*known, 'client'])}, and the library's own, which have a dot")  # fmt: skip
    return Address(parts.netloc, topic, options, client)


def _client_options(file: str | None, step: str) -> dict[str, str]:
    if file is None:
        return {}
    try:
        lines = [line.strip() for line in Path(file).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{step}: client={file}: cannot be read: {error}; give a file of NAME=VALUE lines") from error
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    for number, (name, equals, _) in enumerate(pairs, 1):
        if not equals or "." not in name:
            raise ConfigError(f"{step}: client={file}: option {number} is not NAME=VALUE with a dot in its name")
    return {name.strip(): value.strip() for name, _, value in pairs}
