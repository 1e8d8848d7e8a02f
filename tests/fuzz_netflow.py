"""Coverage-guided fuzzing of the NetFlow decoders, as long as one likes; needs the extra `fuzz`, see `make fuzz`.

python -m tests.fuzz_netflow CORPUS -max_total_time=60      CORPUS is a folder that it fills; options: -help=1
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["eddyline.sources"]):
    from tests.sources.netflow_hostile import check, seeds, split


def main() -> None:
    """Run until the time is up, or until an input breaks a promise: libFuzzer keeps it in a file and says which."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for number, seed in enumerate(seeds() if folders else []):
        folders[0].mkdir(parents=True, exist_ok=True)
        (folders[0] / f"seed-{number}").write_bytes(seed)
    atheris.Setup(sys.argv, lambda data: check(split(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
