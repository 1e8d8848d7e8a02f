"""What alerts are made of, and what a book of them must know to go on after a restart as if nothing had happened."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from eddyline.errors import ConfigError

_VERSION: Final = 1
_PART: Final = "alerts"


@dataclass(frozen=True, slots=True)
class Alert:
    """One story: the strange flows of one host, on one service, for one reason, within one day.

    Its key is (site, host, role, service, reason, day).
    """

    id: str  # stable across updates, restarts and replays
    site: str
    host: str  # who the story is about
    role: str  # whether the host is the flows' "source" or "destination"
    service: str  # "22/tcp", or "many" when the flows spread over more services than a story should list
    reason: str  # the kind of the strongest reason, in a word
    reasons: tuple[str, ...]  # the top reasons of its strangest flow as sentences with numbers
    p: float  # the smallest combined p-value among its flows
    first_seen_us: int | None  # event time, microseconds UTC; None where flows carry no time
    last_seen_us: int | None
    count: int  # flows
    peers: tuple[str, ...]  # some hosts of the other side
    peer_count: int  # all of them, distinct
    total_bytes: int  # both directions, as observed
    update: int  # 0 when opened, then 1, 2, …
    truth: tuple[str, ...]  # attacks named by the source's labels, for judging a test; never used to decide


@dataclass(slots=True)
class BookState:
    """The stories of the last days and what they cost. The order of `open` and `spent` is that of their first entry.

    Args:
        open: alerts by their id. peers: hosts of the other side that each has counted.
        hosts: of today's stories. spent: alerts opened, by hour and by day of event time.
    """

    open: dict[str, Alert] = field(default_factory=dict)
    peers: dict[str, set[str]] = field(default_factory=dict)
    hosts: set[str] = field(default_factory=set)
    spent: Counter[tuple[str, int]] = field(default_factory=Counter)

    def parts(self) -> dict[str, NDArray[np.uint8]]:
        """Copy everything into named arrays that `BookState.of` reads back: one, of JSON, beside a site's memory."""
        document = {
            "schema_version": _VERSION,
            "open": [asdict(alert) for alert in self.open.values()],
            "peers": {name: list(peers) for name, peers in self.peers.items()},
            "hosts": sorted(self.hosts),
            "spent": [[span, number, count] for (span, number), count in self.spent.items()],
        }
        return {_PART: np.frombuffer(json.dumps(document).encode(), np.uint8)}

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]]) -> Self:
        """Read `parts` back; no parts are the state of a book that is new.

        Raises:
            ConfigError: they are of another version, or not what `parts` wrote.
        """
        if _PART not in parts:
            return cls()
        try:
            document = json.loads(parts[_PART].astype(np.uint8).tobytes())
            if document["schema_version"] != _VERSION:
                raise ValueError(f"version {document['schema_version']}, expected {_VERSION}")
            alerts = [Alert(**{name: _value(one[name]) for name in _NAMES}) for one in document["open"]]
            peers = {name: set(document["peers"][name]) for name in (alert.id for alert in alerts)}
            hosts = {str(host) for host in document["hosts"]}
            spent = Counter({(str(span), int(number)): int(count) for span, number, count in document["spent"]})
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"alerts: the state committed with the position cannot be read: {error}; start without it"
            ) from error
        return cls({alert.id: alert for alert in alerts}, peers, hosts, spent)


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_NAMES: Final = tuple(part.name for part in fields(Alert))
