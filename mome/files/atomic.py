"""Writing a file so that it appears whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mome.files.folders import naming, sync


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write a file under, which takes the place of `path`, on disk, when the block ends.

    A block that raises leaves `path` as it was and nothing else. What a killed writer leaves is a hidden file that ends
    in `.part`, which git ignores.

    Raises:
        OSError: the disk is full or not writable; the error names a file.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # writers beside this one have other names
    try:
        with naming(path):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` (text as UTF-8) as `replacing` does: no reader sees half a file. Missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
