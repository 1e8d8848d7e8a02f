"""What travels between the stages, one value in one control message.

The message is Morpheus' own, so that its stages may stand between ours; the value is opaque to it. Its C++ keeps an
opaque object by reference, but copies every dictionary and list, makes lists of tuples and answers for an empty value
with the default: therefore one frozen object under one key, and beside it numbers and text only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa

from eddyline.alerts import Alert
from eddyline.combine import ScoredFlows
from eddyline.contracts import Model
from eddyline.errors import ConfigError
from eddyline.graphs import FlowGraph
from eddyline.runtimes.morpheus.stream import Stream
from eddyline.scoring import Detected
from eddyline.windows import Commit, Window

KEY: Final = "eddyline"


class Letter(Protocol):
    """What we use of Morpheus' ControlMessage."""

    def set_metadata(self, key: str, value: Any) -> None:
        """Keep a value."""
        ...

    def get_metadata(self, key: str = ..., default_value: Any = None) -> Any:
        """Give it back."""
        ...


L = TypeVar("L", bound=Letter)


@dataclass(frozen=True, slots=True)
class Knock:
    """Says that a batch waits in the stream. It may be dropped on the way: the batch stays where it is."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Closed:
    """A final window; `at` is when it closed, seconds of the monotonic clock."""

    stream: Stream
    window: Window
    at: float


@dataclass(frozen=True, slots=True)
class Graphed:
    """And its graph."""

    closed: Closed
    graph: FlowGraph


@dataclass(frozen=True, slots=True)
class Seen:
    """And what the detectors of `model` made of it."""

    closed: Closed
    detected: Detected
    model: Model


@dataclass(frozen=True, slots=True)
class Told:
    """A scored window and the alerts that it opened or changed."""

    closed: Closed
    scored: ScoredFlows
    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A batch ends here: its windows went before.

    Args:
        flows, late: of the batch. rejected: records that could not be read, None if there were none.
        commit: where sinks are to flush and the source to commit, if they are. last: nothing comes after it.
    """

    stream: Stream
    flows: int
    late: int
    rejected: pa.Table | None
    commit: Commit | None
    last: bool = False


Carried = Knock | Closed | Graphed | Seen | Told | Mark


def put(letter: L, carried: Carried) -> L:
    """Put a value into a fresh message, and beside it what others may want to see: the site, its window, its flows."""
    letter.set_metadata(KEY, carried)
    closed = carried if isinstance(carried, Closed) else getattr(carried, "closed", None)
    if closed is not None:
        letter.set_metadata("site", closed.window.site)
        letter.set_metadata("flows", len(closed.window))
        if closed.window.start_us is not None:
            letter.set_metadata("window_start_us", closed.window.start_us)
    return letter


def take(letter: Letter) -> Carried:
    """Return what `put` put in; raises ConfigError where another stage sent something else."""
    carried = letter.get_metadata(KEY)
    if not isinstance(carried, Knock | Closed | Graphed | Seen | Told | Mark):
        raise ConfigError(f"morpheus: a message without `{KEY}` in its metadata; put FlowSourceStage first, and keep "
                          "stages away that make new messages before SinkStage")  # fmt: skip
    return carried
