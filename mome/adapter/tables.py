"""Memory for huge tables of which few rows are ever written: a page takes memory once it is written."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

# Without it the kernel refuses a table larger than the memory, however few of its rows will be touched. Python names
# the flag from 3.13 on.
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def map_memory(name: str, size: int) -> mmap.mmap:
    """Zero pages that the kernel commits one by one when they are written; torch.zeros writes them all at once."""
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    except (OSError, OverflowError) as error:
        raise OSError(f"table {name!r}: {size:,} bytes of memory cannot be mapped ({error}); try a folder") from error
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page would commit 2 MiB for each row
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages


def map_file(path: Path, size: int, reopen: bool) -> mmap.mmap:
    """The pages of a sparse file of `size` bytes, made anew unless it is to be opened again."""
    try:
        with path.open("r+b" if reopen else "w+b") as file:
            file.truncate(size)
            pages = mmap.mmap(file.fileno(), size)
    except (OSError, OverflowError) as error:
        raise OSError(f"{path}: a table of {size:,} bytes cannot be mapped: {error}") from error
    if hasattr(mmap, "MADV_RANDOM"):  # reading ahead would load rows nobody asked for
        pages.madvise(mmap.MADV_RANDOM)
    return pages
