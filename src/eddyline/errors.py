"""Every error Eddyline raises on purpose.

EddylineError
├── ConfigError      a wrong setting, URL, flag or file layout: stops at once, exit 2
├── ArtifactError    a model folder that is missing, incomplete or of another version: exit 2
├── Unreachable      a service that does not answer, at a start: exit 1, a supervisor starts again
├── SourceError      a source that cannot go on: exit 1
└── SinkError        a sink that cannot write: exit 1, and what was not written is said

A bad *record* is no error: sources return it in `FlowBatch.rejected`.
"""

from __future__ import annotations

import re
from typing import Final

_SECRET: Final = re.compile(
    r"([\w.]*(?:password|passphrase|secret|token|credential|jaas|\.pem)[\w.]*=)[^\s&]+|(?<=://)[^\s/@]+(?=@)",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Put `***` in place of passwords in URLs and of the values of options that are named like a secret."""
    return _SECRET.sub(lambda found: f"{found[1] or ''}***", text)


class EddylineError(Exception):
    """The root. The message names the step, the value and the remedy; secrets in it are redacted."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class ConfigError(EddylineError):
    """A setting that can never work: raised before anything is read."""


class ArtifactError(ConfigError):
    """A model folder that cannot be used as it is."""


class Unreachable(EddylineError):
    """Brokers that do not answer when a run begins: they may be starting, or the address may be wrong."""


class SourceError(EddylineError):
    """Reading failed for a reason that is not one bad record."""


class SinkError(EddylineError):
    """Writing failed; the windows named in the message are not in the output."""
