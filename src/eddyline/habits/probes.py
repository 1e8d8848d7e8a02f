"""Slow scans: how many strangers have not answered a host lately, against how many usually do not.

A *probe* is the first meeting of two hosts, unanswered. One a minute is nothing to any count of a minute, and within
minutes it is a habit; over a day it is many. So probes are counted over a day, whatever else is learned or flagged, and
the usual number of a host moves by no more than a deviation a lesson: it takes days, not minutes, to become a scanner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eddyline.habits.conversations import Conversations
from eddyline.habits.tables import Floats

DAY: Final = 1_440.0  # windows after which a probe has faded to 1/e: a day of minutes


@dataclass(frozen=True, slots=True)
class Probes:
    """The probes of one window. V hosts, C conversations.

    Args:
        of: whether a conversation is a probe, (C,).
        sent: strangers that did not answer each host in this window, (V,).
        lately: ln(1 + number) over about a day, this window's included, (V,).
        usual: mean and standard deviation of `lately`, (V, 2).
    """

    of: NDArray[np.bool_]
    sent: Floats
    lately: Floats
    usual: Floats

    @property
    def taught(self) -> Floats:
        """What each host's habit learns of `lately`: no more than one deviation above what is usual, (V,)."""
        mean, sd = self.usual.T
        most = mean + np.sqrt(sd**2 + 1 / (1 + np.exp(np.minimum(mean, 20.0))))
        return np.asarray(np.minimum(self.lately, most), np.float64)


def probes(window: Conversations, new: NDArray[np.bool_], before: Floats, usual: Floats) -> Probes:
    """Count the probes of a window.

    Args:
        window: its conversations.
        new: whether each pair meets for the first time, (P,).
        before: faded number of each host's earlier probes, (V,). usual: see `Probes`.
    """
    of = window.unanswered & new[window.pair]
    silent = np.zeros(len(window.source), np.bool_)
    silent[window.pair[of]] = True
    sent = np.bincount(window.source[silent], minlength=len(window.host_keys)).astype(np.float64)
    return Probes(of, sent, np.log1p(before + sent), usual)
