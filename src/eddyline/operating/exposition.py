"""Counts of a run as Prometheus text, format 0.0.4. Pure.

Written here and not by a library: every number is already counted in `Counts`, so what is left is this much text. No
label holds anything that a sender chose: reasons have their numbers and addresses taken out, sites are not named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from eddyline import __version__
from eddyline.drift import FREE
from eddyline.metrics import Counts, Standing, Steps

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)
_LABELS: Final = 200  # label values of one metric; the rest count together
_ADDRESS: Final = re.compile(r"[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]*|\d+(?:\.\d+){3}", re.IGNORECASE)
Sample = tuple[Mapping[str, str], float]


def exposition(counts: Counts, now_s: float) -> str:
    """Everything a run counts, one metric after another, ended by a line break.

    Args:
        counts: of a run, which may go on meanwhile: numbers may be a window apart from each other.
        now_s: seconds since 1970, for the lag.
    """
    return "".join(f"{line}\n" for line in _lines(counts, now_s))


def _lines(counts: Counts, now_s: float) -> Iterator[str]:
    yield from _metric("build_info", "gauge", "Version of Eddyline.", [({"version": __version__}, 1)])
    for name, help_, value in (
        ("flows_total", "Flows taken from the source.", counts.flows),
        ("scored_flows_total", "Flows in windows that reached the sinks.", counts.scored),
        ("bytes_total", "Bytes of the scored flows, both directions, not scaled by sampling.", counts.bytes),
        ("windows_total", "Windows that reached the sinks.", counts.windows),
        ("late_flows_total", "Flows that came after their window had closed.", counts.late),
        ("alerts_total", "Alerts opened.", counts.alerts),
        ("alerts_held_back_total", "Stories that the alert budget did not allow.", counts.held_back),
    ):
        yield from _metric(name, "counter", help_, [({}, value)])
    yield from _metric(
        "rejected_records_total", "counter", "Records that could not be read.", _by_label("reason", counts.rejected)
    )
    yield from _metric(
        "source_total", "counter", "What the source counts on the way to it.", _by_label("what", counts.source)
    )
    each = [
        ({"exporter": number, "what": what}, float(count))
        for number, counted in counts.exporters.items()
        for what, count in counted.items()
    ]
    yield from _metric("exporter_total", "counter", "The same by exporter; its address stands in the log only.", each)
    yield from _gauges(counts, now_s)
    yield from _histogram("flow_p", "Scored flows by p-value: of benign ones, a share p lies at or below p.", counts.p)
    yield from _histogram("window_to_sink_seconds", "From the close of a window until the sinks had it.", counts.took_s)
    yield from _metric(
        "score", "gauge", "Quantiles of the scores of the latest windows; raw ones by detector.", _quantiles(counts)
    )


def _gauges(counts: Counts, now_s: float) -> Iterator[str]:
    yield from _metric("run_seconds", "gauge", "How long the run has taken so far.", [({}, counts.seconds)])
    queues = [({"queue": name}, float(waiting)) for name, (waiting, _) in counts.queues.items()]
    yield from _metric("queue_batches", "gauge", "Batches that wait in a queue.", queues)
    sizes = [({"queue": name}, float(size)) for name, (_, size) in counts.queues.items()]
    yield from _metric("queue_size_batches", "gauge", "Batches that a queue may hold.", sizes)
    level = max(list(counts.levels.values()), default=0.0)
    help_ = f"Alert groups in the fullest site's drift bucket; beyond {FREE:g} for a day: calibrate anew."
    yield from _metric("drift_bucket", "gauge", help_, [({}, level)])
    lag: list[Sample] = [] if counts.newest_us is None else [({}, now_s - counts.newest_us / 1e6)]
    yield from _metric("lag_seconds", "gauge", "Now minus the end of the newest window in the sinks.", lag)
    behind = [(number, one.behind) for number, one in _partitions(counts) if one.behind is not None]
    help_ = "Offsets from where this replica reads to the end of a partition."
    yield from _metric("kafka_records_behind", "gauge", help_, [(labels, float(value)) for labels, value in behind])
    newest = [(number, one.newest_us) for number, one in _partitions(counts) if one.newest_us is not None]
    help_ = "Now minus the end of the newest window of a partition in the sinks."
    lags = [(labels, now_s - value / 1e6) for labels, value in newest]
    yield from _metric("kafka_window_lag_seconds", "gauge", help_, lags)


def _partitions(counts: Counts) -> Iterator[tuple[Mapping[str, str], Standing]]:
    """Partitions with their labels, in the order of their numbers; those beyond the bound as the worst of them."""
    ordered = sorted(counts.partitions.items())
    for (topic, number), one in ordered[:_LABELS]:
        yield {"topic": topic, "partition": str(number)}, one
    rest = [one for _, one in ordered[_LABELS:]]
    if rest:
        behind = max((one.behind for one in rest if one.behind is not None), default=None)
        newest = min((one.newest_us for one in rest if one.newest_us is not None), default=None)
        yield {"topic": ordered[-1][0][0], "partition": "others"}, Standing(behind, newest)


def _quantiles(counts: Counts) -> list[Sample]:
    windows = list(counts.recent)
    samples: list[Sample] = []
    for name in windows[-1] if windows else ():
        values = np.concatenate([window[name] for window in windows if name in window])
        found = np.quantile(values, _QUANTILES)
        samples += [({"score": name, "quantile": f"{q:g}"}, float(at)) for q, at in zip(_QUANTILES, found, strict=True)]
    return samples


def _by_label(label: str, counted: Mapping[str, int]) -> list[Sample]:
    """Counts by what they count, the most frequent first, without numbers and addresses."""
    plain = Counter[str]()
    for text, count in list(counted.items()):
        plain[re.sub(r"\d+", "N", _ADDRESS.sub("ADDRESS", text))] += count
    most = plain.most_common(_LABELS)
    rest = plain.total() - sum(count for _, count in most)
    return [({label: text}, count) for text, count in (*most, *([("other", rest)] if rest else []))]


def _histogram(name: str, help_: str, counted: Steps) -> Iterator[str]:
    at_most, total, number = counted.at_most.tolist(), counted.total, counted.number
    yield from _heading(name, "histogram", help_)
    for step, count in zip(counted.steps, at_most, strict=True):
        yield _sample(f"{name}_bucket", {"le": f"{step:g}"}, count)
    yield _sample(f"{name}_bucket", {"le": "+Inf"}, max(number, *at_most))
    yield _sample(f"{name}_sum", {}, total)
    yield _sample(f"{name}_count", {}, max(number, *at_most))


def _metric(name: str, kind: str, help_: str, samples: Iterable[Sample]) -> Iterator[str]:
    yield from _heading(name, kind, help_)
    for labels, value in samples:
        yield _sample(name, labels, value)


def _heading(name: str, kind: str, help_: str) -> Iterator[str]:
    yield f"# HELP eddyline_{name} {help_}"
    yield f"# TYPE eddyline_{name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"eddyline_{name}{f'{{{inside}}}' if inside else ''} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
