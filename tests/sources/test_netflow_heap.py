"""What keeping freed memory is for: pages that the kernel need not clear again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAP = Path(__file__).parents[2] / "src" / "eddyline" / "sources" / "netflow" / "heap.py"
FAULTS = """
import resource, runpy, sys
import numpy as np

kept = sys.argv[2] == "keep" and runpy.run_path(sys.argv[1])["keep_freed_memory"]()
for _ in range(60):
    columns = [np.ones(100_000) for _ in range(8)]  # 6.4 MB, as of one batch
    del columns
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(how: str) -> tuple[str, int]:
    command = [sys.executable, "-c", FAULTS, str(HEAP), how]
    kept, faults = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_batches_that_come_and_go_take_their_pages_once() -> None:
    kept, faults = page_faults("keep")
    if kept == "False":
        pytest.skip("this C library has no mallopt")
    assert faults < page_faults("as it was")[1] / 2
