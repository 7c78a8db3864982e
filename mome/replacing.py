"""Folders that appear, change and go in one act: a reader sees the old one or the new one, whenever the writer dies.

A folder is filled under a private name beside its own, synced, and renamed. One that is in the way is set aside before
the rename and removed after it; a reader that finds nothing under the folder's own name takes what was set aside.
Private names are `.NAME.PID.TOKEN.COUNT.KIND`: what a killed process left behind is told from the work of a living one,
and the next write puts it right. Several processes must not write the same folder, nor several machines.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psutil

PRIVATE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<token>[0-9a-f]{8})\.\d+\.(?P<kind>new|old|gone)")
# Tells this process from an earlier one of the same id, as after the restart of a container.
TOKEN = secrets.token_hex(4)
COUNT = count()


@contextmanager
def new_folder(path: Path, names: str | None = None) -> Iterator[Path]:
    """A temporary folder to fill with synced files, which becomes `path`, on disk, when the block ends without error.

    First it puts right what killed writers of `path` left, or of every sibling whose whole name matches `names`.

    Raises:
        OSError: the disk is full or not writable; what was at `path` is untouched.
    """
    _make_folder(path.parent)
    _clear_leftovers(path.parent, names or re.escape(path.name))
    temporary = _private(path, "new")
    try:
        temporary.mkdir()
        yield temporary
        sync(temporary)
        _swap(temporary, path)
    finally:
        _discard(temporary)


def remove_folder(path: Path) -> None:
    """Take `path` away in one act; what cannot be deleted is warned about and left under a private name."""
    gone = _private(path, "gone")
    os.rename(path, gone)
    _discard(gone)


def set_aside(folder: Path) -> dict[str, Path]:
    """The folders that a writer killed between two renames has left in `folder`, by the name they had; read-only."""
    found = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        private = PRIVATE.fullmatch(entry.name)
        if private and private["kind"] == "old" and not (folder / private["name"]).exists():
            found[private["name"]] = entry
    return found


def sync(path: Path) -> None:
    """Have the system put a file's content, or a folder's names, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(temporary: Path, path: Path) -> None:
    """Put `temporary` in the place of `path`; after an error everything is where it was."""
    aside = _private(path, "old")
    try:
        if path.exists():
            os.rename(path, aside)
        os.rename(temporary, path)
        sync(path.parent)
    except BaseException:
        if not temporary.exists():
            os.rename(path, temporary)
        if aside.exists():
            os.rename(aside, path)
        raise
    _discard(aside)


def _clear_leftovers(folder: Path, names: str) -> None:
    """A folder set aside without a successor returns to its name; every other leftover of a killed writer goes."""
    for entry in sorted(folder.iterdir()):
        private = PRIVATE.fullmatch(entry.name)
        if private is None or not re.fullmatch(names, private["name"]) or _is_alive(private):
            continue
        path = folder / private["name"]
        if private["kind"] == "old" and not path.exists():
            os.rename(entry, path)
        else:
            _discard(entry)


def _is_alive(private: re.Match[str]) -> bool:
    pid = int(private["pid"])
    if pid == os.getpid():
        return private["token"] == TOKEN
    try:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # ended just now, or hidden from this user: a later write will see
        return True


def _private(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{TOKEN}.{next(COUNT)}.{kind}")


def _discard(path: Path) -> None:
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:  # a failed removal loses nothing, and must not hide the error that led here
        warnings.warn(f"{path}: cannot be removed ({error})", stacklevel=2)


def _make_folder(folder: Path) -> None:
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir(exist_ok=True)
        sync(place.parent)
