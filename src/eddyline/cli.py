"""The command line: one parser made from the settings, so that --help shows every key with its default and unit.

Exit status: 0 done, 1 failed while running (what was not written is said), 2 wrong configuration.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from eddyline import __version__, commands
from eddyline.config import (
    CalibrateSettings,
    CollectSettings,
    DoctorSettings,
    EvaluateSettings,
    ReplaySettings,
    RunSettings,
    SimulateSettings,
    TrainSettings,
    load,
)
from eddyline.errors import ConfigError, EddylineError

_SETTINGS: Final[dict[str, tuple[type[Any], Callable[[Any], None]]]] = {
    "run": (RunSettings, commands.run),
    "collect": (CollectSettings, commands.collect),
    "train": (TrainSettings, commands.train),
    "calibrate": (CalibrateSettings, commands.calibrate),
    "evaluate": (EvaluateSettings, commands.evaluate),
    "simulate": (SimulateSettings, commands.simulate),
    "replay": (ReplaySettings, commands.replay),
    "doctor": (DoctorSettings, commands.doctor),
}
_POSITIONAL: Final = {"replay": "source"}  # the one key of a command that needs no flag before it


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; a wrong command line is a wrong configuration."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"command line: {message}; see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit status; no traceback for anything that was foreseen."""
    sys.exit(status(sys.argv[1:] if arguments is None else arguments))


def status(arguments: Sequence[str]) -> int:
    """Run one command; return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        parsed = vars(parser().parse_args(arguments))
        parsed.pop("command_")(parsed)
    except ConfigError as error:
        return _say(error, 2)
    except EddylineError as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        return _say("stopped", 130)
    return 0


def _say(what: object, code: int) -> int:
    sys.stderr.write(f"eddyline: {' '.join(str(what).split())}\n")
    return code


def parser() -> argparse.ArgumentParser:
    """Build the whole command line."""
    top = _Parser(prog="eddyline", description="Scores every flow of live NetFlow for anomaly.", allow_abbrev=False)
    top.add_argument("--version", action="version", version=f"eddyline {__version__}")
    verbs = top.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for name, (kind, command) in _SETTINGS.items():
        title = " ".join((kind.__doc__ or "").split(": ", 1)[-1].split())
        verb = verbs.add_parser(name, help=title, description=title, allow_abbrev=False)
        verb.add_argument("--config", type=Path, metavar="FILE", default=None, help="YAML file with any of these keys")
        _add(verb, kind, "", _POSITIONAL.get(name))
        verb.set_defaults(command_=lambda parsed, kind=kind, command=command: _run(kind, command, parsed))
    show = verbs.add_parser("show", help="explain a model folder", description="Explain a model folder.")
    show.add_argument("folder", type=Path, metavar="DIR")
    show.set_defaults(command_=lambda parsed: commands.show(parsed["folder"]))
    demo = verbs.add_parser(
        "demo", help="live NetFlow v9 with attacks, scored", description="The main job, end to end."
    )
    demo.add_argument("--seconds", type=_seconds, metavar="X", default=60.0, help="seconds; 0 = until Ctrl-C [60]")
    demo.add_argument("--port", type=int, default=2055, help="UDP port on 127.0.0.1 [2055]")
    demo.set_defaults(command_=lambda parsed: commands.demo(parsed["seconds"], parsed["port"]))
    return top


def _run(kind: type[Any], command: Callable[[Any], None], parsed: dict[str, Any]) -> None:
    file = parsed.pop("config")
    flags: dict[str, Any] = {}
    for key, value in parsed.items():
        if value is not None:
            *path, last = key.split(".")
            level = flags
            for part in path:
                level = level.setdefault(part, {})
            level[last] = value
    command(load(kind, flags, file))


def _add(verb: argparse.ArgumentParser, kind: type[BaseModel], prefix: str, positional: str | None = None) -> None:
    for name, field in kind.model_fields.items():
        if name == positional:
            verb.add_argument(name, metavar="FILE", nargs="?", default=None, help=_help(field))
            continue
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            _add(verb, field.annotation, f"{prefix}{name}.")
            continue
        flag = f"--{prefix}{name}".rstrip("_").replace("_", "-")  # `from_` is the key, for Python keeps `from`
        many: dict[str, Any] = {"nargs": "+", "action": "extend"} if get_origin(field.annotation) is list else {}
        choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
        shown = "{" + ",".join(choices) + "}" if choices else _metavar(field)
        verb.add_argument(flag, dest=prefix + name, metavar=shown, default=None, help=_help(field), **many)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _metavar(field: FieldInfo) -> str:
    inner: Any = get_args(field.annotation)[0] if get_args(field.annotation) else field.annotation
    return {int: "N", float: "X", Path: "DIR"}.get(inner, "TEXT")


def _help(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    else:
        shown = (
            " ".join(map(str, default)) if isinstance(default, list) else "not set" if default is None else str(default)
        )
    return f"{field.description} [{shown}]".replace("%", "%%")


if __name__ == "__main__":
    main()
