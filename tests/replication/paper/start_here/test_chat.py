"""The chat box asks, teaches and takes back; without a user it is a table."""

import pandas
import pytest

from mome.facts.fact import Fact
from mome.memory.memory import Memory
from mome.replication.paper.start_here.chat import LONGEST, ChatBox, chat


@pytest.fixture
def box(memory: Memory, facts: list[Fact]) -> ChatBox:
    return ChatBox(memory, facts[0].question)


def press(box: ChatBox, text: str, question: str | None = None, answer: str = "") -> str:
    """What the box says after its button was clicked."""
    box.question.value = box.question.value if question is None else question
    box.answer.value = answer
    box.buttons[text].click()
    return box.lines[0]


def test_without_a_user_it_is_a_table_of_answers(memory: Memory, facts: list[Fact]):
    table = chat(memory, [facts[0].question, "Who are you?"])
    assert isinstance(table, pandas.DataFrame)
    assert table["answer"].iloc[0] == facts[0].answer and table["from"].iloc[0].startswith("memorized")
    assert (
        table["from"].iloc[1].startswith("backbone") and table["answer"].iloc[1] == table["the backbone alone"].iloc[1]
    )


def test_it_asks_teaches_another_answer_and_takes_it_back(box: ChatBox, facts: list[Fact]):
    assert f"<b>{facts[0].answer}</b> (memorized" in press(box, "Ask")
    assert press(box, "Teach", answer="Quito").startswith("taught (")
    assert "<b>Quito</b> (memorized" in press(box, "Ask")
    assert box.memory.find(facts[0].question).phrasings == facts[0].phrasings
    assert press(box, "Take back") == f"taken back: {facts[0].question} <s>Quito</s>"
    assert "(backbone" in press(box, "Ask")
    assert not any(each.disabled for each in box.buttons.values())


def test_it_teaches_a_new_question(box: ChatBox):
    assert press(box, "Teach", "Who keeps the key?", "Ada").startswith("taught (")
    assert "<b>Ada</b> (memorized" in press(box, "Ask")


@pytest.mark.parametrize(
    ("text", "question", "answer", "said"),
    [
        ("Ask", "  ", "", "not asked: "),
        ("Teach", "Who keeps the key?", "", "not taught: "),
        ("Take back", "Who <b>keeps</b> the key?", "", "not taken back: "),
    ],
)
def test_what_cannot_be_done_is_said(box: ChatBox, text: str, question: str, answer: str, said: str):
    before = len(box.memory.history())
    line = press(box, text, question, answer)
    assert line.startswith(said) and len(line) > len(said) and "<b>" not in line
    assert len(box.memory.history()) == before and not box.buttons[text].disabled


def test_the_last_lines_stay(box: ChatBox):
    for place in range(LONGEST + 3):
        press(box, "Take back", f"Who is number {place}?")
    assert box.said.value.count("<p>") == LONGEST and f"number {LONGEST + 2}" in box.lines[0]
