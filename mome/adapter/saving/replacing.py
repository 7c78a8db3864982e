"""Replacing a saved adapter: the new one takes the old one's place as a whole, and other files in the folder stay.

Where the folder can be replaced it changes in one act. Where it cannot (it is the current folder, a mount point, or
nothing can be written beside it), the older adapter is kept inside until the new one is whole, and a reader that finds
the new one unfinished takes the older one, with a warning.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from mome.adapter.saving.folder import (
    BANK_FOLDER,
    CARD,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    AdapterError,
    UnvouchedWarning,
    find_adapter,
    verify_adapter,
    whole_adapter,
)
from mome.adapter.saving.ownership import own_names, refuse_place
from mome.files.folders import (
    clear_unfinished,
    discard,
    keep,
    naming,
    new_folder,
    private_name,
    remove_folder,
    sync,
    sync_all,
)
from mome.files.sealed import CheckpointError

INSIDE = "adapter"
ASIDE = re.compile(rf"\.{INSIDE}\.\d+\.[0-9a-f]{{8}}\.\d+\.old")


@contextmanager
def new_adapter(folder: Path) -> Iterator[Path]:
    """A temporary folder to write an adapter and its manifest to, which takes the place of the one in `folder`.

    It starts with the README.md of the older one, which may hold a user's words.

    Raises:
        OSError: the disk is full or not writable; what was in `folder` is untouched.
    """
    folder = folder.resolve()
    replacing = _replacing if _is_replaceable(folder) else _in_place
    with writing(folder), replacing(folder) as temporary:
        if (folder / CARD).is_file():
            shutil.copyfile(folder / CARD, temporary / CARD)
        yield temporary


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Name the adapter's folder in each error while its files are written; libraries name a file, or nothing."""
    try:
        with naming(folder):
            yield
    except SafetensorError as error:  # its way to say that the disk is full
        raise OSError(f"{folder}: cannot be written ({error})") from error
    except OSError as error:
        raise _naming_error(folder, error) from error


def whole_folder(folder: Path) -> Path:
    """The folder with the whole adapter: `folder`, or with a warning the older one that an interrupted save keeps."""
    folder = find_adapter(folder)
    asides = _asides(folder)
    if asides and not _is_whole(folder):
        for aside in filter(_is_whole, asides):
            warnings.warn(f"{folder}: saving was interrupted; the adapter from before is taken, {aside}", stacklevel=2)
            return aside
    return folder


def _naming_error(folder: Path, error: OSError) -> OSError:
    cause = error.strerror or str(error)
    named = type(error)(f"{folder}: cannot be written ({cause})")
    named.errno = error.errno
    return named


def _is_replaceable(folder: Path) -> bool:
    try:
        refuse_place(folder)
    except (AdapterError, OSError):
        return not folder.is_dir()
    return True


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    with new_folder(folder) as temporary:
        yield temporary
        if folder.is_dir():
            keep(folder, temporary, own_names(folder))
            shutil.copymode(folder, temporary)
        sync_all(temporary)


@contextmanager
def _in_place(folder: Path) -> Iterator[Path]:
    clear_unfinished(folder)
    own, staged = own_names(folder), private_name(folder / INSIDE, "new")
    try:
        staged.mkdir()
        yield staged
        sync_all(staged)
        older = _asides(folder)
        if (folder / CONFIG).is_file() and _is_whole(folder):
            older.append(_set_aside(folder, own | {CONFIG, WEIGHTS, BANK_FOLDER}))
        names = {entry.name for entry in staged.iterdir()}
        for name in sorted(names, key=lambda name: name == MANIFEST):  # last the manifest, with the others' checksums
            _put(staged / name, folder / name)
        for name in own - names:
            _remove(folder / name)
        sync(folder)
        for aside in older:
            discard(aside)
    finally:
        discard(staged)


def _set_aside(folder: Path, own: set[str]) -> Path:
    """Copy the entries `own` of a folder into a private folder inside it, which appears only when it is complete."""
    unfinished, aside = (private_name(folder / INSIDE, kind) for kind in ("new", "old"))
    unfinished.mkdir()
    keep(folder, unfinished, {entry.name for entry in folder.iterdir()} - own)
    sync_all(unfinished)
    os.rename(unfinished, aside)
    sync(folder)
    return aside


def _asides(folder: Path) -> list[Path]:
    """The older adapters that interrupted saves left inside the folder, newest first."""
    found = [entry for entry in folder.iterdir() if ASIDE.fullmatch(entry.name)] if folder.is_dir() else []
    return sorted(found, key=lambda entry: entry.stat().st_mtime_ns, reverse=True)


def _is_whole(folder: Path) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnvouchedWarning)
            whole_adapter(folder)
            verify_adapter(folder)
    except (AdapterError, CheckpointError):
        return False
    return True


def _put(source: Path, target: Path) -> None:
    """Replace `target` by `source`."""
    if target.is_dir():
        _remove(target)
    os.replace(source, target)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_folder(path)
    else:
        path.unlink(missing_ok=True)
