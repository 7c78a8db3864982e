"""A question that differs from a memorized one in its typing alone is read as that one; what may be another is not."""

from pathlib import Path

import pytest
from tiny_editing import make_memory

from mome.facts.fact import Fact
from mome.facts.typing_key import typing_key, without_courtesies
from mome.lm.loading import Backbone
from mome.memory.memory import Memory

PUMP = "Where's Ada's bicycle pump?"
ELEMENT, FIRM = Fact("element", "Which number has Co?", "27"), Fact("firm", "Which number has CO?", "303")


@pytest.mark.parametrize(
    "typed",
    [
        "where's ada's bicycle pump",
        "WHERE'S ADA'S BICYCLE PUMP?!",
        "  Where's   Ada\u2019s\tbicycle\u00a0pump ?",
        "\u201cWhere\u2019s Ada\u2019s bicycle pump?\u201d",
        "Wheres Adas bicycle pump...",
        "\uff37here's Ada's bicycle pump\uff1f",
        "\u00bfWhere's Ada's (bicycle) pump?",
    ],
)
def test_typing_is_taken_away(typed: str) -> None:
    assert typing_key(typed) == typing_key(PUMP) == "wheres adas bicycle pump"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is C?", "What is C++?"),
        ("What is C#?", "What is C?"),
        ("Who won in 3.5?", "Who won in 35?"),
        ("What is NET?", "What is .NET?"),
        ("How warm is -5?", "How warm is 5?"),
        ("What is 10\u00b2?", "What is 102?"),
        ("Who is Ren\u00e9?", "Who is Rene?"),
    ],
)
def test_what_may_be_another_question_stays_another(one: str, other: str) -> None:
    assert typing_key(one) != typing_key(other)


@pytest.mark.parametrize("typed", ["Hi, {}", "Hello there! {}", "Good evening, {} Thank you.", "{} Thx!", "please {}"])
def test_greetings_and_courtesies_are_no_part_of_a_question(typed: str) -> None:
    assert without_courtesies(typing_key(typed.format(PUMP))) == typing_key(PUMP)


@pytest.fixture(scope="module")
def memory(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """Eight facts, and two that only their case tells apart."""
    return make_memory(random_backbone, backbone_folder, [*facts, ELEMENT, FIRM])


def test_a_question_typed_otherwise_is_answered_as_the_memorized_one(memory: Memory, facts: list[Fact]) -> None:
    for fact in facts[:3]:
        answer = memory.ask(f"Hello, {fact.question.upper()}")
        assert answer.memorized and (answer.text, answer.fact) == (fact.answer, fact.id)
        assert answer.read_as == fact.question and memory.ask(fact.question).read_as is None


def test_wordings_that_only_their_typing_tells_apart_are_read_as_they_stand(memory: Memory) -> None:
    held = memory.editor.holdings  # type: ignore[union-attr]
    for fact in (ELEMENT, FIRM):
        assert held.read_as(fact.question) == fact.question
        assert held.read_as(fact.question.replace(" has", "  has")) == fact.question
    assert held.read_as("which number has co") == "which number has co"  # either fact could be meant
    assert held.read_as("???") == "???"


def test_a_deleted_question_is_read_no_more(memory: Memory, facts: list[Fact]) -> None:
    fact = facts[-1]
    memory.delete(fact.id)
    held = memory.editor.holdings  # type: ignore[union-attr]
    assert held.read_as(fact.question.lower()) == fact.question.lower()
    memory.rollback(0)
    assert held.read_as(fact.question.lower()) == fact.question
