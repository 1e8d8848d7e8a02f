"""Every setting, read once: flags over environment over YAML over the defaults here. An unknown key is an error.

Environment variables are `EDDYLINE_` and the key in capitals, `__` between levels: `EDDYLINE_WINDOWS__LENGTH_S=300`.
Ends are URLs; what a scheme offers stands in the file of that source or sink.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from eddyline.alerts import AlertSettings
from eddyline.errors import ConfigError
from eddyline.windows import WindowSettings

S = TypeVar("S", bound=BaseSettings)


METRICS: Final = "127.0.0.1:9108"
_YEAR_S: Final = 366 * 86_400.0
T = TypeVar("T")
Several = Annotated[list[T], NoDecode, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


def default_model() -> Path:
    """Return the model that comes with Eddyline: of the folder one stands in, else of the checkout it runs from."""
    here = Path("artifacts/gae")
    return here if here.exists() else Path(__file__).parents[2] / here


class WindowConfig(BaseModel):
    """How flows are cut into windows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: Literal["time", "count"] = Field("time", description="event time, or rows; flows without a time go by rows")
    length_s: float = Field(60.0, ge=0.001, le=_YEAR_S, description="length of a time window, seconds")
    lateness_s: float = Field(
        10.0, ge=0, le=_YEAR_S, description="how long a window waits for stragglers, seconds of event time"
    )
    max_flows: int = Field(1_000_000, ge=1, description="flows at which a time window is closed early, in parts")
    count: int = Field(10_000, ge=1, description="rows per count window, flows")

    def settings(self) -> WindowSettings:
        """Return the same in microseconds."""
        return WindowSettings(
            self.by, round(self.length_s * 1e6), round(self.lateness_s * 1e6), self.max_flows, self.count
        )

    def unlike(self, trained: Mapping[str, float | int | str]) -> Iterator[str]:
        """Say which settings that change what a window holds differ from those a model was trained with."""
        for key in ("by", "length_s", "count"):
            ours, theirs = getattr(self, key), trained.get(key)
            if theirs is not None and theirs != ours:
                flag = f"--windows.{key.replace('_', '-')}"
                yield f"`{flag}` is {ours}, the model was trained with {theirs}: its p-values are not valid here"


class AlertConfig(BaseModel):
    """What is worth telling a person."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    p: float = Field(1e-3, gt=0, lt=1, description="flows with a p-value at or below it may become alerts")
    lone: float = Field(
        30.0, ge=1, description="how many times stranger than that a single flow must be to be an alert"
    )
    per_hour: int = Field(10, ge=0, description="new alerts per hour of event time")
    per_day: int = Field(20, ge=0, description="new alerts per day of event time")
    services: int = Field(4, ge=1, description="services of one host in a window beyond which they are one alert")
    reasons: int = Field(3, ge=1, description="reasons per alert")

    def settings(self) -> AlertSettings:
        """Return the same as the path's value."""
        return AlertSettings(**self.model_dump())


class Settings(BaseSettings):
    """What every command that reads flows takes."""

    model_config = SettingsConfigDict(env_prefix="EDDYLINE_", env_nested_delimiter="__", extra="forbid", frozen=True)

    source: str = Field(
        description="URL to read flows from: file://x.parquet, netflow://:2055, simulate://office, kafka://b/t"
    )
    windows: WindowConfig = WindowConfig()
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1, or auto: a GPU where torch finds one")
    threads: int = Field(
        1, ge=0, le=1024, description="CPU threads for the model, 0 = all cores; more than 1 pays only on idle cores"
    )


class RunSettings(Settings):
    """`eddyline run`: score a stream or a file; ends by itself when the source does."""

    model: Several[Path] = Field(
        default_factory=lambda: [default_model()], min_length=1, description="model folders; several are combined"
    )
    sink: Several[str] = Field(
        ["stdout:"], min_length=1, description="URLs to write to: stdout:, file://out, kafka://b/t"
    )
    runtime: Literal["embedded", "morpheus"] = Field(
        "embedded", description="where the path runs: in one process, or as a pipeline of NVIDIA Morpheus"
    )
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once", description="exactly_once: from Kafka to Kafka, in transactions"
    )
    combine: Literal["fisher", "half_cauchy"] = Field("fisher", description="how several detectors become one p")
    habits: Literal["causal", "frozen"] = Field("causal", description="learn habits while running, or keep the model's")
    alerts: AlertConfig = AlertConfig()
    queue: int = Field(4, ge=1, description="batches that may wait between reading, scoring and writing")
    flush_flows: int = Field(100_000, ge=1, description="flows after which sinks write and the source commits")
    flush_s: float = Field(2.0, gt=0, description="seconds after which a live source's sinks write and it commits")
    metrics: str = Field(
        METRICS, description="address of /metrics, /live and /ready; empty = none, port 0 = a free one"
    )


class CollectSettings(BaseSettings):
    """`eddyline collect`: send what exporters send to a Kafka topic, unscored, for scoring replicas to read."""

    model_config = SettingsConfigDict(env_prefix="EDDYLINE_", extra="forbid", frozen=True)

    source: str = Field("netflow://:2055", description="URL to read flows from")
    sink: str = Field(description="kafka://b/flows: Arrow records, keyed by site")
    stop_s: float = Field(
        30.0, ge=0, description="seconds that a stop waits for brokers that are away; what they lack then is lost"
    )
    metrics: str = Field(METRICS, description="address of /metrics, /live and /ready; empty = none")


class TrainSettings(Settings):
    """`eddyline train`: fit on benign rows only, calibrate on the later part, save one model folder."""

    model: Path = Field(description="folder to write; an interrupted training in it is resumed")
    detector: Several[str] = Field(["habits"], min_length=1, description="detectors to train")
    recipe: Literal["eddyline", "published"] = Field("eddyline", description="how the guided GAE is trained")
    until: str | None = Field(None, description="use flows up to this time only, ISO 8601, e.g. 2026-01-31T00:00:00Z")
    calibrate: float = Field(
        0.3, gt=0, lt=1, description="share of the windows, the last ones, that gae does not train on"
    )
    epochs: int = Field(30, ge=1, description="passes over (a draw of) the training windows")
    patience: int = Field(6, ge=1, description="epochs without improvement after which training stops")
    windows_per_epoch: int = Field(
        256, ge=1, description="training windows drawn for each pass, so that time is bounded"
    )
    batch: int = Field(8, ge=1, description="windows per optimiser step")
    learning_rate: float = Field(0.003, gt=0, description="peak learning rate of AdamW")
    hidden: int | None = Field(None, ge=1, description="width of the guided GAE; the recipe's own when not given")
    seed: int = Field(42, description="seed of weights, projection, batches and negatives")


class CalibrateSettings(Settings):
    """`eddyline calibrate`: keep the weights, learn a new network's quantiles from its benign windows."""

    model: Path = Field(default_factory=default_model, description="trained model folder")
    out: Path = Field(description="folder to write the recalibrated model to")

    @field_validator("out")
    @classmethod
    def _not_over_itself(cls, out: Path, info: Any) -> Path:
        if out.resolve() == Path(info.data.get("model", "")).resolve():
            raise ValueError("is the model itself; name another folder")
        return out


class EvaluateSettings(Settings):
    """`eddyline evaluate`: judge models on labelled flows, beside simpler scorers; a table, JSON and pictures."""

    model: Several[Path] = Field(
        default_factory=lambda: [default_model()], min_length=1, description="model folders, each judged by itself"
    )
    out: Path = Field(description="folder to write evaluation.md, evaluation.json and the pictures to")
    from_: str | None = Field(
        None, description="judge flows from this time on, ISO 8601; a Parquet file with a column `part` is judged by "
        "it: 0 train, 1 calibrate, 2 judge, 3 only stream",
    )  # fmt: skip
    baselines: Literal["all", "none"] = Field(
        "all", description="scorers to compare with, which learn from the benign flows before those judged"
    )
    seed: int = Field(0, ge=0, description="seed of the baselines and of the intervals")


class SimulateSettings(BaseSettings):
    """`eddyline simulate`: write the labelled network to a file or export it as NetFlow."""

    model_config = SettingsConfigDict(env_prefix="EDDYLINE_", extra="forbid", frozen=True)

    sink: str = Field(description="file://x.parquet, netflow://host:port?version=9 or kafka://broker:port/topic")
    hosts: int = Field(300, ge=10, description="hosts of the network")
    seconds: float = Field(3600.0, ge=0, description="simulated time, seconds; 0 = endless")
    speed: float = Field(0.0, ge=0, description="simulated seconds per second; 0 = as fast as possible")
    seed: int = Field(7, ge=0, description="seed of the network: its hosts and their habits")
    traffic: int | None = Field(None, ge=0, description="seed of the traffic on it; the network's when not given")
    start: str = Field("2026-01-05T08:00:00Z", description="simulated time of the first flow, ISO 8601")
    campaigns: str = Field("all", description="all, none, or kinds with commas between")


class DoctorSettings(RunSettings):
    """`eddyline doctor`: check what `eddyline run` with the same flags would need, and say what to do."""

    source: str = Field("netflow://:2055", description="URL that flows will be read from")
    seconds: float = Field(5.0, ge=0, le=3600, description="how long to listen for exporters, seconds; 0 = not at all")


class ReplaySettings(BaseSettings):
    """`eddyline replay`: send a capture's NetFlow, or the flows of a file, at their own speed or faster."""

    model_config = SettingsConfigDict(env_prefix="EDDYLINE_", extra="forbid", frozen=True)

    source: str = Field(description="capture (pcap, pcapng, .gz of these), or a file of flows: x.parquet, file://x.csv")
    sink: str = Field(
        description="netflow://host:port (of flows also ?version=9), kafka://broker:port/topic or file://x.parquet"
    )
    speed: float = Field(1.0, ge=0, description="seconds of the file per second; 0 = as fast as packets-per-second")
    port: int | None = Field(None, ge=1, le=65_535, description="only a capture's datagrams to this UDP port")
    packets_per_second: float = Field(10_000.0, ge=1, description="most datagrams of a capture per second")


def load(kind: type[S], flags: dict[str, Any], file: Path | None = None) -> S:
    """Read settings of `kind`; raises ConfigError with one line per call: the key, the value and the remedy."""
    _check_variables()
    if file is not None and not file.is_file():
        raise ConfigError(f"config: no file `{file}`; give an existing YAML file to --config")

    class Loaded(kind):  # type: ignore[valid-type, misc]
        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:  # fmt: skip
            return (init_settings, env_settings, *([YamlConfigSettingsSource(settings_cls, file)] if file else []))

    try:
        return cast(S, kind.model_construct(**dict(Loaded(**flags))))
    except ValidationError as error:
        raise ConfigError(_one_line(error, kind)) from error
    except (yaml.YAMLError, SettingsError, ValueError, TypeError) as error:
        where = f"`{file}` is not YAML of keys and values" if file else "environment"
        raise ConfigError(f"config: {where}: {' '.join(str(error).split())}") from error


def _check_variables() -> None:
    """Pydantic never sees a variable whose first key no setting has; a variable of another command is no mistake."""
    kinds = (RunSettings, TrainSettings, CalibrateSettings, EvaluateSettings, SimulateSettings, ReplaySettings,
             DoctorSettings, CollectSettings)  # fmt: skip
    known = {key for kind in kinds for key in kind.model_fields}
    for name in sorted(os.environ):
        prefix, _, rest = name.lower().partition("_")
        if prefix == "eddyline" and rest.partition("__")[0] not in known:
            raise ConfigError(
                f"config: unknown environment variable `{name}`; unset it, or name one of "
                f"{', '.join(f'EDDYLINE_{key.upper()}' for key in sorted(known))}"
            )


def _one_line(error: ValidationError, kind: type[BaseSettings]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"config: unknown key `{key}`; known are {', '.join(sorted(kind.model_fields))}{more}"
    if first["type"] == "missing":
        return f"config: `{key}` is missing; give --{key.replace('_', '-')}{more}"
    return f"config: `{key}` = {first['input']!r}: {first['msg']}{more}"
