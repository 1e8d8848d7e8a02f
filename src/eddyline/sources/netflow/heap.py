"""How the C library keeps freed memory: glibc's own `mallopt`, where there is one."""

from __future__ import annotations

import ctypes
from typing import Final

KEPT_BYTES: Final = 64 << 20
_LARGEST: Final = 32 << 20  # glibc takes no larger limit for what lies in its heap
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Let this process keep KEPT_BYTES of freed memory at the top of its heap; whether the C library understood.

    Batches of some megabytes come and go several times a second. By default glibc gives such memory back to the kernel
    at once and gets it again page by page, which takes longer than decoding (`benchmarks/netflow_decode.py`).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False  # musl, macOS, Windows: they have rules of their own
    kept = mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and kept)
