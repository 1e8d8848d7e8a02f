"""The verdicts as one honest table for people and as JSON for programs.

`evaluation.json`, version 1: `source`, `judged` (counts of the judged flows), `scorers`: one object per row with
`promises` (one per level), `oracle`, `classes` (worst first), `days` (the promise day by day), `intervals`, `auc` and
`average_precision`. What cannot be known, such as a recall without attacks, is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from eddyline.evaluation.intervals import Interval
from eddyline.evaluation.judge import COMMON, FACTOR, HEADLINE, Promise, Scorer
from eddyline.evaluation.truth import Truth

VERSION: Final = 1
_WORDS: Final = f"""\
Kept: of the clean benign flows, or of their pair-minutes (source, destination, 60 s), no more than {FACTOR:.0f} times
the promised share has p at or below {HEADLINE:g}. Clean: neither end touches an attack flow in that minute; other
benign flows are collateral. Recall: share of attack flows with p <= {HEADLINE:g}. Oracle: the same with the threshold
put on the clean benign rows, which shows ranking alone and cannot be deployed. Class mean: over attack classes with at
least {COMMON} flows. False groups: (source, hour) cells with an alert and none true, per day and 1,000 hosts that send
benign flows. AUC and average precision (AP) are given for completeness; where attacks are many they mean little. In
brackets: 95 % interval, from resampling hours, on traces shorter than 6 h minutes.
"""


def in_order(scorers: Sequence[Scorer]) -> list[Scorer]:
    """Models first as given, then baselines: those that keep the promise, best recall first."""
    models = [one for one in scorers if one.model]
    others = [one for one in scorers if not one.model]
    return models + sorted(others, key=lambda one: (not one.verdict.headline.kept, -_ordered(one)))


def best_baseline(scorers: Sequence[Scorer]) -> Scorer | None:
    """Return the baseline with most recall of those that keep the promise; None where none does."""
    kept = [one for one in scorers if not one.model and one.verdict.headline.kept]
    return max(kept, key=_ordered, default=None)


def headline(scorers: Sequence[Scorer]) -> list[str]:
    """Say the headline of each model in a line, and of the best baseline that keeps the promise."""
    best = best_baseline(scorers)
    lines = [_said(one) for one in scorers if one.model]
    return lines + ([f"best baseline that keeps it: {_said(best)}"] if best else [])


def _said(one: Scorer) -> str:
    promise = one.verdict.headline
    return (
        f"{one.name}: recall {share(promise.recall)} at p <= {promise.level:g}, class mean "
        f"{share(promise.class_mean)}; false alarms {times(promise.ratio)} the promise by flows, "
        f"{times(promise.pair_minute_ratio)} by pair-minutes ({'kept' if promise.kept else 'missed'})"
    )


def as_json(source: str, truth: Truth, scorers: Sequence[Scorer]) -> str:
    """Write the verdicts as JSON text, version 1."""
    rows = [{"name": one.name, "model": one.model, **_verdict(one)} for one in in_order(scorers)]
    page = {"version": VERSION, "source": source, "judged": judged(truth), "scorers": rows}
    return json.dumps(page, indent=1) + "\n"


def judged(truth: Truth) -> dict[str, Any]:
    """Count what was judged."""
    return {
        "flows": len(truth),
        "clean": int(truth.clean.sum()),
        "collateral": int(truth.collateral.sum()),
        "attack": int(truth.attack.sum()),
        "sources": truth.sources,
        "days": truth.days,
    }


def write_report(folder: Path, source: str, truth: Truth, scorers: Sequence[Scorer]) -> None:
    """Write `evaluation.json` and `evaluation.md` into `folder`, which exists."""
    (folder / "evaluation.json").write_text(as_json(source, truth, scorers), encoding="utf-8")
    (folder / "evaluation.md").write_text(as_markdown(source, truth, scorers), encoding="utf-8")


def as_markdown(source: str, truth: Truth, scorers: Sequence[Scorer]) -> str:
    """Write the verdicts as one page for a person."""
    counts = judged(truth)
    head = (
        f"# What it finds in {source}\n\nJudged: {counts['flows']:,} flows in {truth.days * 24:.1f} h: "
        f"{counts['clean']:,} clean benign, {counts['collateral']:,} collateral, {counts['attack']:,} attack; "
        f"benign flows come from {truth.sources:,} hosts.\n"
    )
    rows = in_order(scorers)
    shown = [one for one in rows if one.model or one is best_baseline(rows)]
    parts = [head, _headline(rows), _WORDS, "## Every promise\n", _promises(shown)]
    if truth.kinds:
        parts += ["## Recall per class, worst first\n", _classes(scorers)]
    return "\n".join(parts)


def _headline(rows: Sequence[Scorer]) -> str:
    titles = ("scorer", "kept", "achieved / promised, flows", "achieved / promised, pair-minutes", "recall",
              "recall, class mean", "recall, pair-minutes", "oracle", "oracle, class mean", "oracle, pair-minutes",
              "false groups per day and 1,000 hosts (groups)", "collateral (groups)", "AUC", "AP")  # fmt: skip
    return _table(titles, [_row(one) for one in rows])


def _row(one: Scorer) -> list[str]:
    verdict, promise = one.verdict, one.verdict.headline
    interval = verdict.intervals
    return [
        f"**{one.name}**" if one.model else one.name,
        "yes" if promise.kept else "no",
        times(promise.ratio) + between(interval["rate"], 1 / promise.level),
        times(promise.pair_minute_ratio) + between(interval["pair_minute_rate"], 1 / promise.level),
        share(promise.recall) + between(interval["recall"]),
        share(promise.class_mean) + between(interval["class_mean"]),
        share(promise.pair_minute_recall) + between(interval["pair_minute_recall"]),
        share(verdict.oracle.recall),
        share(verdict.oracle.class_mean),
        share(verdict.oracle.pair_minute_recall),
        f"{promise.false_groups_per_day:,.0f} ({promise.false_groups})",
        f"{share(promise.collateral_rate)} ({promise.collateral_groups})",
        share(verdict.auc),
        share(verdict.average_precision),
    ]


def _promises(rows: Sequence[Scorer]) -> str:
    titles = ("scorer", "promised p", "kept", "flows", "pair-minutes", "recall", "class mean", "pair-minute recall")
    return _table(titles, [[one.name, *_level(promise)] for one in rows for promise in one.verdict.promises])


def _level(promise: Promise) -> list[str]:
    rates = [times(promise.ratio), times(promise.pair_minute_ratio)]
    recalls = [share(one) for one in (promise.recall, promise.class_mean, promise.pair_minute_recall)]
    return [f"{promise.level:g}", "yes" if promise.kept else "no", *rates, *recalls]


def _classes(scorers: Sequence[Scorer]) -> str:
    best = best_baseline(scorers)
    shown = [one for one in scorers if one.model] + ([best] if best else [])
    found = {one.name: {kind.name: kind for kind in one.verdict.kinds} for one in shown}
    titles = ("class", "flows", *(title for one in shown for title in (one.name, "oracle")))
    rows = []
    for kind in shown[0].verdict.kinds:
        cells = [found[one.name][kind.name] for one in shown]
        rows.append([kind.name, f"{kind.flows:,}", *(share(x) for cell in cells for x in (cell.recall, cell.oracle))])
    return _table(titles, rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def share(value: float) -> str:
    """Write a share for people; a dash where it is unknown."""
    return "-" if math.isnan(value) else f"{value:.2f}"


def times(value: float) -> str:
    """Write achieved over promised for people."""
    return "-" if math.isnan(value) else f"{value:.1f}x" if value < 10 else f"{value:.0f}x"


def between(interval: Interval, scale: float = 1.0) -> str:
    """Write an interval for people, a space before it; nothing where it is unknown."""
    low, high = (bound * scale for bound in interval)
    return "" if math.isnan(low) else f" [{low:.2g}, {high:.2g}]"


def _ordered(one: Scorer) -> float:
    recall = one.verdict.headline.recall
    return 0.0 if math.isnan(recall) else recall


def _verdict(one: Scorer) -> dict[str, Any]:
    verdict = one.verdict
    promises = [
        {**asdict(promise), "ratio": promise.ratio, "pair_minute_ratio": promise.pair_minute_ratio,
         "kept": promise.kept}
        for promise in verdict.promises
    ]  # fmt: skip
    found: dict[str, Any] = _known(
        {
            "promises": promises,
            "oracle": asdict(verdict.oracle),
            "classes": [asdict(kind) for kind in verdict.kinds],
            "days": [asdict(day) for day in verdict.days],
            "intervals": {name: list(bounds) for name, bounds in verdict.intervals.items()},
            "auc": verdict.auc,
            "average_precision": verdict.average_precision,
        }
    )
    return found


def _known(value: Any) -> Any:
    """Replace NaN by None: JSON has none."""
    if isinstance(value, dict):
        return {key: _known(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
