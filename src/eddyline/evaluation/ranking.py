"""How well scores order attack before benign, whatever their calibration: thresholds put on the benign rows themselves.

None of it can be deployed, since it needs the labels: it separates errors of ranking from errors of calibration.
"""

from __future__ import annotations

import numpy as np

from eddyline.evaluation.truth import Floats, Mask


def oracle_threshold(benign: Floats, level: float) -> float:
    """Return the lowest score above which at most `level` of the benign scores lie; ties are never split.

    A flow is flagged where its score is greater. With fewer than 1 / level benign scores it is the highest of them.
    """
    if not len(benign):
        return float("inf")
    allowed = int(np.floor(len(benign) * level + 1e-9))  # 1e-9: 3,000 x 1e-3 is 3, not 2.9999…
    return float(np.partition(benign, len(benign) - 1 - allowed)[len(benign) - 1 - allowed])


def curve(score: Floats, attack: Mask) -> tuple[Floats, Floats]:
    """Count benign and attack flows at or above each distinct score, highest first; both start with 0."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # of each run of equal scores
    hits = np.cumsum(attack[order])[last]
    return np.append(0.0, last + 1 - hits), np.append(0.0, hits)


def roc_auc(score: Floats, attack: Mask) -> float:
    """Chance that an attack flow scores above a benign one, ties half; NaN without both."""
    benign, hits = curve(score, attack)
    area = np.trapezoid(hits, benign)
    return float(area / (benign[-1] * hits[-1])) if benign[-1] and hits[-1] else float("nan")


def average_precision(score: Floats, attack: Mask) -> float:
    """Mean precision over the attack flows, at each distinct score; NaN without any."""
    benign, hits = curve(score, attack)
    if not hits[-1]:
        return float("nan")
    precision = hits[1:] / (hits[1:] + benign[1:])
    return float(np.sum(np.diff(hits) * precision) / hits[-1])
