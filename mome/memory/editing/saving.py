"""The facts beside a saved adapter: `facts.jsonl`, and `held.json` with its checksum and the fact of each anchor.

`strangers.safetensors` keeps the queries of out-of-scope questions that set the rejection threshold, if there are any.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mome.adapter.config import METHOD
from mome.adapter.saving.folder import (
    BANK_FOLDER,
    BANK_MANIFEST,
    CONFIG,
    EDITS_FOLDER,
    FACTS,
    HELD,
    MANIFEST,
    OUT_OF_SCOPE,
    WEIGHTS,
    AdapterError,
    mark_edited,
    read_config,
    seal_adapter,
)
from mome.adapter.saving.ownership import foreign_files, refuse_edited, refuse_foreign, refuse_place
from mome.adapter.saving.replacing import new_adapter
from mome.adapter.saving.storage import PeftModelForCausalLM
from mome.facts.readers import read_jsonl, write_jsonl
from mome.facts.strict import FactError
from mome.files.folders import sync
from mome.files.hashing import file_sha256
from mome.files.locking import locked_folder
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone
from mome.lm.prompts.form import prompt_form
from mome.memory.editing.editor import Editor, editable
from mome.memory.editing.holdings import EditError, Holdings
from mome.memory.editing.journal import Journal, read_json, write_json
from mome.memory.editing.out_of_scope import OutOfScope

FORMAT = 1
UNKNOWN = (
    "{folder}: has no held.json, so it is not known which facts an edit must leave alone; "
    "run `mome tune` again to have them kept"
)


@contextmanager
def claimed(folder: Path, lora: bool) -> Iterator[None]:
    """Hold a folder for the adapter of a long run, or refuse it before any work; `lora`: for one of that method.

    Raises:
        AdapterError: it is another method's adapter, holds edits or files that are not ours, or cannot be replaced.
        BusyError: another process is writing it.
        OSError: nothing can be written there.
    """
    refuse_place(folder)
    with locked_folder(folder):
        refuse_edited(folder)
        if (folder / CONFIG).is_file() and (read_config(folder)["peft_type"] == METHOD) is lora:
            raise AdapterError(f"{folder}: holds an adapter of another method; choose another folder")
        refuse_foreign(folder)
        yield


def save_memory(folder: Path, backbone: Backbone, editor: Editor | None) -> None:
    """Write a backbone's adapter, its facts and their checksums to `folder`, in place of an adapter there.

    Raises:
        AdapterError: the folder holds edits, or files that are not ours, or cannot be replaced.
        BusyError: another process is writing it.
        OSError: it cannot be written; what was there is untouched.
    """
    refuse_place(folder)
    refuse_foreign(folder)
    with locked_folder(folder):
        write_memory(folder, backbone, editor)


def write_memory(folder: Path, backbone: Backbone, editor: Editor | None) -> None:
    """As `save_memory`, under the folder's lock, which the caller holds. Files that appeared meanwhile stay."""
    folder = folder.resolve()
    refuse_edited(folder)
    lost = {*foreign_files(folder)} & {CONFIG, WEIGHTS, MANIFEST, BANK_FOLDER, FACTS, HELD, OUT_OF_SCOPE}
    if lost:
        raise AdapterError(f"{folder / min(lost)}: is not ours, and would be lost; move it away and run this again")
    model: Any = backbone.model
    model.peft_config[model.active_adapter].base_model_name_or_path = backbone.name
    model.get_base_model().name_or_path = model.config.name_or_path = backbone.name  # for the card
    # PEFT's automatic choice of embeddings would ask the Hub for a shipped backbone
    options: dict[str, Any] = {"save_embedding_layers": False}
    with new_adapter(folder) as temporary:
        if isinstance(model, PeftModelForCausalLM):
            model.write_adapter(temporary, folder.name, **options)
        else:
            model.save_pretrained(str(temporary), **options)
        if editor is not None:
            _write_facts(temporary, editor)
        seal_adapter(temporary, model, backbone.name, prompt_form(backbone.tokenizer))


def _write_facts(folder: Path, editor: Editor) -> None:
    """The facts of a bank that was just written to `folder`."""
    if editor.facts:
        write_jsonl(editor.facts, folder / FACTS)
    else:
        (folder / FACTS).write_bytes(b"")
    if editor.out_of_scope is not None:
        editor.out_of_scope.save(folder / OUT_OF_SCOPE)
    owners = editor.holdings.owners
    held = {"format": FORMAT, "facts": file_sha256(folder / FACTS), "bank": _bank(folder), "owners": owners}
    held["strangers"] = file_sha256(folder / OUT_OF_SCOPE) if editor.out_of_scope is not None else None
    write_json(folder / HELD, held)


def load_editor(folder: Path, backbone: Backbone) -> Editor | None:
    """The editor of an adapter that was just loaded from `folder`, its edits made; None if its facts are not known.

    Raises:
        CheckpointError: facts or edits are damaged, missing, or another adapter's; the message names the file.
    """
    if not (folder / HELD).is_file():
        if any((folder / EDITS_FOLDER).glob("*.safetensors")):
            raise CheckpointError(f"{folder / HELD}: missing, so the edits beside it cannot be made")
        return None
    held, path, others = read_json(folder / HELD), folder / FACTS, folder / OUT_OF_SCOPE
    if held.get("format") != FORMAT or held.get("bank") != _bank(folder):
        raise CheckpointError(f"{folder / HELD}: is of another bank than the one beside it; run `mome tune` again")
    if not path.is_file() or file_sha256(path) != held.get("facts"):
        raise CheckpointError(f"{path}: missing, or not the facts that were saved with the adapter; restore it")
    follows = held.get("strangers") is not None
    if follows and (not others.is_file() or file_sha256(others) != held["strangers"]):
        raise CheckpointError(f"{others}: missing, or not what was saved with the adapter; restore it")
    try:
        facts = read_jsonl(path) if path.stat().st_size else []
        holdings = Holdings(facts, held["owners"], editable(backbone).router)
    except (FactError, EditError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not the facts of the adapter beside it ({error})") from error
    editor = Editor(backbone, holdings, load_journal(folder), out_of_scope=OutOfScope.load(others) if follows else None)
    editor.replay()
    return editor


def load_journal(folder: Path) -> Journal:
    """The edits of the adapter in `folder`, verified but not made.

    Raises:
        EditError: the adapter's facts are not known.
        CheckpointError: an edit is damaged or missing; the message names the file.
    """
    refuse_unknown(folder)
    return Journal(file_sha256(folder / HELD), folder / EDITS_FOLDER)


def refuse_unknown(folder: Path) -> None:
    """Raise EditError if the facts of the adapter in `folder` are not known."""
    if not (folder / HELD).is_file():
        raise EditError(UNKNOWN.format(folder=folder))


@contextmanager
def edits_on_disk(folder: Path, journal: Journal) -> Iterator[None]:
    """While the context lasts, write edits to the adapter in `folder`, whose lock the caller holds.

    Raises:
        EditError: there are edits that were made in memory alone.
        OSError: the folder is not writable.
    """
    (folder / EDITS_FOLDER).mkdir(exist_ok=True)
    sync(folder)
    with journal.on_disk():
        mark_edited(folder)
        yield


def _bank(folder: Path) -> str:
    return file_sha256(folder / BANK_MANIFEST)
