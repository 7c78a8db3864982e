"""Loading a saved adapter on its backbone, to ask it or to edit its facts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings, simplefilter

from peft import PeftModel
from safetensors import SafetensorError

from mome.adapter.config import METHOD
from mome.adapter.model import mome_model
from mome.adapter.saving.folder import (
    CONFIG,
    WEIGHTS,
    AdapterError,
    UnvouchedWarning,
    check_backbone,
    check_config,
    verify_adapter,
    whole_adapter,
)
from mome.adapter.saving.replacing import whole_folder
from mome.adapter.saving.storage import EditsWarning
from mome.files.locking import locked_folder
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone, load_backbone
from mome.lm.prompts.form import QA
from mome.memory.editing.holdings import EditError
from mome.memory.editing.journal import Edit
from mome.memory.editing.saving import edits_on_disk, load_editor, load_journal, refuse_unknown
from mome.memory.memory import Memory

MOST_REPLACED = 5  # times that another process may replace the folder while it is read


def load_memory(folder: str | Path, backbone: str | None = None) -> Memory:
    """Load an adapter that `mome tune` or `Memory.save` wrote, on the backbone it names or on the one given.

    The backbone is asked in the form that the adapter was trained with. Its edits are verified and repeated. Later
    edits stay in memory; with `edit_memory` they are written to the folder.

    Raises:
        AdapterError: the folder is not a whole adapter, or was trained on another backbone.
        CheckpointError: a file of the adapter, its facts or an edit is damaged, or missing.
        BackboneError: the backbone cannot be loaded.

    Example:
        >>> from mome import Fact, RouterSettings, load_memory, memorize
        >>> fact = Fact("1", "Who tends the lighthouse at Cape Eren?", "Ada Lind")
        >>> memory = memorize([fact], "tiny-llama", router=RouterSettings(objective="none"))  # untrained: quick
        >>> memory.save("adapter")
        >>> print(load_memory("adapter").ask(fact.question))
        Ada Lind
    """
    given = Path(folder)
    for _ in range(MOST_REPLACED):
        folder = whole_folder(given)
        before = _identity(folder)
        try:
            found = _load(folder, backbone)
        except (AdapterError, CheckpointError, OSError):
            if _identity(folder) == before:
                raise
        else:
            if _identity(folder) == before:
                return found
    raise AdapterError(f"{given}: was replaced {MOST_REPLACED} times while it was read; try again")


def _load(folder: Path, backbone: str | None) -> Memory:
    config = whole_adapter(folder)
    manifest = verify_adapter(folder)
    check_config(folder)
    name = backbone or config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise AdapterError(f"{folder / CONFIG}: names no backbone; say which one (--backbone)")
    loaded = load_backbone(name, prompt=QA if manifest is None else manifest["prompt"])
    try:
        with catch_warnings():
            simplefilter("ignore", EditsWarning)  # they are made below
            simplefilter("ignore", UnvouchedWarning)  # it was given above
            filterwarnings("error", "Found missing adapter keys")
            model: Any = PeftModel.from_pretrained(loaded.model, str(folder))
    except (AdapterError, CheckpointError, OSError):
        raise
    except UserWarning as error:
        raise AdapterError(f"{folder / WEIGHTS}: not the weights of this configuration ({error})") from error
    except (SafetensorError, KeyError) as error:
        raise AdapterError(f"{folder / WEIGHTS}: damaged ({error}); memorize again") from error
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError, re.error) as error:
        raise AdapterError(f"{folder}: does not fit the backbone {name!r}: {_first_lines(error)}") from error
    check_backbone(folder, manifest, model)
    if (mome := mome_model(model)) is not None:
        mome.read_words(loaded.tokenizer)
    attached = Backbone(name, model.eval(), loaded.tokenizer)
    return Memory(attached, editor=load_editor(folder, attached) if config["peft_type"] == METHOD else None)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode, which differ if another folder has taken this one's place; None if there is none."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def edit_memory(folder: str | Path, backbone: str | None = None) -> Iterator[Memory]:
    """A saved adapter, to be edited. An edit is on disk when its call returns; a kill never leaves half an edit.

    Raises:
        AdapterError, CheckpointError, BackboneError: as `load_memory`.
        EditError: the adapter has no memory experts, or its facts are not known.
        BusyError: another process is writing it (a ValueError).

    Example:
        >>> from mome import Fact, RouterSettings, edit_memory, load_memory, memorize
        >>> fact = Fact("1", "Who tends the lighthouse at Cape Eren?", "Ada Lind")
        >>> memory = memorize([fact], "tiny-llama", router=RouterSettings(objective="none"))  # untrained: quick
        >>> memory.save("adapter")
        >>> with edit_memory("adapter") as saved:
        ...     edit = saved.update(Fact("1", fact.question, "Bo Lind"))
        >>> print(load_memory("adapter").ask(fact.question))
        Bo Lind
    """
    folder = _editable(folder)
    with locked_folder(folder):
        memory = load_memory(folder, backbone)
        assert memory.editor is not None
        with edits_on_disk(folder, memory.editor.journal):
            yield memory


def read_history(folder: str | Path) -> list[Edit]:
    """The edits of a saved adapter, oldest first, without loading it.

    Raises:
        AdapterError: the folder is not a whole adapter.
        EditError: it has no memory experts, or its facts are not known.
        CheckpointError: a file of the adapter or an edit is damaged or missing.
    """
    folder = _editable(folder)
    verify_adapter(folder)
    return load_journal(folder).edits


def _editable(folder: str | Path) -> Path:
    """The folder of a whole adapter with memory experts whose facts are known."""
    found = whole_folder(Path(folder))
    if whole_adapter(found)["peft_type"] != METHOD:
        raise EditError(f"{folder}: only memory experts can be edited, this adapter has none")
    refuse_unknown(found)
    return found


def refuse_without_null_key(folder: Path) -> None:
    """Raise AdapterError for an adapter that takes every question for a memorized one."""
    if whole_adapter(folder).get("min_score") is None:
        raise AdapterError(f"{folder}: this adapter cannot tell memorized questions from others (no threshold)")


def _first_lines(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
