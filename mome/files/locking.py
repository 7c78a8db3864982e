"""A lock for writers of an adapter (tune, save, edit) and for runs of notebooks: a second writer is refused at once.

An adapter's lock is a file beside the folder, as the folder itself is replaced. The system frees the lock of a killed
process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


class BusyError(ValueError):
    """A folder that another process, or another part of this one, is writing."""


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """While the context lasts, no other process can write the adapter in `folder`, which need not exist yet.

    Raises:
        BusyError: another process is writing it.
        OSError: the lock cannot be made there.
    """
    folder = folder.resolve()
    path = lock_path(folder)
    missing = [place for place in path.parents if not place.exists()]
    busy = "another process is writing this adapter (tune, save or edit); try again when it has ended"
    try:
        with locked_file(path, f"{folder}: {busy}"):
            yield
    finally:
        remove_empty(missing)


@contextmanager
def locked_file(path: Path, busy: str, seconds: float = 0.0) -> Iterator[None]:
    """Hold the lock that the file `path` stands for meanwhile; its folder is made, and the file is gone afterwards.

    Raises:
        BusyError: another one holds it, still after `seconds`; `busy` is the message.
        OSError: the file cannot be made there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(busy) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # still held: whoever has opened it sees that it is gone, and opens it anew
        lock.release()


def lock_path(folder: Path) -> Path:
    """The file that is locked: beside the folder, or in it where nothing can be written beside it."""
    parent = folder.parent
    inside = folder.is_dir() and not os.access(parent, os.W_OK)
    return folder / ".lock" if inside else parent / f".{folder.name}.lock"


def remove_empty(folders: list[Path]) -> None:
    """Take away those of `folders`, inner ones first, that are still empty."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # it is in use
