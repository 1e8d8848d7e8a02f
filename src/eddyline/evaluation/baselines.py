"""Scorers to beat, fitted and calibrated on the same rows as a model: outlier detectors of pyod, counts, MIDAS.

A baseline learns from the training rows (part 0) and turns scores into conformal p-values with the calibration rows
(part 1), both benign; it then stays as it is. Only this file uses pyod, which comes with the extra `evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyod.models.cblof import CBLOF  # type: ignore[import-untyped]
from pyod.models.hbos import HBOS  # type: ignore[import-untyped]
from pyod.models.iforest import IForest  # type: ignore[import-untyped]
from pyod.models.knn import KNN  # type: ignore[import-untyped]
from pyod.models.pca import PCA  # type: ignore[import-untyped]

from eddyline.errors import ConfigError
from eddyline.evaluation import structure
from eddyline.evaluation.midas import midas_f, midas_r
from eddyline.evaluation.scored import CALIBRATE, TEST, TRAIN, Scored
from eddyline.evaluation.structure import Contacts
from eddyline.evaluation.truth import Codes, Floats, Mask

Report: TypeAlias = Callable[[str, int, int, str], None]  # what is being done, so much, of so much, in words
FIT_ROWS: Final = 20_000  # training rows that the outlier detectors see at most, drawn at random: kNN keeps them all
_BLOCK: Final = 20_000  # rows scored at once
_VOLUMES: Final = ("bytes", "packets", "rev_bytes", "rev_packets", "duration_us")
_RANGES: Final[Mapping[str, tuple[int, ...]]] = {
    "proto": (0, 2, 7, 18),  # unknown, ICMP, TCP, UDP, others
    "dst_port": (0, 1, 1024, 49_152),  # unknown, none, system, user and dynamic ports (RFC 6335)
}
_RANK: Final = 1e-6  # of the variance of a standardised column
_PYOD: Final[Mapping[str, Callable[[int], Any]]] = {
    "isolation forest": lambda seed: IForest(random_state=seed),
    "HBOS": lambda seed: HBOS(),
    "PCA": lambda seed: PCA(random_state=seed),
    "kNN": lambda seed: KNN(),
    "CBLOF": lambda seed: CBLOF(random_state=seed),
}


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one scorer says of the J judged flows: p-values and the scores that they come from, higher is stranger."""

    name: str
    p: Floats
    score: Floats


def baselines(scored: Scored, seed: int, report: Report) -> list[Baseline]:
    """Run every baseline that the columns allow; flows without volumes leave the outlier detectors out.

    Raises:
        ConfigError: there are no benign rows to learn from and to calibrate with before the judged ones.
    """
    if not ((scored.part == TRAIN).any() and (scored.part == CALIBRATE).any()):
        raise ConfigError("evaluate: no benign flows before those judged for the baselines to learn from; give a later "
                          "--from, or --baselines none")  # fmt: skip
    scorers = counting(scored) | outliers(scored, seed)
    found = []
    for done, (name, score) in enumerate(scorers.items(), 1):
        scores = score()
        known, judged = scores[scored.part == CALIBRATE], scores[scored.judged]
        found.append(Baseline(name, conformal(known, judged), judged))
        report("baselines", done, len(scorers), name)
    return found


def conformal(calibration: Floats, score: Floats) -> Floats:
    """Share of the calibration scores at or above each score, the flow itself counted in: never below 1 / (n + 1)."""
    reached = len(calibration) - np.searchsorted(np.sort(calibration), score, side="left")
    return np.asarray((1 + reached) / (len(calibration) + 1), np.float64)


def counting(scored: Scored) -> dict[str, Callable[[], Floats]]:
    """Scorers by name that look at who met whom and when; each gives scores of all N flows."""
    flows, train = contacts(scored), scored.part == TRAIN
    src, dst, tick = flows.src, flows.dst, flows.minute - flows.minute.min() + 1
    found: dict[str, Callable[[], Floats]] = {
        "pair burst": lambda: structure.pair_burst(flows),
        "fan-out": lambda: structure.fan_out(flows),
        "source novelty": lambda: structure.source_novelty(flows),
        "pair novelty": lambda: structure.pair_novelty(flows),
        "host z, source": lambda: structure.host_z(flows, src, dst, train),
        "host z, destination": lambda: structure.host_z(flows, dst, src, train),
        "MIDAS-R": lambda: midas_r(src, dst, tick),
        "MIDAS-F": lambda: midas_f(src, dst, tick),
    }
    if (port := flows.port) is not None:
        found["fan-out, ports"] = lambda: structure.fan_out_ports(flows, port)
    if (quiet := flows.unanswered) is not None:
        found["unanswered, source"] = lambda: structure.unanswered(flows, src, quiet)
        found["unanswered, destination"] = lambda: structure.unanswered(flows, dst, quiet)
    return found


def contacts(scored: Scored) -> Contacts:
    """Return the stream as who spoke to whom."""
    table = scored.table
    port, size, reply = (table[name] for name in ("dst_port", "bytes", "rev_packets"))
    return Contacts(
        minute=structure.minutes(scored.time_us),
        src=scored.src,
        dst=scored.dst,
        port=None if _empty(port) else _numbers(port, -1).astype(np.int64),
        size=None if _empty(size) else _numbers(size, 0) + _numbers(table["rev_bytes"], 0),
        unanswered=None if _empty(reply) else _numbers(reply, 1) == 0,
    )


def outliers(scored: Scored, seed: int) -> dict[str, Callable[[], Floats]]:
    """Detectors of pyod by name, at their defaults; each gives scores of all N flows, NaN where none is needed."""
    if _empty(scored.table["bytes"]):
        return {}
    features = flow_features(scored.table, scored.part == TRAIN)
    train = np.flatnonzero(scored.part == TRAIN)
    if len(train) > FIT_ROWS:
        train = np.sort(np.random.default_rng(seed).choice(train, FIT_ROWS, replace=False))
    wanted = np.flatnonzero((scored.part == CALIBRATE) | (scored.part == TEST))
    return {name: partial(_outlier_scores, make, seed, features, train, wanted) for name, make in _PYOD.items()}


def _outlier_scores(make: Callable[[int], Any], seed: int, features: Floats, train: Codes, wanted: Codes) -> Floats:
    detector = make(seed)
    detector.fit(features[train])
    distinct, place = np.unique(features[wanted], axis=0, return_inverse=True)
    blocks = [detector.decision_function(distinct[at : at + _BLOCK]) for at in range(0, len(distinct), _BLOCK)]
    scores = np.full(len(features), np.nan)
    scores[wanted] = np.concatenate(blocks)[place.ravel()]
    return scores


def flow_features(table: pa.Table, train: Mask) -> Floats:
    """Describe each flow by itself, float64 (N, F), standardised with the training rows.

    Logarithms of bytes, packets both ways, duration and bytes per packet; protocol and range of the service port as
    numbers; unknown counts are 0. A column that the others determine in training is left out: PCA divides by what it
    adds.
    """
    volumes = [_numbers(table[name], 0) for name in _VOLUMES]
    per_packet = volumes[0] / np.maximum(volumes[1], 1)
    columns = [np.log1p(one) for one in (*volumes, per_packet)]
    columns += [np.searchsorted(edges, _numbers(table[name], -1), side="right") for name, edges in _RANGES.items()]
    features = np.stack(columns, axis=1).astype(np.float64)
    mean, spread = features[train].mean(axis=0), features[train].std(axis=0)
    features = (features - mean) / np.where(spread > 0, spread, 1)
    kept: list[int] = []
    for column in np.flatnonzero(spread > 0).tolist():
        if np.linalg.matrix_rank(np.cov(features[train][:, [*kept, column]].T), tol=_RANK) > len(kept):
            kept.append(column)
    return np.asarray(features[:, kept], np.float64)


def _empty(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count == len(column))


def _numbers(column: pa.ChunkedArray, missing: int) -> Floats:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float(missing)).to_numpy(), np.float64)
