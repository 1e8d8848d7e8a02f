"""What is counted of each exporter: told by a number, so that no address leaves the machine with the metrics."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Final

MAX_NUMBERED: Final = 100  # exporters that are told apart; a sender may make up as many addresses as it likes
OTHERS: Final = "others"
_log = logging.getLogger(__name__)


class Tally:
    """Totals by exporter; those heard after the first `most` count together.

    Args:
        most: exporters that are told apart.
        named: say in the log, once for each, which address a number stands for.
    """

    def __init__(self, most: int = MAX_NUMBERED, named: bool = False) -> None:
        self._most, self._named = most, named
        self._totals: dict[str, Counter[str]] = {}  # by address, in the order they were first heard

    def add(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Add counts by (address, what)."""
        for (origin, what), number in counts.items():
            self._of(origin)[what] += number

    def by_address(self) -> dict[str, dict[str, int]]:
        """Totals by address and what was counted. From any thread."""
        return {origin: dict(total) for origin, total in self._totals.copy().items()}

    def numbered(self) -> dict[str, dict[str, int]]:
        """The same with numbers from 1 on, in the order they were first heard, in place of addresses."""
        return {
            OTHERS if origin == OTHERS else str(number): total
            for number, (origin, total) in enumerate(self.by_address().items(), 1)
        }

    def _of(self, origin: str) -> Counter[str]:
        known = origin if origin in self._totals or len(self._totals) < self._most else OTHERS
        if known not in self._totals:
            self._totals[known] = Counter()
            if self._named and known != OTHERS:
                _log.info("netflow source: exporter %d of the metrics is %s", len(self._totals), origin)
        return self._totals[known]
