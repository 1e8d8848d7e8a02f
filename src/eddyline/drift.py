"""Keeping p honest while a network changes, without labels and without letting an attack hide itself.

Two things raise a p, nothing lowers one. The bucket: the network may open ALPHA new alert groups per active source and
window, and a few at once; each group beyond that makes the next one prove twice as much. A flood, a scan or a
spreading worm is one group, because its flows share an end. The custom of a pair: what a pair already did in 2 % of its
minutes is no news, once it has been in front of a person for EMBARGO windows. Never per host: victims would go deaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from eddyline.habits import LIMIT, TAU, Conversations, Floats, HabitColumns, Table
from eddyline.hashing import Keys, Places

ALPHA: Final = 1e-3  # the p that the promise is about
EMBARGO: Final = 480  # windows for which an attack stays visible in full: one shift of minutes
QUIET: Final = 60  # windows without an alert after which a host's next one opens a new group
FREE: Final = 6.0  # groups that the bucket holds before it raises p
_FULL: Final = 12.0  # most groups it holds
MORE: Final = 2.0  # how much more each group beyond FREE makes the next one prove
_STRANGE: Final = 1e-2  # p0 from which a pair's minute is remembered
_STEP: Final = 0.5  # of the histogram of -ln p0, nats
_BINS: Final = 24
_OFTEN: Final = 0.02  # share of its minutes from which something is a pair's custom
_PRIOR: Final = 4.0  # minutes added to a pair's own: what was seen once is no more than a fifth
_WAITING: Final = 1 << 18  # strange pair-minutes kept for the length of the embargo


@dataclass(frozen=True, slots=True)
class Adjusted:
    """p of each flow after drift, and why: p = max(factor * p0, custom). All (E,) but `factor`."""

    p: Floats
    factor: float
    custom: Floats


@dataclass(slots=True)
class Drift:
    """A site's bucket and customs. `after` uses the value up and returns the one that lives on, as `Habits` does.

    Args:
        sources: mean number of sources in a calibration window; a spoofed flood must not drain the bucket.
        level: alert groups in the bucket.
        alerted: hosts by key; `last` is the window of their last alert.
        customs: pairs by key; how many strange minutes they had, by strangeness.
        waiting: strange minutes under embargo: (window, pair key, bin), oldest first.
    """

    sources: float
    level: float
    alerted: Table
    customs: Table
    waiting: tuple[tuple[int, Keys, Places], ...] = ()

    @classmethod
    def empty(cls, sources: float, limit: int = LIMIT // 8) -> Self:
        """Return the state of a site where nothing has happened; its tables hold `limit` keys at most."""
        return cls(sources, 0.0, Table.empty(limit, 0, 0, TAU), Table.empty(limit, _BINS, 0, TAU))

    def adjust(self, p0: Floats, window: Conversations, columns: HabitColumns, now: int) -> Adjusted:
        """Raise the p-values p0 (E,) of a window to what drift leaves of them; changes nothing.

        Args:
            p0: from `Calibration`.
            window: its conversations. now: its number.
            columns: what the habits say of it: the keys of its pairs, and how well they are known.
        """
        factor = MORE ** max(self.level - FREE, 0.0)
        custom = np.zeros(len(p0))
        rows = self.customs.find(columns.keys.pair)
        if (rows >= 0).any():
            fade = np.exp(-np.maximum(now - self.customs.last[rows], 0) / TAU)
            left = self.customs.rows[rows, : 1 + _BINS] * fade[:, None]
            stranger = np.cumsum(left[:, :0:-1], 1)[:, ::-1] / (left[:, :1] + columns.known[:, None] + _PRIOR)
            stranger[(rows < 0)[:, None] | (stranger < _OFTEN)] = 0
            _look_up(window.of_flow, window.pair, p0, stranger, custom)
        return Adjusted(np.minimum(np.maximum(factor * p0, custom), 1.0), factor, custom)

    def after(self, p0: Floats, adjusted: Adjusted, window: Conversations, columns: HabitColumns, now: int) -> Self:
        """Return the state after a window; uses `self` up."""
        keys = window.host_keys
        source, target = window.source[window.pair], window.target[window.pair]
        alerting = np.unique(window.of_flow[adjusted.p <= ALPHA])
        ends = keys[source[alerting]], keys[target[alerting]]
        opened = 0.0
        if len(alerting):
            opened = float((self._quiet(ends[0], now) & self._quiet(ends[1], now)).any())
            hosts, seen = np.unique(np.concatenate(ends), return_counts=True)
            rows = self.alerted.add(hosts[np.argsort(-seen, kind="stable")], now)  # a flood's victim finds room first
            self.alerted.last[rows[rows >= 0]] = now
        active = min(float(len(np.unique(window.source))), self.sources)
        level = min(max(self.level + opened - ALPHA * active, 0.0), _FULL)
        return replace(self, level=level, waiting=self._taught(p0, window, columns.keys.pair, now))

    def _quiet(self, hosts: Keys, now: int) -> NDArray[np.bool_]:
        rows = self.alerted.find(hosts)
        return np.asarray((rows < 0) | (now - self.alerted.last[rows] > QUIET))

    def _taught(
        self, p0: Floats, window: Conversations, pair_keys: Keys, now: int
    ) -> tuple[tuple[int, Keys, Places], ...]:
        """Remember this window's strange minutes, make customs of those whose embargo is over, return the rest."""
        waiting = list(self.waiting)
        lowest = np.ones(len(window.source))
        _lowest(window.of_flow, window.pair, p0, lowest)
        strange = np.flatnonzero(lowest <= _STRANGE)
        if len(strange):
            bins = np.clip((np.log(_STRANGE / lowest[strange]) / _STEP).astype(np.int64), 0, _BINS - 1)
            waiting.append((now, pair_keys[strange], bins))
        while waiting and waiting[0][0] + EMBARGO <= now:
            _, pairs, bins = waiting.pop(0)
            more = np.zeros((len(pairs), _BINS), np.float32)
            more[np.arange(len(pairs)), bins] = 1
            none = np.zeros((len(pairs), 0), np.float32)
            self.customs.take(pairs[None], now, np.ones(len(pairs), np.float32), none, none, more)
        while sum(len(pairs) for _, pairs, _ in waiting) > _WAITING:
            waiting.pop(0)  # a flood of strange pairs never becomes a custom
        return tuple(waiting)

    def parts(self) -> dict[str, NDArray[Any]]:
        """Copy everything into named arrays that `Drift.of` reads back, bit for bit."""
        found: dict[str, NDArray[Any]] = {"bucket": np.array([self.sources, self.level])}
        for name in ("alerted", "customs"):
            found |= {f"{name}/{part}": values for part, values in getattr(self, name).parts().items()}
        columns = [(np.full(len(pairs), window), pairs, bins) for window, pairs, bins in self.waiting]
        empty = (np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64))
        joined = [np.concatenate(column) for column in zip(*columns, strict=True)] if columns else empty
        return found | dict(zip(("waiting/window", "waiting/pair", "waiting/bin"), joined, strict=True))

    @classmethod
    def of(cls, parts: Mapping[str, NDArray[Any]], limit: int = LIMIT // 8) -> Self:
        """Read `parts` back; raises KeyError where one is missing."""
        tables = [
            Table.of({part: parts[f"{name}/{part}"] for part in ("keys", "rows", "last")}, limit, sums, 0, TAU)
            for name, sums in (("alerted", 0), ("customs", _BINS))
        ]
        windows = parts["waiting/window"]
        waiting = tuple(
            (int(window), parts["waiting/pair"][windows == window], parts["waiting/bin"][windows == window])
            for window in dict.fromkeys(windows.tolist())
        )
        sources, level = (float(value) for value in parts["bucket"])
        return cls(sources, level, tables[0], tables[1], waiting)


@njit(cache=True)
def _look_up(of_flow: Places, pair: Places, p0: Floats, stranger: Floats, custom: Floats) -> None:
    for flow in range(len(of_flow)):
        if p0[flow] <= _STRANGE:
            place = min(int(np.log(_STRANGE / p0[flow]) / _STEP), _BINS - 1)
            custom[flow] = stranger[pair[of_flow[flow]], place]


@njit(cache=True)
def _lowest(of_flow: Places, pair: Places, p0: Floats, lowest: Floats) -> None:
    for flow in range(len(of_flow)):
        mine = pair[of_flow[flow]]
        lowest[mine] = min(lowest[mine], p0[flow])
