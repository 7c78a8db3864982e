"""The slider through the history rolls the memory to each state; without a user it is a table."""

from dataclasses import replace

import pandas
import pytest

from mome.facts.fact import Fact
from mome.memory.editing.journal import Edit
from mome.memory.memory import Memory
from mome.replication.paper.sec10_editing.history import HistoryBox, history_box


@pytest.fixture
def edits(memory: Memory, facts: list[Fact]) -> list[Edit]:
    """Two updates; the memory is back in the state before them."""
    before = len(memory.history())
    for fact, answer in zip(facts[:2], ("Quito", "Oslo"), strict=True):
        memory.update(replace(fact, answer=answer))
    made = memory.history()[before:]
    memory.rollback(0)
    return made


def test_without_a_user_it_is_a_table_of_the_edits(memory: Memory, edits: list[Edit]):
    table = history_box(memory, edits)
    assert isinstance(table, pandas.DataFrame) and table["after"].tolist() == ["Quito", "Oslo"]


def test_it_starts_before_the_first_edit_and_moves_nothing(memory: Memory, edits: list[Edit], facts: list[Fact]):
    count = len(memory.history())
    box = HistoryBox(memory, edits)
    assert len(memory.history()) == count
    assert box.answers()["answer now"].tolist() == [facts[0].answer, facts[1].answer]
    assert box.shown.value.startswith("<p>before the first edit: 0 of 0 edits")


def test_the_slider_goes_forward_and_back(memory: Memory, edits: list[Edit], facts: list[Fact]):
    box = HistoryBox(memory, edits)
    box.state.index = 2
    assert box.answers()["answer now"].tolist() == ["Quito", "Oslo"]
    assert box.shown.value.startswith("<p>after edit 2 (update): 2 of 2 edits")
    box.state.index = 1
    assert box.answers()["answer now"].tolist() == ["Quito", facts[1].answer]
    assert box.answers()["in force"].tolist() == ["yes", "no"]
    box.state.index = 0
    assert box.answers()["answer now"].tolist() == [facts[0].answer, facts[1].answer]


def test_an_edit_that_was_taken_back_before_the_next_one_is_not_in_force(memory: Memory, facts: list[Fact]):
    before = len(memory.history())
    memory.update(replace(facts[0], answer="Quito"))
    memory.rollback(0)
    memory.update(replace(facts[1], answer="Oslo"))
    made = [edit for edit in memory.history()[before:] if edit.kind == "update"]
    memory.rollback(0)
    box = HistoryBox(memory, made)
    box.state.index = 2
    assert box.answers()["in force"].tolist() == ["no", "yes"]
    assert box.shown.value.startswith("<p>after edit 2 (update): 1 of 1 edits in force")
