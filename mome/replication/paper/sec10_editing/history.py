"""The history of edits of notebook 16: a slider through the states of a memory; a table where no user is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import ipywidgets
import pandas

from mome.memory.editing.journal import Edit
from mome.memory.memory import Memory
from mome.replication.notebook.front_end import shown, table_html

COLUMNS = ["kind", "question", "before", "after", "steps", "rows", "repaired", "seconds"]
LAST = 4  # edits of each kind in the table


def history_box(memory: Memory, edits: Sequence[Edit]) -> ipywidgets.VBox | pandas.DataFrame:
    """A slider that rolls `memory` to the state after each of `edits`; where no user is there, the last edits."""
    return shown(lambda: HistoryBox(memory, edits).view, history_table(edits))


def history_table(edits: Sequence[Edit]) -> pandas.DataFrame:
    """What the last edits of each kind did: `rows` of the bank written in `steps` updates; `repaired` other facts."""
    return pandas.DataFrame([asdict(edit) for edit in edits])[COLUMNS].groupby("kind").tail(LAST).round(2)


class HistoryBox:
    """A slider over the states of a memory, and what it answers in the chosen one; `view` is the widget.

    Moving it rolls the memory back, or forward again, bit for bit; each move is itself an entry of its history. When
    the box is made, the memory stands before the first edit.
    """

    def __init__(self, memory: Memory, edits: Sequence[Edit]) -> None:
        self.memory, self.edits = memory, list(edits)
        titles = [("before the first edit", 0)]
        titles += [(f"after edit {place} ({edit.kind})", edit.number) for place, edit in enumerate(edits, start=1)]
        looks = {"readout": False, "layout": {"width": "40em"}}  # beside the slider the name of a state would be cut
        self.state = ipywidgets.SelectionSlider(options=titles, description="state", continuous_update=False, **looks)
        self.shown = ipywidgets.HTML()
        self.state.observe(self._roll, "value")
        self._show()
        self.view = ipywidgets.VBox([self.state, self.shown])

    def answers(self) -> pandas.DataFrame:
        """Each edit's question with what the memory answers now, and whether the edit is in force."""
        questions = [str(edit.question) for edit in self.edits]
        now = [str(each) for each in self.memory.ask_all(questions, when_wrong="backbone")]
        assert self.memory.editor is not None
        force = self.memory.editor.journal.path(self.state.value)
        made = ["yes" if edit.number in force else "no" for edit in self.edits]
        columns = {"question": questions, "edited to": [edit.after for edit in self.edits], "answer now": now}
        return pandas.DataFrame({"in force": made, **columns})

    def _roll(self, _: object = None) -> None:
        self.memory.rollback(self.state.value)
        self._show()

    def _show(self) -> None:
        table = self.answers()
        right = (table["edited to"] == table["answer now"])[table["in force"] == "yes"]
        told = f"{self.state.label}: {right.sum()} of {len(right)} edits in force are answered"
        self.shown.value = f"<p>{told}</p>{table_html(table)}"
