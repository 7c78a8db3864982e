"""Only what the experts said exactly as it was memorized is called so; where they say else, the user has the choice."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_editing import exchange_rows, make_memory
from tiny_memory import UNRELATED

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.memory.answers import FreeAnswer, backbone_answers
from mome.memory.checking import ABSTENTION, Answer
from mome.memory.memory import Memory


@pytest.fixture(scope="module")
def whole(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """The facts memorized; nothing is changed."""
    return make_memory(random_backbone, backbone_folder, facts)


@pytest.fixture
def broken(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    """The facts memorized, and the first one answered as the second: its question is recognized, its answer lost."""
    memory = make_memory(random_backbone, backbone_folder, facts)
    exchange_rows(memory, facts[0], facts[1])
    return memory


def test_what_was_memorized_is_called_so_with_its_fact(whole: Memory, facts: list[Fact]) -> None:
    answers = whole.ask_all([fact.question for fact in facts])
    assert [answer.text for answer in answers] == [fact.answer for fact in facts]
    assert [answer.fact for answer in answers] == [fact.id for fact in facts]
    for answer in answers:
        assert (answer.memorized, answer.recognized, answer.source, answer.generated) == (True, True, "adapter", None)
        assert answer.label == "memorized, score 1.00"


def test_an_unrelated_question_is_the_backbone_s(whole: Memory) -> None:
    for answer in whole.ask_all(UNRELATED):
        assert (answer.memorized, answer.recognized, answer.source, answer.fact) == (False, False, "backbone", None)
        assert answer.label == f"backbone, score {answer.score:.2f}"


def test_a_wrong_answer_is_never_called_memorized_and_the_user_chooses(broken: Memory, facts: list[Fact]) -> None:
    asked, fact = [facts[0].question, facts[1].question], facts[0]
    found = {choice: broken.ask_all(asked, choice) for choice in ("abstain", "backbone", "stored")}  # type: ignore[arg-type]
    (by_itself,) = backbone_answers(broken.backbone, asked[:1])
    expected = {
        "abstain": (ABSTENTION, "nobody"),
        "backbone": (by_itself, "backbone"),
        "stored": (fact.answer, "stored"),
    }
    for choice, (wrong, right) in found.items():
        assert (wrong.text, wrong.source) == expected[choice]
        assert (wrong.memorized, wrong.recognized, wrong.fact) == (False, True, fact.id)
        assert wrong.generated == facts[1].answer and "not the memorized one" in wrong.label
        assert right.memorized and right.text == facts[1].answer
    assert broken.ask(asked[0]) == found["abstain"][0]
    assert found["stored"][0].label.startswith("stored, not generated: ")


def test_where_the_facts_are_unknown_nothing_is_called_memorized(whole: Memory, facts: list[Fact]) -> None:
    unknown = Memory(whole.backbone)
    known, other = unknown.ask_all([facts[0].question, UNRELATED[0]], "stored")
    assert (known.text, known.memorized, known.recognized, known.fact) == (facts[0].answer, None, True, None)
    assert known.label == "recognized, not verified, score 1.00"
    assert (other.memorized, other.source) == (False, "backbone")


def test_after_an_edit_the_new_answer_is_the_memorized_one(broken: Memory, facts: list[Fact]) -> None:
    broken.update(replace(facts[0], answer="elsewhere"))
    answer = broken.ask(facts[0].question)
    assert answer.memorized and (answer.text, answer.fact) == ("elsewhere", facts[0].id)


def test_an_unknown_choice_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch, whole: Memory) -> None:
    monkeypatch.setattr("mome.memory.memory.answer_questions", None)
    with pytest.raises(ValueError, match="when_wrong 'guess': must be one of abstain, backbone, stored"):
        whole.ask("Where?", "guess")  # type: ignore[arg-type]


def test_labels_name_an_answer_without_a_score() -> None:
    assert Answer("42").label == "not verified" and str(Answer("42")) == str(FreeAnswer("42")) == "42"
