"""Checkpoints: folders of safetensors files and a JSON state, with a manifest of the checksums of every file.

The manifest holds the size and sha256 of each file, and the sha256 of itself. `mome.files.folders` writes and removes
the folders.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mome.files.folders import new_folder, remove_folder, set_aside, sync
from mome.files.hashing import file_sha256
from mome.files.sealed import CheckpointError, read_sealed, write_sealed

Members = dict[str, dict[str, torch.Tensor]]

FORMAT = 1
MANIFEST = "manifest.json"
SUFFIX = ".safetensors"
MEMBER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
STEP = re.compile(r"step-(\d{6,})")


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: `members` maps file name (without ending) -> tensor name -> tensor, on the CPU."""

    step: int
    members: Members
    state: dict[str, Any]
    path: Path


# --- checkpoints ---------------------------------------------------------------------------------------------------


def write_checkpoint(folder: Path, step: int, members: Members, state: dict[str, Any], keep: int = 2) -> Path:
    """Write `folder`/step-000012 with one safetensors file for each member, and return it once it is safe on disk.

    Of the earlier checkpoints the newest `keep` - 1 stay; the others are removed, after the new one is safe. A
    checkpoint of the same step is replaced.

    Raises:
        ValueError: a bad step, keep, name of a member or tensor, or a state that JSON does not give back unchanged.
        CheckpointError: `folder` holds a good checkpoint of a later step, which a reader would take instead.
        OSError: the disk is full or not writable; the earlier checkpoints are untouched.
    """
    for name, number, least in (("step", step, 0), ("keep", keep, 1)):
        if type(number) is not int or number < least:
            raise ValueError(f"{folder}: {name} must be a whole number of at least {least}, got {number!r}")
    _refuse_later_steps(folder, step)
    path = folder / _folder_name(step)
    _write(path, step, members, state)
    earlier = [place for number, place in _steps(folder) if number < step]
    for place in earlier[keep - 1 :]:
        remove_folder(place)
    return path


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest good checkpoint of `folder`, every byte verified; None where no checkpoint was ever finished.

    A bad one is warned about by file and reason, and the next older one is taken.

    Raises:
        CheckpointError: there are checkpoints, but none is good; each is named with its reason.
    """
    problems: list[str] = []
    for step, path in _steps(folder):
        try:
            members, state = _read(path, step)
        except CheckpointError as error:
            if not path.exists():  # a living writer replaced or removed it meanwhile
                return read_checkpoint(folder)
            problems.append(str(error))
            warnings.warn(f"{error}; looking for an older checkpoint", stacklevel=2)
        else:
            return Checkpoint(step, members, state, path)
    if problems:
        raise CheckpointError("\n".join([f"{folder}: no good checkpoint among {len(problems)}:", *problems]))
    return None


# --- a single folder -----------------------------------------------------------------------------------------------


def write_folder(path: Path, members: Members, state: dict[str, Any]) -> Path:
    """Write `path` with one safetensors file for each member, or replace it where this function wrote it before.

    Raises:
        ValueError: a bad name of a member or tensor, or a state that JSON does not give back unchanged.
        CheckpointError: `path` holds files that are not of this kind, and that replacing it would lose.
        OSError: the disk is full or not writable; what was at `path` is untouched.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path}: a file is in the way")
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    foreign = sorted(name for name in names if name != MANIFEST and not name.endswith(SUFFIX))
    if names and (foreign or MANIFEST not in names):
        raise CheckpointError(f"{path}: holds other files ({', '.join(foreign or sorted(names))}); not replaced")
    _write(path, None, members, state)
    return path


def read_folder(path: Path) -> tuple[Members, dict[str, Any]]:
    """The members and the state of what `write_folder` wrote to `path`, every byte verified.

    Raises:
        FileNotFoundError: nothing was written there.
        CheckpointError: a file is damaged, missing or unknown; the message names it.
    """
    path = path.resolve()
    found = path if path.exists() else set_aside(path.parent).get(path.name)
    if found is None:
        raise FileNotFoundError(f"{path}: no such folder")
    try:
        return _read(found, None)
    except CheckpointError:
        if found.exists():
            raise
        return read_folder(path)  # a living writer replaced it meanwhile


# --- reading -------------------------------------------------------------------------------------------------------


def _steps(folder: Path) -> list[tuple[int, Path]]:
    """Every checkpoint of `folder`, newest first."""
    places = {entry.name: entry for entry in folder.iterdir()} if folder.exists() else {}
    found = []
    for name, place in {**set_aside(folder), **places}.items():
        match = STEP.fullmatch(name)
        if match and name == _folder_name(int(match[1])):
            found.append((int(match[1]), place))
    return sorted(found, reverse=True)


def _folder_name(step: int) -> str:
    return f"step-{step:06d}"


def _read(path: Path, step: int | None) -> tuple[Members, dict[str, Any]]:
    body = read_sealed(path / MANIFEST)
    try:
        written, state, entries = body["step"], dict(body["state"]), dict(body["members"])
        sizes = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in entries.items()}
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / MANIFEST}: not a manifest of format {FORMAT} ({error})") from error
    if written != step:
        raise CheckpointError(f"{path / MANIFEST}: written for step {written}, not for step {step}")
    for name in sizes:
        if not MEMBER.fullmatch(name):
            raise CheckpointError(f"{path / MANIFEST}: names a member {name!r}, which is no plain file name")
    _refuse_unknown(path, {MANIFEST, *(name + SUFFIX for name in sizes)})
    return {name: _read_member(path / (name + SUFFIX), *expected) for name, expected in sizes.items()}, state


def _refuse_unknown(path: Path, known: set[str]) -> None:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
    for name in names:
        if name not in known and not name.startswith("."):
            raise CheckpointError(f"{path / name}: not named in {MANIFEST}")


def _read_member(path: Path, size: int, digest: str) -> dict[str, torch.Tensor]:
    try:
        actual = path.stat().st_size
        if actual != size:
            raise CheckpointError(f"{path}: {actual} bytes, {MANIFEST} says {size}")
        if file_sha256(path) != digest:
            raise CheckpointError(f"{path}: damaged, its sha256 is not the one in {MANIFEST}")
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error


# --- writing -------------------------------------------------------------------------------------------------------


def _write(path: Path, step: int | None, members: Members, state: dict[str, Any]) -> None:
    _check(path, members, state)
    with new_folder(path, None if step is None else STEP.pattern) as temporary:
        entries = {name: _write_member(temporary / (name + SUFFIX), tensors) for name, tensors in members.items()}
        write_sealed(temporary / MANIFEST, {"format": FORMAT, "step": step, "members": entries, "state": state})


def _refuse_later_steps(folder: Path, step: int) -> None:
    for later, path in _steps(folder):
        if later > step:
            try:
                _read(path, later)
            except CheckpointError:
                continue  # read_checkpoint has warned of it, or will
            raise CheckpointError(f"{path}: later than step {step}, and a reader would take it; remove it to go back")


def _check(path: Path, members: Members, state: dict[str, Any]) -> None:
    for name, tensors in members.items():
        if not MEMBER.fullmatch(name):
            raise ValueError(f"{path}: member {name!r} is no plain file name (letters, digits, '_', '-', '.')")
        for key, tensor in tensors.items():
            if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
                raise ValueError(f"{path}: member {name!r}, {key!r}: not a dense tensor")
    try:
        unchanged = isinstance(state, dict) and json.loads(json.dumps(state)) == state
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: the state is not JSON ({error})") from error
    if not unchanged:
        raise ValueError(f"{path}: the state does not come back from JSON as it was (tuple, NaN, key that is no text?)")


def _write_member(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    try:
        save_file(dict(_plain(tensors)), path)
    except SafetensorError as error:  # this is how safetensors reports a full disk
        raise OSError(f"{path}: cannot be written ({error})") from error
    sync(path)
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _plain(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """Contiguous tensors of which no two share memory, as safetensors wants them."""
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        storage = plain.untyped_storage().data_ptr()
        yield name, plain.clone() if storage in seen else plain
        seen.add(storage)
