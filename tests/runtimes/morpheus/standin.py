"""Services on the real Python of Morpheus 25.06, over a stand-in of its C++ parts: see the README beside the stages.

MORPHEUS_SRC      python/morpheus of a Morpheus v25.06 tree; unset, the `morpheus` that is installed is used
MORPHEUS_STANDIN  folder of the stand-in, ../shared/morpheus/shim if unset
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from tests.kafka.forks import main

NEEDED = ("appdirs", "click", "networkx", "numpydoc", "pandas", "pluggy", "tqdm", "typing_utils", "watchdog")
SOURCE = os.environ.get("MORPHEUS_SRC")
STANDIN = Path(os.environ.get("MORPHEUS_STANDIN", Path(__file__).parents[4] / "shared" / "morpheus" / "shim"))


def why_not() -> str | None:
    """Why no pipeline can run here, None if one can."""
    if SOURCE is None:
        return None if find_spec("morpheus") else "no morpheus installed, and MORPHEUS_SRC names no v25.06 tree"
    if not STANDIN.is_dir():
        return f"no stand-in of MRC at {STANDIN}; set MORPHEUS_STANDIN"
    missing = [name for name in NEEDED if find_spec(name) is None]
    return f"Morpheus needs {', '.join(missing)}; install requirements.txt beside this file" if missing else None


def install() -> None:
    """Make `import morpheus` work, by the stand-in where MORPHEUS_SRC is set."""
    if SOURCE is not None:
        sys.path[:0] = [str(STANDIN), SOURCE]
        for name in ("morpheus_lib_shim", "optional_mocks"):
            import_module(name).install()


def answer(words: list[str]) -> int:
    """One command of `eddyline`, or of `morpheus` if that is the first word; its exit status."""
    if words[0] != "morpheus":
        from eddyline.cli import status

        return status(words)
    from morpheus.cli import run_cli
    from morpheus.utils.logger import reset_logging

    sys.argv = words
    try:
        run_cli()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        reset_logging()  # as at the exit of the interpreter, which a fork does not have
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of Morpheus and of its old dependencies
    install()

    main(answer)
