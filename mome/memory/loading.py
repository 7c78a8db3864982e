"""What was memorized can be asked for: an adapter and its backbone as one thing that answers, is saved and loaded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from warnings import catch_warnings, filterwarnings, simplefilter

from peft import PeftModel
from safetensors import SafetensorError

from mome.adapter.config import METHOD
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
from mome.facts.fact import LONGEST, Fact
from mome.facts.strict import check_text
from mome.files.locking import locked_folder
from mome.files.sealed import CheckpointError
from mome.lm.loading import Backbone, load_backbone
from mome.lm.round_trip import check_askable, holdable
from mome.memory.answers import answer_questions, undisturbed
from mome.memory.checking import Answer, WhenWrong, check_answers, check_choice
from mome.memory.editing.editor import Editor
from mome.memory.editing.holdings import EditError
from mome.memory.editing.journal import Edit
from mome.memory.editing.saving import edits_on_disk, load_editor, load_journal, refuse_unknown, save_memory

MOST_REPLACED = 5


@dataclass(frozen=True, slots=True)
class Memory:
    """A backbone with an adapter that has memorized facts; `report` says how that went, None if it was loaded.

    `editor` knows the facts and edits them; None: they are not known, or the adapter has no memory experts.
    """

    backbone: Backbone
    report: object = None
    editor: Editor | None = None

    def ask(self, question: str, when_wrong: WhenWrong = "abstain") -> Answer:
        """The answer to one question, as `ask_all` gives it; raises FactError (a ValueError) if it is empty."""
        return self.ask_all([question], when_wrong)[0]

    def ask_all(self, questions: Sequence[str], when_wrong: WhenWrong = "abstain") -> list[Answer]:
        """The answers to `questions`; those that resemble no memorized one are answered by the backbone alone.

        A question that is a memorized wording but for how it is typed (case, spaces, closing signs, full width, quotes,
        a greeting, thanks: `mome.facts.typing_key`) is read as that wording, and the answer names it. All others are
        the router's. What the experts say is held against the fact that the question was taken for: only the exact
        answer of that fact counts as memorized. Where they say something else, `when_wrong` decides what is given:
        "abstain" gives "I don't know", "backbone" what the backbone says by itself, "stored" the fact's answer, from
        the facts kept beside the adapter. Where these are not known, nothing can be checked (`memorized` is None).

        Raises:
            FactError: a question is empty, has white space around it, or is too long for the backbone; its line is its
                place in the list.
            ValueError: `when_wrong` is none of the three.
        """
        check_questions(questions)
        check_choice(when_wrong)
        check_askable(self.backbone, questions)
        holdings = None if self.editor is None else self.editor.holdings
        with undisturbed(self.backbone):
            read = list(questions) if holdings is None else [holdings.read_as(question) for question in questions]
            answers = check_answers(self.backbone, read, answer_questions(self.backbone, read), holdings, when_wrong)
        pairs = zip(answers, questions, read, strict=True)
        return [answer if asked == text else replace(answer, read_as=text) for answer, asked, text in pairs]

    @property
    def facts(self) -> list[Fact]:
        """The facts held now; raises EditError if they are not known."""
        return self._editor().facts

    def find(self, identity: str) -> Fact:
        """The fact of this id, or asked in this wording; raises UnknownFactError."""
        return self._editor().find(identity)

    def add(self, fact: Fact) -> Edit:
        """Memorize one fact more, in its question and all its phrasings; the others stay as they are.

        The fact is held once each wording is answered exactly by free generation, and so are the facts whose experts
        had to be trained along. An edit is made whole or not at all: after an error nothing has changed.

        Raises:
            EditError: the fact is held already, cannot be told from another one, or cannot be memorized beside others.
            FactError: a text of the fact is malformed, or nothing that the backbone can hold (`holdable`).
        """
        return self._editor_for(fact, replacing=False).add(fact)

    def update(self, fact: Fact) -> Edit:
        """Replace the fact of the same id, as `add` would memorize it; no wording gets the old answer any more.

        Raises:
            UnknownFactError: there is no fact of this id.
            EditError, FactError: as `add`.
        """
        return self._editor_for(fact, replacing=True).update(fact)

    def delete(self, identity: str) -> Edit:
        """Forget the fact of this id, or asked in this wording: its questions are the backbone's alone again.

        Raises:
            UnknownFactError: there is no such fact.
            EditError: the facts are not known.
        """
        return self._editor().delete(identity)

    def rollback(self, to: int) -> Edit:
        """Go back to the state after edit `to`, bit for bit; 0: before the first one. It is itself an edit.

        Raises:
            EditError: there is no edit of this number.
        """
        return self._editor().rollback(to)

    def history(self) -> list[Edit]:
        """All edits since the facts were memorized, or saved anew, oldest first."""
        return list(self._editor().journal.edits)

    def _editor_for(self, fact: Fact, replacing: bool) -> Editor:
        """The editor, once it is clear that it may take the fact, and that the backbone can hold it."""
        editor = self._editor()
        editor.holdings.check_new(fact, replacing)
        holdable(self.backbone, [fact], file="edit")
        return editor

    def _editor(self) -> Editor:
        if self.editor is None:
            raise EditError("nobody knows which facts this adapter holds, so none can be edited; memorize them anew")
        return self.editor

    def save(self, folder: str | Path) -> None:
        """Write the adapter in PEFT's format, with its bank of experts and a card, naming the backbone as it was given.

        The facts as they are now are written beside it: the history of edits starts anew from them. An adapter of ours
        in the folder is replaced in one act.

        Raises:
            AdapterError: the folder holds files that are not ours, or edits of the adapter there, or it is a mount
                point, the current folder or one above it.
            BusyError: another process is writing it (a ValueError).
            OSError: the folder cannot be written; what was there is untouched.
        """
        with undisturbed(self.backbone):
            save_memory(Path(folder), self.backbone, self.editor)


def load_memory(folder: str | Path, backbone: str | None = None) -> Memory:
    """Load an adapter that `mome tune` or `Memory.save` wrote, on the backbone it names or on the one given.

    Its edits are verified and made again. Later ones are made in memory; `edit_memory` writes them to the folder.

    Raises:
        AdapterError: the folder is not a whole adapter, or was trained on another backbone.
        CheckpointError: a file of the adapter, its facts or an edit is damaged, or missing.
        BackboneError: the backbone cannot be loaded.
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
    loaded = load_backbone(name)
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
    attached = Backbone(name, model.eval(), loaded.tokenizer)
    return Memory(attached, editor=load_editor(folder, attached) if config["peft_type"] == METHOD else None)


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another one in its place."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


@contextmanager
def edit_memory(folder: str | Path, backbone: str | None = None) -> Iterator[Memory]:
    """The saved adapter to edit: each edit is safe on disk when its call returns, and a killed process leaves it whole.

    Raises:
        AdapterError, CheckpointError, BackboneError: as `load_memory`.
        EditError: it has no memory experts, or its facts are not known.
        BusyError: another process is writing it (a ValueError).
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


def check_questions(questions: Sequence[str], file: str = "questions") -> None:
    """Refuse what is not a non-empty line of text; `file` is to be named.

    Raises:
        FactError: the first question that is not; its line is its place in the list.
    """
    for line, question in enumerate(questions, start=1):
        check_text(file, line, "question", question, LONGEST["question"])


def refuse_without_null_key(folder: Path) -> None:
    """Raise AdapterError for an adapter that takes every question for a memorized one."""
    if whole_adapter(folder).get("min_score") is None:
        raise AdapterError(f"{folder}: this adapter cannot tell memorized questions from others (no null key)")


def _first_lines(error: BaseException) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:2])
