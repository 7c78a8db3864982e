"""A setting of the C library's memory allocator that makes training on a CPU faster."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks up to 1 GiB for the next allocation instead of returning them to the kernel.

    Without it every activation is mapped and zeroed by the kernel again at each step; with it a 3.7M-parameter Llama
    trains 1.3 to 1.6 times as fast on one core of an Intel Xeon. A no-op where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, LARGEST)
        mallopt(TRIM_THRESHOLD, LARGEST)
