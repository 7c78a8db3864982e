"""Which files of a folder a new adapter may replace: those that a manifest names, and working files of `mome tune`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mome.adapter.saving.folder import (
    BANK_FOLDER,
    BANK_MANIFEST,
    CARD,
    CONFIG,
    EDITS_FOLDER,
    FACTS,
    HEAD,
    HELD,
    MANIFEST,
    OUT_OF_SCOPE,
    WEIGHTS,
    AdapterError,
    read_manifest,
)
from mome.files.checkpoints import STEP, SUFFIX
from mome.files.folders import PRIVATE, probe
from mome.files.hashing import file_sha256
from mome.files.locking import lock_path
from mome.files.sealed import CheckpointError, read_sealed

SNAPSHOT, CHECKPOINTS = "snapshot.safetensors", "checkpoints"
SHOWN = 5


def refuse_place(folder: Path) -> None:
    """Refuse a folder that cannot become an adapter in one act, before any work.

    Raises:
        AdapterError: it is a file, the home or the current folder or above one of them, or a mount point.
        OSError: nothing can be written beside it.
    """
    whole = folder.resolve()
    if whole.exists() and not whole.is_dir():
        raise AdapterError(f"{folder}: is a file, not a folder for an adapter")
    places = {"the current folder": Path.cwd(), "your home folder": Path.home().resolve()}
    for what, place in places.items():
        if place.is_relative_to(whole):
            where = "is" if place == whole else "holds"
            raise AdapterError(
                f"{folder}: {where} {what}, which an adapter cannot replace; name a folder in it, {folder / 'adapter'}"
            )
    if whole.is_mount():
        inside = f"name a folder in it, {folder / 'adapter'}"
        raise AdapterError(f"{folder}: is a mount point, which cannot be replaced in one act; {inside}")
    probe(whole)


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that are not ours, which an adapter in its place would lose.

    Raises:
        AdapterError: there are such files; the message names them.
    """
    found = foreign_files(folder)
    if not found:
        return
    if found == [FACTS] and (folder / MANIFEST).exists():
        raise AdapterError(f"{folder / FACTS}: was changed since it was saved, and would be lost; move it away")
    names = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    raise AdapterError(
        f"{folder}: holds files that are not of an adapter of this version, and would be lost ({names}); "
        "choose another folder, or move them away"
    )


def foreign_files(folder: Path) -> list[str]:
    """The names of the entries of `folder` that are neither an adapter's of ours nor working files of `mome tune`."""
    if not folder.is_dir():
        return []
    manifest = _manifest(folder)
    known = _names_before_manifests(folder) if manifest is None else set()
    return sorted(
        entry.name for entry in folder.iterdir() if entry.name not in known and not _is_ours(folder, entry, manifest)
    )


def own_names(folder: Path) -> set[str]:
    """The entries of `folder` that belong to the adapter there, and go when another takes its place."""
    manifest = _manifest(folder)
    if manifest is None:
        return _names_before_manifests(folder) - {CARD}
    whole = {name for name in manifest["files"] if name != FACTS or _unchanged(folder, manifest)}
    return {MANIFEST, EDITS_FOLDER, *(name.partition("/")[0] for name in whole)}


def refuse_edited(folder: Path) -> None:
    """Raise AdapterError if `folder` holds edits, which a newly saved adapter would make worthless."""
    if any((folder / EDITS_FOLDER).glob(f"*{SUFFIX}")):
        raise AdapterError(
            f"{folder / EDITS_FOLDER}: holds edits of the adapter there; choose another folder, or remove them"
        )


def _names_before_manifests(folder: Path) -> set[str]:
    """As `own_names`, for an adapter without manifest, where `held.json` has the checksums of its bank and facts."""
    try:
        held = json.loads((folder / HELD).read_text("utf-8"))
        whole = held["bank"] == file_sha256(folder / BANK_MANIFEST) and held["facts"] == file_sha256(folder / FACTS)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()
    return {CONFIG, WEIGHTS, CARD, BANK_FOLDER, EDITS_FOLDER, FACTS, HELD, OUT_OF_SCOPE} if whole else set()


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(folder)
    except CheckpointError:
        return None  # nothing says any more what is ours


def _is_ours(folder: Path, entry: Path, manifest: dict[str, Any] | None) -> bool:
    name = entry.name
    if PRIVATE.fullmatch(name) or entry == lock_path(folder):
        return True
    if name == CHECKPOINTS:
        return _holds_checkpoints(entry)
    if name == SNAPSHOT:
        return _is_snapshot(entry)
    if manifest is None or entry.is_symlink():
        return False
    if name in (BANK_FOLDER, EDITS_FOLDER):
        return _holds_only(entry, {MANIFEST, Path(HEAD).name, "lock"})
    if name == FACTS and name in manifest["files"]:
        return _unchanged(folder, manifest)
    return name in (MANIFEST, CARD) or name in manifest["files"]


def _unchanged(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether the facts, which a user may have edited, are those that were saved."""
    path = folder / FACTS
    return not path.is_file() or file_sha256(path) == manifest["files"][FACTS][1]


def _holds_only(folder: Path, names: set[str]) -> bool:
    """Whether a folder has files of safetensors only, besides some `names` and what writers leave."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    return all(
        entry.is_file() and (entry.name in names or entry.suffix == SUFFIX or entry.name.startswith("."))
        for entry in folder.iterdir()
    )


def _holds_checkpoints(folder: Path) -> bool:
    """Whether a folder is that of a run's checkpoints, or empty."""
    if not folder.is_dir() or folder.is_symlink():
        return False
    entries = [entry for entry in folder.iterdir() if not PRIVATE.fullmatch(entry.name)]
    steps = [entry for entry in entries if STEP.fullmatch(entry.name) and _holds_only(entry, {MANIFEST})]
    return len(steps) == len(entries) and (not steps or any(map(_is_checkpoint, steps)))


def _is_checkpoint(folder: Path) -> bool:
    try:
        return "members" in read_sealed(folder / MANIFEST)
    except CheckpointError:
        return False


def _is_snapshot(path: Path) -> bool:
    if not path.is_file() or path.is_symlink() or not os.access(path, os.R_OK):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "config" in json.loads((file.metadata() or {})["state"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        return False
