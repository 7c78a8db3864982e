"""The chat box of notebook 00: ask a memory, teach it a fact, take one back; a table where no user is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape

import ipywidgets
import pandas

from mome.facts.fact import Fact, identify
from mome.facts.strict import FactError
from mome.memory.answers import backbone_answers
from mome.memory.editing.holdings import EditError, UnknownFactError
from mome.memory.editing.journal import Edit
from mome.memory.memory import Memory
from mome.replication.notebook.front_end import button, shown

LONGEST = 12  # lines that stay on the screen
WIDE = {"width": "40em"}


def chat(memory: Memory, questions: Sequence[str]) -> ipywidgets.VBox | pandas.DataFrame:
    """A box to ask `memory`, to teach it and to take back; where no user is there, a table of answers to `questions`.

    The box has the first of them to be asked.
    """
    return shown(lambda: ChatBox(memory, questions[0]).view, conversation(memory, questions))


def conversation(memory: Memory, questions: Sequence[str]) -> pandas.DataFrame:
    """Each question, its answer, who gave it, and what the backbone says without the memory; raises FactError."""
    answers = memory.ask_all(questions, when_wrong="backbone")
    columns = {"question": list(questions), "answer": list(map(str, answers)), "from": [each.label for each in answers]}
    return pandas.DataFrame({**columns, "the backbone alone": backbone_answers(memory.backbone, list(questions))})


class ChatBox:
    """Two lines to write in, three buttons, and what was said so far, newest first; `view` is the widget.

    *Ask* answers `question`. *Teach* memorizes `answer` for it, in place of the answer that it has. *Take back* forgets
    the fact that has this question. What cannot be done is said in the box, and then nothing has changed.
    """

    def __init__(self, memory: Memory, question: str) -> None:
        self.memory = memory
        self.lines: list[str] = []
        self.question = ipywidgets.Text(value=question, description="question", layout=WIDE)
        self.answer = ipywidgets.Text(description="answer", placeholder="to be taught", layout=WIDE)
        acts = {"Ask": self.ask, "Teach": self.teach, "Take back": self.take_back}
        self.buttons = {text: button(text, act) for text, act in acts.items()}
        self.said = ipywidgets.HTML("Write a question and press <i>Ask</i>.")
        row = ipywidgets.HBox([*self.buttons.values()])
        self.view = ipywidgets.VBox([self.question, self.answer, row, self.said])

    def ask(self) -> None:
        """Answer the question in the box, and show what the backbone says to it without the memory."""
        try:
            told = conversation(self.memory, [self.question.value.strip()]).iloc[0].map(escape)
        except FactError as error:
            self._say(f"not asked: {escape(error.problem)}")
            return
        alone = told["the backbone alone"]
        beside = "" if told["answer"] == alone else f"; the backbone alone: {alone}"
        self._say(f"{told['question']} <b>{told['answer']}</b> ({told['from']}{beside})")

    def teach(self) -> None:
        """Memorize the answer in the box for the question in the box."""
        question, answer = self.question.value.strip(), self.answer.value.strip()
        try:
            edit = self._edit(question, answer)
        except (FactError, EditError) as error:
            self._say(f"not taught: {escape(str(error))}")
            return
        work = f"{edit.steps} steps, {edit.rows} rows of experts, {edit.seconds:.1f} s"
        self._say(f"taught ({work}): {escape(question)} <b>{escape(answer)}</b>")

    def _edit(self, question: str, answer: str) -> Edit:
        try:
            held = self.memory.find(question)
        except UnknownFactError:
            return self.memory.add(Fact(identify(question), question, answer))
        return self.memory.update(replace(held, answer=answer))

    def take_back(self) -> None:
        """Forget the fact that has the question in the box."""
        question = self.question.value.strip()
        try:
            edit = self.memory.delete(question)
        except EditError as error:
            self._say(f"not taken back: {escape(str(error))}")
            return
        self._say(f"taken back: {escape(question)} <s>{escape(str(edit.before))}</s>")

    def _say(self, line: str) -> None:
        """Put a line of HTML on top of what was said."""
        self.lines = [line, *self.lines][:LONGEST]
        self.said.value = "".join(f"<p>{each}</p>" for each in self.lines)
