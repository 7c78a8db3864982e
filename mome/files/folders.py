"""Folders that are written, replaced and removed in one act: a reader sees the old or the new one, even after a kill.

A folder is filled under a private name beside its own, synced, and renamed. An older folder exchanges its name with the
new one in one system call, where the system has it. Elsewhere the older folder is set aside before the rename and
removed after it; a reader that finds nothing under the folder's own name takes the folder that was set aside.
Private names are `.NAME.PID.TOKEN.COUNT.KIND`. They tell what a killed process left from the work of a living one, and
the next write cleans up. Several processes or machines must not write the same folder.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psutil

PRIVATE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.(?P<token>[0-9a-f]{8})\.\d+\.(?P<kind>new|old|gone)")
# Tells this process from an earlier one of the same id, as after the restart of a container.
TOKEN = secrets.token_hex(4)
COUNT = count()
AT_FDCWD, RENAME_EXCHANGE, RENAME_SWAP = -100, 2, 2
# of a system, or of a file system, that lacks the call
LACKING = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


@contextmanager
def new_folder(path: Path, names: str | None = None) -> Iterator[Path]:
    """A temporary folder to fill with synced files, which becomes `path`, on disk, when the block ends without error.

    First it puts right what killed writers of `path` left, or of every sibling whose whole name matches `names`.

    Raises:
        OSError: the disk is full or not writable; what was at `path` is untouched.
    """
    _make_folder(path.parent)
    _clear_leftovers(path.parent, names or re.escape(path.name))
    temporary = private_name(path, "new")
    try:
        with naming(path):
            temporary.mkdir()
            yield temporary
            sync(temporary)
            _swap(temporary, path)
    finally:
        discard(temporary)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an OSError of the block that names no file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.strerror is None or error.filename is not None:
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


def probe(path: Path) -> None:
    """Make and remove a folder where `new_folder` would write; raises OSError naming the place if it cannot be."""
    missing = [place for place in path.parents if not place.exists()]
    trial = private_name(path, "new")
    try:
        _make_folder(path.parent)
        trial.mkdir()
        trial.rmdir()
    except OSError as error:
        raise OSError(f"{path}: cannot be written, nor replaced in one act ({error})") from error
    finally:
        for place in missing:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()


def keep(old: Path, new: Path, gone: Collection[str] = ()) -> None:
    """Link the entries of the folder `old` into `new`, except for those named in `gone` or already there.

    Raises:
        OSError: the disk is full or not writable.
    """
    for entry in sorted(old.iterdir()):
        place = new / entry.name
        if entry.name in gone or os.path.lexists(place):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, place, symlinks=True, copy_function=_link)
        else:
            _link(entry, place)


def sync_all(folder: Path) -> None:
    """`sync` of everything in a folder, and of itself."""
    for place, _, files in os.walk(folder):
        for name in files:
            if not (path := Path(place, name)).is_symlink():
                sync(path)
        sync(Path(place))


def clear_unfinished(folder: Path) -> None:
    """Remove what killed writers left half made, or half removed, in a folder; nothing that was set aside."""
    for entry in sorted(folder.iterdir()):
        private = PRIVATE.fullmatch(entry.name)
        if private and private["kind"] != "old" and not _is_alive(private):
            discard(entry)


def remove_folder(path: Path) -> None:
    """Remove `path` in one act. What cannot be deleted is warned about and left under a private name."""
    gone = private_name(path, "gone")
    os.rename(path, gone)
    discard(gone)


def set_aside(folder: Path) -> dict[str, Path]:
    """The folders that a writer killed between two renames has left in `folder`, by the name they had; read-only."""
    found = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        private = PRIVATE.fullmatch(entry.name)
        if private and private["kind"] == "old" and not (folder / private["name"]).exists():
            found[private["name"]] = entry
    return found


def sync(path: Path) -> None:
    """Make the system write a file's content, or a folder's names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(source: str | Path, target: str | Path) -> None:
    """The same file under another name, or a copy where the file system has no links."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _swap(temporary: Path, path: Path) -> None:
    """Replace `path` by `temporary`, or exchange their names. After an error both are as they were."""
    if path.exists() and exchange(temporary, path):
        try:
            sync(path.parent)
        except BaseException:
            exchange(temporary, path)
            raise
        return
    aside = private_name(path, "old")
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
    discard(aside)


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
            discard(entry)


def _is_alive(private: re.Match[str]) -> bool:
    pid = int(private["pid"])
    if pid == os.getpid():
        return private["token"] == TOKEN
    try:
        return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:  # ended just now, or hidden from this user: a later write will see
        return True


def private_name(path: Path, kind: str) -> Path:
    """A name beside `path` that nobody else uses; its `kind` is "new", "old" (set aside) or "gone"."""
    return path.with_name(f".{path.name}.{os.getpid()}.{TOKEN}.{next(COUNT)}.{kind}")


def discard(path: Path) -> None:
    """Remove a folder if it is there; what cannot be removed is warned about."""
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


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders of one file system. False, and nothing has changed, if the system cannot.

    Raises:
        OSError: the system has the call and refuses it.
    """
    call = _call()
    if call is None:
        return False
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    code = ctypes.get_errno()
    if code in LACKING:
        return False
    raise OSError(code, os.strerror(code), str(other))


@cache
def _call() -> Any:
    """The system's call on two paths, or None."""
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            swap = library.renamex_np
            return lambda one, other: swap(one, other, ctypes.c_uint(RENAME_SWAP))
        rename = library.renameat2
    except AttributeError:
        return None
    return lambda one, other: rename(AT_FDCWD, one, AT_FDCWD, other, ctypes.c_uint(RENAME_EXCHANGE))
