"""Many p-values per flow to one, and the scored window that comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from eddyline.errors import ConfigError
from eddyline.flows import TIME
from eddyline.graphs import FlowGraph
from eddyline.windows import Window

Floats: TypeAlias = NDArray[np.float64]
Method: TypeAlias = Literal["half_cauchy", "fisher"]

SMALLEST: Final = 1e-30  # no p is 0: its logarithm is added up, and float32 must hold it
SCORED_COLUMNS: Final = (
    "window_start", "window_end", "window_part", "late", "p", "score", "lambda", "h", "alert_id", "model",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScoredFlows:
    """One window after scoring; element i belongs to row i of `window.flows`.

    Args:
        raw: per detector its own score, float32 (E,).
        by_detector: per detector the conformal p-value, float64 (E,), in (0, 1].
        p: the combined p-value, float64 (E,).
        model: fingerprint of the model that scored.
        factor: what drift multiplied the window's p-values by. custom: what the pair's custom raised them to, (E,).
        graph: the window as the detectors saw it, for explanations; not kept once alerts are made.
        alert_id: id of the alert a flow belongs to, or null; None before alerting.
    """

    window: Window
    raw: Mapping[str, NDArray[np.float32]]
    by_detector: Mapping[str, Floats]
    p: Floats
    model: str
    alert_id: pa.Array | None = None
    factor: float = 1.0
    custom: Floats | None = None
    graph: FlowGraph | None = None

    def __post_init__(self) -> None:
        lengths = {name: values.shape for name, values in self.raw.items()}
        lengths |= {f"p of {name}": values.shape for name, values in self.by_detector.items()} | {"p": self.p.shape}
        for name, shape in lengths.items():
            if shape != (len(self.window),):
                raise ConfigError(f"scored flows: `{name}` has shape {shape}, the window has {len(self.window)} flows")

    def __len__(self) -> int:
        return len(self.window)

    def table(self) -> pa.Table:
        """Scored output v1: the window's columns, then windows, raw scores, p-values, `score` = 1 - p, alert, model."""
        rows, window = len(self), self.window
        p = self.p.astype(np.float32)
        tail: dict[str, pa.Array] = {
            "window_start": _repeat(window.start_us, TIME, rows),
            "window_end": _repeat(window.end_us, TIME, rows),
            "window_part": _repeat(window.part, pa.int32(), rows),
            "late": _repeat(window.late, pa.bool_(), rows),
            **{f"raw_{name}": pa.array(values, pa.float32()) for name, values in self.raw.items()},
            **{f"p_{name}": pa.array(values.astype(np.float32)) for name, values in self.by_detector.items()},
            "p": pa.array(p),
            "score": pa.array(np.float32(1) - p),
            "lambda": _repeat(self.factor, pa.float32(), rows),
            "h": pa.array(np.zeros(rows, np.float32) if self.custom is None else self.custom.astype(np.float32)),
            "alert_id": pa.nulls(rows, pa.utf8()) if self.alert_id is None else self.alert_id,
            "model": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([self.model])),
        }
        table = window.flows
        for name, values in tail.items():
            table = table.append_column(name, values)
        return table


def _repeat(value: float | bool | None, type_: pa.DataType, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, type_), rows)


def combine(p_values: Sequence[Floats], method: Method = "half_cauchy") -> Floats:
    """Join the p-values of several detectors, each (E,), into one statistic turned back into p, (E,).

    One detector passes unchanged. The returned p is exact for one detector, close for independent ones, and only a
    ranking for dependent ones: `Calibration` of the statistic on held-out benign flows makes it a promise again.

    half_cauchy: mean of cot(pi p / 2), whose tail is 2 arctan(1/w) / pi (the positive half of Liu & Xie 2020, JASA).
    The full Cauchy form goes to minus infinity at p = 1 and lets one quiet, tied signal veto all others.
    fisher: -2 sum ln p against chi-squared with 2k degrees of freedom (Fisher 1932).
    """
    if not p_values:
        raise ConfigError("combine: no detector scored; give at least one model folder")
    if len(p_values) == 1:
        return p_values[0]
    stacked = np.stack(p_values)
    return np.maximum(_half_cauchy(stacked) if method == "half_cauchy" else _fisher(stacked), SMALLEST)


def _half_cauchy(p: Floats) -> Floats:
    statistic = np.mean(1.0 / np.tan(p * (np.pi / 2)), axis=0)
    return np.asarray(np.arctan2(1.0, np.maximum(statistic, 0.0)) * (2 / np.pi), np.float64)


def _fisher(p: Floats) -> Floats:
    half = -np.log(p).sum(axis=0)
    term, total = np.ones_like(half), np.ones_like(half)
    for order in range(1, len(p)):  # survival of chi-squared with even degrees of freedom, in closed form
        term = term * half / order
        total = total + term
    return np.asarray(np.exp(-half) * total, np.float64)
