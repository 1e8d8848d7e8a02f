"""`eddyline evaluate`: run models over a labelled stream as the service would, judge them, and tell a person.

The stream goes through the normal runtime into a scratch folder: what is judged is what a user would get.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Event
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from eddyline.config import EvaluateSettings, RunSettings
from eddyline.errors import ConfigError
from eddyline.evaluation.judge import Scorer, scorer
from eddyline.evaluation.report import write_report
from eddyline.evaluation.scored import Scored, parts_of, scored_flows
from eddyline.runtimes import load_runtime

Report: TypeAlias = Callable[[str, int, int, str], None]  # what is being done, so much, of so much, in words
_EXTRA: Final = ("pyod", "matplotlib")


def evaluate(settings: EvaluateSettings, report: Report) -> list[Scorer]:
    """Score, judge and write `evaluation.json`, `evaluation.md` and the pictures to `settings.out`.

    Returns the rows of the table: for each model what it says in all, then each of its detectors where it has several;
    then the baselines.

    Raises:
        ConfigError: the extra `evaluate` is not installed, or the source has no labels, times or flows to judge.
    """
    _need_extra()
    part, from_us = _parts(settings.source), _time(settings.from_)
    folder = _folder(settings.out)
    names = _distinct(settings.model)
    rows: list[Scorer] = []
    for place, model in enumerate(settings.model):
        report("models", place, len(settings.model), names[place])
        scored = scored_flows(_score(settings, model, report), part, from_us)
        rows += _model_rows(names[place], scored, settings.seed)
    if settings.baselines == "all":
        rows += _baseline_rows(scored, settings.seed, report)
    from eddyline.evaluation.plots import write_plots  # matplotlib is an extra

    write_report(folder, _name(settings.source), scored.truth, rows)
    write_plots(folder, _name(settings.source), scored.truth, rows)
    return rows


def _need_extra() -> None:
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise ConfigError(f"evaluate: {' and '.join(missing)} not installed; pip install 'eddyline[evaluate]'")


def _score(settings: EvaluateSettings, model: Path, report: Report) -> pa.Table:
    """Run one model over the source; returns Scored output v1."""
    with tempfile.TemporaryDirectory(prefix="eddyline-") as scratch:
        run = RunSettings.model_construct(
            source=settings.source, model=[model], sink=[f"file://{scratch}/out"], windows=settings.windows,
            device=settings.device, threads=settings.threads,
        )  # fmt: skip
        load_runtime("embedded")(run, Event(), lambda counts: report("scoring", counts.scored, 0, counts.line()))
        flows = Path(scratch) / "out" / "flows"
        if not any(flows.glob("*.parquet")):
            raise ConfigError(f"evaluate: no flow in `{settings.source}`; give a source with labelled flows")
        return pq.read_table(flows)


def _model_rows(name: str, scored: Scored, seed: int) -> list[Scorer]:
    titles = {column: name if column == "p" else f"{name}: {column.removeprefix('p_')} alone" for column in scored.p}
    return [
        scorer(titles[column], scored.truth, p[scored.judged], model=True, seed=seed) for column, p in scored.p.items()
    ]


def _baseline_rows(scored: Scored, seed: int, report: Report) -> list[Scorer]:
    from eddyline.evaluation.baselines import baselines  # pyod is an extra

    found = baselines(scored, seed, report)
    return [scorer(one.name, scored.truth, one.p, one.score, model=False, seed=seed) for one in found]


def _distinct(models: Sequence[Path]) -> list[str]:
    """Name each model by its folder; by its whole path where two folders share a name."""
    names = [model.resolve().name for model in models]
    return [str(model) if names.count(name) > 1 else name for model, name in zip(models, names, strict=True)]


def _parts(url: str) -> pa.Array | None:
    scheme, found, rest = url.partition("://")
    path = Path((rest if found else scheme).partition("?")[0])
    readable = scheme in ("file", url) and path.suffix == ".parquet" and path.is_file()
    return parts_of(path) if readable else None


def _name(url: str) -> str:
    """Name the source by its last two path steps: a protocol's file is called `stream.parquet` everywhere."""
    scheme, found, rest = url.partition("://")
    if found and scheme != "file":
        return url
    return "/".join(Path((rest if found else scheme).partition("?")[0]).parts[-2:])


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"evaluate: cannot make the folder `{out}`: {error.strerror}; give another --out") from error
    return out


def _time(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"evaluate: --from `{text}` is no ISO 8601 time; write 2026-01-31T00:00:00Z") from error
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1e6)
