"""`Memory`: a backbone with its adapter, as one object that answers questions, is edited and saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mome.facts.fact import Fact
from mome.facts.records import LONGEST
from mome.facts.strict import check_text
from mome.lm.loading import Backbone
from mome.lm.prompts.form import History
from mome.lm.round_trip import check_askable, holdable
from mome.memory.answers import answer_questions, undisturbed
from mome.memory.checking import Answer, WhenWrong, check_answers, check_choice
from mome.memory.editing.editor import Editor
from mome.memory.editing.holdings import EditError
from mome.memory.editing.journal import Edit
from mome.memory.editing.saving import save_memory


@dataclass(frozen=True, slots=True)
class Memory:
    """A backbone with an adapter that has memorized facts; `report` says how that went, None if it was loaded.

    `editor` knows the facts and edits them; None: they are not known, or the adapter has no memory experts.

    Example:
        >>> from mome import Fact, RouterSettings, memorize
        >>> fact = Fact("1", "Who tends the lighthouse at Cape Eren?", "Ada Lind")
        >>> memory = memorize([fact], "tiny-llama", router=RouterSettings(objective="none"))  # untrained: quick
        >>> edit = memory.update(Fact("1", fact.question, "Bo Lind"))
        >>> print(memory.ask(fact.question))
        Bo Lind
        >>> print(memory.ask("Who paints the boats at Cape Eren?").memorized)
        False
    """

    backbone: Backbone
    report: object = None
    editor: Editor | None = None

    def ask(self, question: str, when_wrong: WhenWrong = "abstain", history: History = ()) -> Answer:
        """The answer to one question, as `ask_all` gives it; raises FactError (a ValueError) if it is empty."""
        return self.ask_all([question], when_wrong, history)[0]

    def ask_all(
        self, questions: Sequence[str], when_wrong: WhenWrong = "abstain", history: History = ()
    ) -> list[Answer]:
        """The answers to `questions`; those that resemble no memorized one are answered by the backbone alone.

        A question that differs from a memorized wording only in typing (case, spaces, closing signs, full width,
        quotes, a greeting, thanks: `mome.facts.typing_key`) is read as that wording, and the answer names it. For all
        others the router decides. The experts' answer is compared with the recognized fact: only its exact answer
        counts as memorized. If they generate something else, `when_wrong` decides what is given: "abstain" gives
        "I don't know", "backbone" the backbone's own answer, "stored" the fact's answer, from the facts kept beside
        the adapter. If these are not known, nothing can be compared (`memorized` is None).

        `history` are earlier turns, (question, answer): the backbone answers after them. Memorized questions are
        recognized and answered as if each were the first.

        Raises:
            FactError: a question is empty, has white space around it, or is too long for the backbone; its line is its
                place in the list.
            ValueError: `when_wrong` is none of the three.
        """
        check_questions(questions)
        check_choice(when_wrong)
        check_askable(self.backbone, questions, history=history)
        holdings = None if self.editor is None else self.editor.holdings
        with undisturbed(self.backbone):
            read = list(questions) if holdings is None else [holdings.read_as(question) for question in questions]
            said = answer_questions(self.backbone, read, history=history)
            answers = check_answers(self.backbone, read, said, holdings, when_wrong, history)
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
        """Memorize one more fact, in its question and all its paraphrases; the other facts stay as they are.

        The edit is accepted once free generation answers each wording exactly, and also those of the facts whose
        experts had to be trained too. It is made as a whole or not at all: after an error nothing has changed.

        Raises:
            EditError: the fact is held already, cannot be told from another one, or cannot be memorized beside others.
            FactError: a text of the fact is malformed, or nothing that the backbone can hold (`holdable`).
        """
        return self._editor_for(fact, replacing=False).add(fact)

    def update(self, fact: Fact) -> Edit:
        """Replace the fact of the same id, memorized as by `add`. No wording gets the old answer any more.

        Raises:
            UnknownFactError: there is no fact of this id.
            EditError, FactError: as `add`.
        """
        return self._editor_for(fact, replacing=True).update(fact)

    def delete(self, identity: str) -> Edit:
        """Forget the fact of this id, or with this wording. The backbone alone answers its questions again.

        Raises:
            UnknownFactError: there is no such fact.
            EditError: the facts are not known.
        """
        return self._editor().delete(identity)

    def rollback(self, to: int) -> Edit:
        """Go back to the state after edit `to`, bit for bit; 0: before the first one. A rollback is itself an edit.

        Raises:
            EditError: there is no edit of this number.
        """
        return self._editor().rollback(to)

    def history(self) -> list[Edit]:
        """All edits since the facts were memorized, or saved anew, oldest first."""
        return list(self._editor().journal.edits)

    def _editor_for(self, fact: Fact, replacing: bool) -> Editor:
        """The editor, after a check that it may take the fact and that the backbone can hold it."""
        editor = self._editor()
        editor.holdings.check_new(fact, replacing)
        holdable(self.backbone, [fact], file="edit")
        return editor

    def _editor(self) -> Editor:
        if self.editor is None:
            raise EditError("the facts of this adapter are not known, so none can be edited; memorize them anew")
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


def check_questions(questions: Sequence[str], file: str = "questions") -> None:
    """Refuse what is not a non-empty line of text; `file` is to be named.

    Raises:
        FactError: the first question that is not; its line is its place in the list.
    """
    for line, question in enumerate(questions, start=1):
        check_text(file, line, "question", question, LONGEST["question"])
