"""The path in one screen: configuration -> runtime -> what happened.

    python pipeline.py settings.yaml

Inside the runtime (`src/eddyline/runtimes/embedded.py`):
source -> windows -> graph -> detectors -> calibrated p -> combined p -> alerts -> sinks -> commit.
"""

import sys
from pathlib import Path

from rich.console import Console

from eddyline.commands import stop_on_signals, summarise, watching
from eddyline.config import RunSettings, load
from eddyline.errors import ConfigError, EddylineError
from eddyline.runtimes import load_runtime


def main() -> None:
    """Run the service with the settings of one YAML file."""
    settings = load(RunSettings, {}, Path(sys.argv[1] if len(sys.argv) > 1 else "settings.yaml"))
    # settings.source   netflow://:2055        where flows come from
    # settings.windows  60 s, 10 s lateness    one graph per window and site
    # settings.model    artifacts/gae          detectors and their calibration
    # settings.alerts   at most 20 a day       the few things worth looking at
    # settings.sink     file://out, stdout:    every scored flow, and the alerts
    run = load_runtime(settings.runtime, settings.source)
    console = Console(stderr=True)
    with stop_on_signals() as stop, watching(console) as report:
        counts = run(settings, stop, report)
    summarise(counts, console)


if __name__ == "__main__":
    try:
        main()
    except EddylineError as error:
        sys.stderr.write(f"pipeline: {' '.join(str(error).split())}\n")
        sys.exit(2 if isinstance(error, ConfigError) else 1)
