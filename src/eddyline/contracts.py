"""The contracts of the ends and the middle, on one page. Everything concrete is opened by name where it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from eddyline.alerts import Alert
from eddyline.calibration import Calibration
from eddyline.combine import Method, ScoredFlows
from eddyline.explanations import Explanation
from eddyline.flows import FlowBatch
from eddyline.graphs import FlowGraph
from eddyline.windows import Commit


class Source(Protocol):
    """Flows from outside.

    Iterating blocks at most about a second: an idle live source yields an empty batch with its clock, so windows can
    close. A record that cannot be read goes into `FlowBatch.rejected` and never raises; a source that cannot go on
    raises SourceError.

    Args:
        resumes: whether a restart goes on after the last commit; only then are memories copied for it.
    """

    resumes: bool

    def __iter__(self) -> Iterator[FlowBatch]:
        """Batches in arrival order; ends when the source does."""
        ...

    def commit(self, commit: Commit) -> None:
        """Everything up to `commit.position` is safely in the sinks. On restart, resume after it."""
        ...

    def close(self) -> None:
        """Stop and release. May be called from another thread to end a blocked iteration; twice is once."""
        ...


@runtime_checkable
class Counting(Protocol):
    """What a source that listens offers besides: totals of what came, and of what went wrong on the way to it."""

    @property
    def counters(self) -> Mapping[str, int]:
        """Totals so far by name, such as `missing_datagrams`; a name that never happened is absent."""
        ...

    @property
    def exporters(self) -> Mapping[str, Mapping[str, int]]:
        """The same by exporter: its number in the order they were first heard, never its address; bounded."""
        ...


@runtime_checkable
class Continued(Protocol):
    """What a source may offer besides: to be read on by a later run, which gets the flows of open windows again.

    Args:
        unfinished: whether it was closed before its end, so that open windows must not be closed for it.
    """

    unfinished: bool


class Detector(Protocol):
    """Scores the flows of one window.

    Pure: same graph, same scores, in any process, on any batch size, on CPU and GPU. Learned state comes only from
    `load`. Higher = more anomalous, on the detector's own scale. A detector that judges hosts or windows repeats its
    verdict on their flows.
    """

    name: str
    least_scale: float  # of the tail beyond the strangest benign score, on the detector's own scale; see `Calibration`

    def score(self, graph: FlowGraph) -> Tensor:
        """Raw scores, float32 (E,), finite, in the window's order."""
        ...

    def explain(self, graph: FlowGraph, edges: Tensor) -> Explanation:
        """Reasons for the flows in rows `edges`, int64 (K,)."""
        ...

    def refitted(self, graphs: Sequence[FlowGraph]) -> Self:
        """Keep the weights, fit on benign windows of another network what belongs to calibration; else itself."""
        ...

    def save(self, folder: Path) -> None:
        """Write everything `load` needs: safetensors and JSON, no pickle."""
        ...

    @classmethod
    def load(cls, folder: Path, device: str) -> Self:
        """Read a saved detector; raises ArtifactError that names the file or field at fault."""
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """Everything that turns a window into p-values; what `load_model` in `artifacts.py` returns.

    Args:
        fingerprint: names the exact weights and calibration in every scored flow.
        detectors: in the order of their columns.
        calibrations: one per detector, by its name.
        joint: calibration of the combined statistic, where several detectors share held-out flows.
        method: how several detectors are combined.
        device: torch device that graphs are built on.
        memories: what each site's memory was when the model was saved, as named arrays.
        frozen: never learn, score everything with those memories.
    """

    fingerprint: str
    detectors: Sequence[Detector]
    calibrations: Mapping[str, Calibration]
    joint: Calibration | None = None
    method: Method = "fisher"
    device: str = "cpu"
    memories: Mapping[str, Mapping[str, NDArray[Any]]] = field(default_factory=dict)
    frozen: bool = False


class Sink(Protocol):
    """Writing the same window twice equals writing it once; the key is (site, start, late, part)."""

    def write(self, scored: ScoredFlows, alerts: Sequence[Alert]) -> None:
        """Take one scored window and the alerts that it opened or changed. May buffer until `flush`."""
        ...

    def reject(self, rejected: pa.Table) -> None:
        """Keep records that could not be read, rows of REJECTED_SCHEMA."""
        ...

    def flush(self) -> None:
        """Return when everything written is durable; raises SinkError that says what is not."""
        ...

    def close(self) -> None:
        """Flush and release; twice is once."""
        ...
