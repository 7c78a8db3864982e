"""The manifest of a saved adapter: the sha256 of each file that decides what it answers, in `manifest.json`.

The bank has a manifest of its own, `bank/manifest.json`, whose sha256 is in this one. README.md is not in it: anyone
may rewrite it. Each edit carries its own checksum; the manifest says whether there are edits. It also holds digests of
the backbone's weights, and the form in which the backbone was asked.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

from peft import PeftConfig

from mome.adapter.config import METHOD
from mome.adapter.saving.identity import same_weights, weights_digests
from mome.files.atomic import replacing
from mome.files.folders import set_aside
from mome.files.hashing import file_sha256
from mome.files.sealed import CheckpointError, read_sealed, write_sealed
from mome.lm.prompts.form import QA, PromptForm

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
FACTS, HELD, OUT_OF_SCOPE = "facts.jsonl", "held.json", "strangers.safetensors"
BANK_FOLDER, EDITS_FOLDER, MANIFEST = "bank", "edits", "manifest.json"
BANK_MANIFEST, HEAD = f"{BANK_FOLDER}/{MANIFEST}", f"{EDITS_FOLDER}/head.json"
FORMAT = 1
NAME = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*")


class AdapterError(ValueError):
    """A folder that is not a whole adapter, or may not become one; the message names it and says what to do."""


class UnvouchedWarning(UserWarning):
    """An adapter has no manifest: whether its files are those that were saved cannot be told."""


def find_adapter(folder: Path) -> Path:
    """The folder itself, or where a writer that was killed has set it aside, with a warning."""
    if folder.is_dir():
        return folder
    whole = folder.resolve()
    aside = set_aside(whole.parent).get(whole.name)
    if aside is None:
        return folder
    warnings.warn(f"{folder}: saving was interrupted; the adapter from before is taken, {aside}", stacklevel=2)
    return aside


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a saved adapter, from its JSON file.

    Raises:
        AdapterError: the folder has no configuration, or a damaged one.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"{folder}: not an adapter folder, it has no {CONFIG}; `mome tune` makes one")
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found["peft_type"], str):
            raise ValueError(f"peft_type is {found['peft_type']!r}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterError(f"{path}: not the configuration of an adapter ({error!r})") from error
    return dict(found)


def check_config(folder: Path) -> None:
    """Refuse a configuration that PEFT cannot read, before a backbone is loaded; raises AdapterError."""
    path = folder / CONFIG
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # given again where the adapter is loaded
            PeftConfig.from_pretrained(str(folder))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise AdapterError(f"{path}: not the configuration of an adapter ({error})") from error


def whole_adapter(folder: Path) -> dict[str, Any]:
    """The configuration of an adapter that has all its files.

    Raises:
        AdapterError: the configuration is damaged, or a file or the bank is missing.
    """
    found = read_config(folder)
    for needed in (WEIGHTS, BANK_FOLDER) if found["peft_type"] == METHOD else (WEIGHTS,):
        if not (folder / needed).exists():
            raise AdapterError(f"{folder}: {needed} is missing; run `mome tune` again to have it written")
    return found


def seal_adapter(folder: Path, model: Any, backbone: str | None, prompt: PromptForm | None = None) -> None:
    """Write the manifest over the files in `folder`, which must be the adapter's alone; `model` carries it.

    `prompt` is the form in which the backbone was asked; None: not known.

    Raises:
        OSError: it cannot be written.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    in_bank = {name for name in names if name.startswith(f"{BANK_FOLDER}/") and name != BANK_MANIFEST}
    files = {
        name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for name, path in names.items()
        if name not in in_bank | {CARD, MANIFEST}
    }
    known = {"name": backbone, "weights": weights_digests(model), "prompt": prompt and prompt.as_json()}
    write_sealed(folder / MANIFEST, {"format": FORMAT, "files": files, "backbone": known, "edited": False})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest that `seal_adapter` wrote, before any file is compared with it; None where there is no manifest.

    Raises:
        CheckpointError: the manifest is damaged, or not of this kind.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    body = read_sealed(path)
    try:
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']!r}")
        sizes = {name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in body["files"].items()}
        weights = {str(dtype): str(digest) for dtype, digest in body["backbone"]["weights"].items()}
        wrong = [name for name in sizes if not NAME.fullmatch(name)]
        if wrong:
            raise ValueError(f"names a file {wrong[0]!r}")
        found = {"files": sizes, "backbone": body["backbone"]["name"], "weights": weights, "edited": body["edited"]}
        prompt = body["backbone"].get("prompt")  # not known before there was a choice
        return {**found, "prompt": QA if prompt is None else PromptForm.from_json(prompt)}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{path}: not a manifest of format {FORMAT} ({error})") from error


def verify_adapter(folder: Path) -> dict[str, Any] | None:
    """Compare all files with the manifest and return it; None, with a warning, for an adapter saved without one.

    Raises:
        CheckpointError: a file is damaged, missing, or does not belong to the others; the message names it.
    """
    found = read_manifest(folder)
    if found is None:
        if _is_vouched_for(folder):
            raise CheckpointError(f"{folder / MANIFEST}: missing; restore it from a copy, or memorize again")
        text = f"{folder}: has no {MANIFEST}, so its files cannot be verified; save it anew to have one"
        warnings.warn(text, UnvouchedWarning, stacklevel=2)
        return None
    for name, (size, digest) in found["files"].items():
        _verify(folder / name, size, digest)
    if HELD not in found["files"] and (folder / HELD).exists():
        raise CheckpointError(f"{folder / HELD}: not named in {MANIFEST}")
    if found["edited"] and not (folder / HEAD).is_file():
        raise CheckpointError(f"{folder / HEAD}: missing, but this adapter was edited; restore {EDITS_FOLDER}/")
    return found


def check_backbone(folder: Path, manifest: dict[str, Any] | None, model: Any) -> None:
    """Refuse a model whose backbone has other weights than the one that the adapter was saved with.

    Raises:
        AdapterError: the weights differ; the message says which backbone is wanted.
    """
    if manifest is None:
        return
    same = same_weights(manifest["weights"], weights_digests(model))
    if same is False:
        name = manifest["backbone"] or "the one it was trained on"
        raise AdapterError(
            f"{folder}: was trained on a backbone with other weights than this one; "
            f"load it on {name!r} as it was then, or memorize the facts again on this one"
        )
    if same is None:
        text = f"{folder}: whether the backbone has the weights it was trained on cannot be told in this dtype"
        warnings.warn(text, UnvouchedWarning, stacklevel=2)


def mark_edited(folder: Path) -> None:
    """Write into the manifest that there are edits, before the first one is made. Without a manifest, do nothing.

    Raises:
        OSError: the manifest cannot be written; it is then as it was.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    body = read_sealed(path)
    if body["edited"]:
        return
    with replacing(path) as temporary:
        write_sealed(temporary, {**body, "edited": True})


def _verify(path: Path, size: int, digest: str) -> None:
    try:
        actual = path.stat().st_size
        if actual == size and file_sha256(path) == digest:
            return
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}), but {MANIFEST} names it") from error
    found = "its sha256 is not the one" if actual == size else f"it has {actual} bytes, not those"
    raise CheckpointError(f"{path}: damaged or replaced, {found} in {MANIFEST}; restore it, or memorize again")


def _is_vouched_for(folder: Path) -> bool:
    """Whether the bank's own manifest says that it was saved along with an adapter's manifest."""
    try:
        return bool(read_sealed(folder / BANK_MANIFEST)["state"].get("vouched"))
    except (CheckpointError, KeyError, AttributeError):
        return False  # no bank, or one that will be refused by its name
