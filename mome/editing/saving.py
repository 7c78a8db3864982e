"""The facts beside a saved adapter: `facts.jsonl`; `held.json` vouches for it and names the fact of each anchor.

`strangers.safetensors` keeps the questions that the null key follows, where there are some.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mome.adapter_storage import BANK_FOLDER, EDITS_FOLDER
from mome.backbones import Backbone
from mome.editing.editor import Editor, editable
from mome.editing.holdings import EditError, Holdings
from mome.editing.journal import Journal, lock_folder, read_json, write_json
from mome.editing.strangers import Strangers
from mome.facts import FactError, read_jsonl, write_jsonl
from mome.manifest import MANIFEST, CheckpointError

FACTS, HELD, STRANGERS = "facts.jsonl", "held.json", "strangers.safetensors"
FORMAT = 1
UNKNOWN = (
    "{folder}: has no held.json, so nobody knows which facts an edit must leave alone; "
    "run `mome tune` again to have them kept"
)


def save_facts(folder: Path, editor: Editor | None) -> None:
    """Write the facts of a bank that was just saved to `folder`; None: they are not known.

    Raises:
        OSError: the folder cannot be written.
    """
    if editor is None:
        for name in (HELD, FACTS, STRANGERS):
            (folder / name).unlink(missing_ok=True)
        return
    if editor.facts:
        write_jsonl(editor.facts, folder / FACTS)
    else:
        (folder / FACTS).write_bytes(b"")
    (folder / STRANGERS).unlink(missing_ok=True)
    if editor.strangers is not None:
        editor.strangers.save(folder / STRANGERS)
    owners = editor.holdings.owners
    held = {"format": FORMAT, "facts": _sha256(folder / FACTS), "bank": _bank(folder), "owners": owners}
    held["strangers"] = _sha256(folder / STRANGERS) if editor.strangers is not None else None
    write_json(folder / HELD, held)


def refuse_edited(folder: Path) -> None:
    """Raise EditError if `folder` holds edits, which a newly saved adapter would make worthless."""
    if any((folder / EDITS_FOLDER).glob("*.safetensors")):
        raise EditError(
            f"{folder / EDITS_FOLDER}: holds edits of the adapter there; choose another folder, or remove them"
        )


def load_editor(folder: Path, backbone: Backbone) -> Editor | None:
    """The editor of an adapter that was just loaded from `folder`, its edits made; None if its facts are not known.

    Raises:
        CheckpointError: facts or edits are damaged, missing, or another adapter's; the message names the file.
    """
    if not (folder / HELD).is_file():
        if any((folder / EDITS_FOLDER).glob("*.safetensors")):
            raise CheckpointError(f"{folder / HELD}: missing, so the edits beside it cannot be made")
        return None
    held, path, others = read_json(folder / HELD), folder / FACTS, folder / STRANGERS
    if held.get("format") != FORMAT or held.get("bank") != _bank(folder):
        raise CheckpointError(f"{folder / HELD}: is of another bank than the one beside it; run `mome tune` again")
    if not path.is_file() or _sha256(path) != held["facts"]:
        raise CheckpointError(f"{path}: missing, or not the facts that were saved with the adapter; restore it")
    follows = held.get("strangers") is not None
    if follows and (not others.is_file() or _sha256(others) != held["strangers"]):
        raise CheckpointError(f"{others}: missing, or not what was saved with the adapter; restore it")
    try:
        facts = read_jsonl(path) if path.stat().st_size else []
        holdings = Holdings(facts, held["owners"], editable(backbone).router)
    except (FactError, EditError) as error:
        raise CheckpointError(f"{path}: not the facts of the adapter beside it ({error})") from error
    editor = Editor(backbone, holdings, load_journal(folder), strangers=Strangers.load(others) if follows else None)
    editor.replay()
    return editor


def load_journal(folder: Path) -> Journal:
    """The edits of the adapter in `folder`, verified but not made.

    Raises:
        EditError: the adapter's facts are not known.
        CheckpointError: an edit is damaged or missing; the message names the file.
    """
    if not (folder / HELD).is_file():
        raise EditError(UNKNOWN.format(folder=folder))
    return Journal(_sha256(folder / HELD), folder / EDITS_FOLDER)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from editing the adapter in `folder` meanwhile.

    Raises:
        EditError: the adapter's facts are not known, or another process is editing.
    """
    if not (folder / HELD).is_file():
        raise EditError(UNKNOWN.format(folder=folder))
    descriptor = lock_folder(folder / EDITS_FOLDER)
    try:
        yield
    finally:
        os.close(descriptor)


def _bank(folder: Path) -> str:
    return _sha256(folder / BANK_FOLDER / MANIFEST)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
