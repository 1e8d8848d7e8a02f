"""The verdicts as pictures that stand alone on a slide. Only this file uses matplotlib (extra `evaluate`).

Colours are those of Okabe and Ito (2008), told apart by every kind of colour vision; models are blue and thick.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from eddyline.evaluation.judge import COMMON, FACTOR, HEADLINE, Scorer
from eddyline.evaluation.ranking import curve
from eddyline.evaluation.report import best_baseline, in_order
from eddyline.evaluation.truth import MINUTE_US, Codes, Floats, Mask, Truth, flagged_cells

_BLUE, _SKY, _PURPLE, _BLACK = "#0072B2", "#56B4E9", "#CC79A7", "#000000"
_ORANGE, _GREEN, _RED, _GREY = "#E69F00", "#009E73", "#D55E00", "#8C8C8C"
_MODELS: Final = (_BLUE, _SKY, _PURPLE, _BLACK)
_OTHERS: Final = (_ORANGE, _GREEN, _RED)
_CLASSES: Final = 10  # as many as can be read
_TITLE: Final = 76  # letters in a line
_LABEL: Final = 36  # letters of a name in a legend: the last ones, for names may be paths
_SMALLEST: Final = 1e-6  # p below it is drawn there


def write_plots(folder: Path, source: str, truth: Truth, scorers: Sequence[Scorer]) -> list[Path]:
    """Write the pictures as PNG into `folder`, which exists; those about attacks only where there are any."""
    drawings: dict[str, Callable[[Axes, Truth, Sequence[Scorer]], None]] = {"promise": _promise, "scores": _scores}
    if truth.attack.any():
        drawings |= {"roc": _roc, "precision_recall": _precision, "classes": _classes}
    files = []
    for name, draw in drawings.items():
        figure = Figure(figsize=(10, 5.625), layout="constrained")
        axes = figure.add_subplot()
        draw(axes, truth, in_order(scorers))
        _style(figure, axes, source)
        files.append(folder / f"{name}.png")
        figure.savefig(files[-1], dpi=160)
    return files


def _style(figure: Figure, axes: Axes, source: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    title = textwrap.fill(axes.get_title(), _TITLE)
    figure.suptitle(title, fontsize=17, x=0.01, ha="left")  # over the whole width, not only the axes
    axes.set_title("")
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set_fontsize(14)
    axes.tick_params(labelsize=13)
    figure.supxlabel(source, fontsize=10, color=_GREY, x=1.0, ha="right")


def _shown(scorers: Sequence[Scorer]) -> list[tuple[Scorer, str, float]]:
    """Models and the three baselines with most recall at a kept promise: scorer, colour, line width."""
    models = [one for one in scorers if one.model][: len(_MODELS)]
    others = [one for one in scorers if not one.model][: len(_OTHERS)]
    lines = [(one, colour, 3.2) for one, colour in zip(models, _MODELS, strict=False)]
    return lines + [(one, colour, 1.8) for one, colour in zip(others, _OTHERS, strict=False)]


def _roc(axes: Axes, truth: Truth, scorers: Sequence[Scorer]) -> None:
    rows = truth.clean | truth.attack
    least = 0.5 / max(1, int(truth.clean.sum()))
    for one, colour, width in reversed(_shown(scorers)):
        benign, hits = curve(one.score[rows], truth.attack[rows])
        axes.step(np.maximum(benign / benign[-1], least), hits / hits[-1], where="post", color=colour, lw=width,
                  label=one.name, zorder=width)  # fmt: skip
        promise = one.verdict.headline
        axes.plot(max(promise.rate, least), promise.recall, "o", color=colour, ms=10, mec="white", zorder=9,
                  clip_on=False)  # fmt: skip
    axes.axvline(HEADLINE, color=_GREY, lw=1.2, ls="--")
    axes.annotate("promised", (HEADLINE, 0.02), xytext=(5, 0), textcoords="offset points", color=_GREY, fontsize=12)
    axes.set(xscale="log", xlim=(least, 1), ylim=(0, 1.02), ylabel="attack flows found", title=_roc_title(scorers[0]),
             xlabel="false alarms: share of clean benign flows (left edge: none)")  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _legend(axes, f"dots: where p ≤ {HEADLINE:g} lands", upside_down=True)


def _roc_title(best: Scorer) -> str:
    promise = best.verdict.headline
    times = min(promise.ratio, promise.pair_minute_ratio)
    cost = "and keeps its promise" if promise.kept else f"at {times:.0f} times the promised false alarms"
    return f"{best.name} finds {promise.recall:.0%} of the attack flows {cost}"


def _precision(axes: Axes, truth: Truth, scorers: Sequence[Scorer]) -> None:
    prevalence = float(truth.attack.mean())
    for one, colour, width in reversed(_shown(scorers)):
        benign, hits = curve(one.score, truth.attack)
        axes.step(hits[1:] / hits[-1], hits[1:] / (hits[1:] + benign[1:]), where="pre", color=colour, lw=width,
                  label=one.name, zorder=width)  # fmt: skip
    axes.axhline(prevalence, color=_GREY, lw=1.2, ls="--")
    axes.annotate("flagging everything", (0.01, prevalence), xytext=(0, 5), textcoords="offset points", color=_GREY,
                  fontsize=12)  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="attack flows found", ylabel="flagged flows that are attacks",
             title=f"Precision against recall; {prevalence:.0%} of the judged flows are attacks")  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    _legend(axes, upside_down=True)


def _scores(axes: Axes, truth: Truth, scorers: Sequence[Scorer]) -> None:
    best = scorers[0]
    strange = -np.log10(np.maximum(best.p, _SMALLEST))
    bins = np.linspace(0, max(4.0, float(strange.max())) + 1e-9, 41)
    kinds = (
        ("clean benign", truth.clean, _BLUE),
        ("collateral", truth.collateral, _GREY),
        ("attack", truth.attack, _RED),
    )
    for name, rows, colour in kinds:
        if rows.any():
            flows = int(rows.sum())
            axes.hist(strange[rows], list(bins), weights=np.full(flows, 1 / flows), histtype="stepfilled",
                      color=colour, alpha=0.35, ec=colour, lw=2, label=f"{name}, {flows:,} flows")  # fmt: skip
    axes.plot(bins, _uniform(bins), color=_BLACK, lw=1.5, ls=":", label="a p-value that keeps its promise")
    axes.axvline(-np.log10(HEADLINE), color=_GREY, lw=1.2, ls="--")
    ticks = np.arange(0, np.floor(bins[-1]) + 1)
    axes.set(yscale="log", xlim=(0, bins[-1]), xlabel="p-value", ylabel="share of the flows of its kind",
             title=f"{best.name}: p-values of attack and benign flows")  # fmt: skip
    axes.set_ylim(bottom=0.3 / max(1, int(truth.clean.sum())), top=1.5)
    axes.set_xticks(ticks, ["1", *(f"$10^{{-{tick:.0f}}}$" for tick in ticks[1:])])
    _legend(axes)


def _uniform(bins: Floats) -> Floats:
    """Share of uniform p-values in a bin of this width that begins at each edge."""
    width = bins[1] - bins[0]
    return np.asarray(10**-bins * (1 - 10**-width), np.float64)


def _promise(axes: Axes, truth: Truth, scorers: Sequence[Scorer]) -> None:
    best = scorers[0]
    flagged = best.p <= HEADLINE
    first, hit = flagged_cells(truth, truth.clean, flagged)
    both = (
        ("clean flows", np.flatnonzero(truth.clean), flagged[truth.clean], _BLUE),
        ("clean pair-minutes", first, hit, _ORANGE),
    )
    for name, rows, hits, colour in both:
        time, promised, achieved = _running(truth.time_us[rows], hits, int(truth.time_us.max()))
        axes.step(time, achieved, where="post", color=colour, lw=3, label=f"flagged {name}")
        axes.plot(time, promised, color=colour, lw=1.3, ls="--", label=f"promised, of {name}")
        axes.fill_between(time, promised, FACTOR * promised, color=colour, alpha=0.12, lw=0)
    for start, end in _spans(truth.time_us[truth.attack], int(np.ptp(truth.time_us))):
        axes.axvspan(start, end, color=_GREY, alpha=0.18, lw=0)
    promise = best.verdict.headline
    axes.set(ylabel=f"false alarms so far at p ≤ {HEADLINE:g}", xlabel="event time, UTC (grey: minutes with attacks)")
    axes.set_ylim(bottom=0)
    axes.margins(x=0)
    flows, cells = promise.ratio, promise.pair_minute_ratio
    axes.set_title(f"{best.name}: {flows:.1f} times the promised false alarms; {cells:.1f} times by pair-minutes")
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    _legend(axes, "shaded: up to three times")


def _running(time_us: Codes, hits: Mask, end_us: int) -> tuple[Any, Any, Any]:
    """Times, promised and achieved false alarms up to each, to the end of the trace."""
    order = np.argsort(time_us, kind="stable")
    time = np.append(time_us[order], end_us).astype("datetime64[us]")
    promised, achieved = np.arange(1, len(order) + 1) * HEADLINE, np.cumsum(hits[order])
    return time, np.append(promised, promised[-1:]), np.append(achieved, achieved[-1:])


def _spans(time_us: Codes, length_us: int) -> list[tuple[Any, Any]]:
    """Stretches of minutes that hold any of the times; gaps that could not be seen in a trace this long are closed."""
    minute = np.unique(time_us // MINUTE_US)
    gap = max(1, length_us // (300 * MINUTE_US))
    runs = np.split(minute, np.flatnonzero(np.diff(minute) > gap) + 1) if len(minute) else []
    return [(np.datetime64(int(run[0]), "m"), np.datetime64(int(run[-1]) + 1, "m")) for run in runs]


def _classes(axes: Axes, truth: Truth, scorers: Sequence[Scorer]) -> None:
    best, baseline = scorers[0], best_baseline(scorers)
    rare = len(best.verdict.kinds) > _CLASSES  # then the rare ones are left to the table
    kinds = [kind for kind in best.verdict.kinds if kind.flows >= COMMON or not rare][:_CLASSES]
    shown = [(best, _BLUE)] + ([(baseline, _ORANGE)] if baseline else [])
    place, height = np.arange(len(kinds))[::-1], 0.8 / len(shown)
    for number, (one, colour) in enumerate(shown):
        recall = {kind.name: kind.recall for kind in one.verdict.kinds}
        values = [recall[kind.name] for kind in kinds]
        bars = axes.barh(place + height * (len(shown) / 2 - 0.5 - number), values, height, color=colour, label=one.name)
        axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4, fontsize=11)
    axes.set_yticks(place, [f"{kind.name}  ({kind.flows:,})" for kind in kinds])
    axes.set(xlim=(0, 1.1), xlabel=f"attack flows found at p ≤ {HEADLINE:g}",
             title=f"{best.name}: what is found of each kind of attack, worst first (flows)")  # fmt: skip
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.legend(frameon=False, fontsize=12, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(shown))


def _legend(axes: Axes, title: str | None = None, *, upside_down: bool = False) -> None:
    found, names = axes.get_legend_handles_labels()
    step = -1 if upside_down else 1  # what is drawn last lies on top and is named first
    short = [name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}" for name in names[::step]]
    axes.legend(found[::step], short, title=title, frameon=False, fontsize=12, title_fontsize=12, alignment="left",
                loc="lower left", bbox_to_anchor=(0, 1), ncols=max(1, _TITLE // max(map(len, short))))  # fmt: skip
