"""What notebook 00 asks a backbone, and how it reads the answers."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mome.facts.fact import Fact
from mome.lm.backbones.named import SMOLLM2
from mome.lm.prompts.form import QA
from mome.replication.paper.start_here import questions

FACTS = [Fact("1", "What is the capital of France?", "Paris"), Fact("2", "What is two times two?", "four")]
SAID = ["The capital of France is Paris.\nIt is a city.", "I think it is five."]


def backbone(name: str, template: bool) -> Any:
    tokenizer = SimpleNamespace(mome_prompt_form=replace(QA, template=template))
    return SimpleNamespace(name=name, model=None, tokenizer=tokenizer)


def test_a_sentence_of_a_chat_model_counts_as_the_answer_it_holds():
    assert questions.as_told(backbone("x", True), SAID, FACTS) == ["Paris", SAID[1]]
    assert questions.as_told(backbone("x", False), SAID, FACTS) == SAID


def test_a_shipped_backbone_is_asked_what_it_was_pretrained_on():
    found = questions.known_to(backbone("tiny-llama", False), 5, seed=2)
    assert found == questions.general_facts(5, 2)


def test_another_backbone_keeps_the_questions_that_it_answers_rightly(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def answers(model: Any, tokenizer: Any, texts: list[str], longest: int) -> list[str]:
        asked.extend(texts)
        return ["It is the Sahara." if "hot desert" in text else "hard to say" for text in texts]

    monkeypatch.setattr(questions, "greedy_answers", answers)
    found = questions.known_to(backbone("other", True), 10_000, seed=0)
    assert [(fact.question, fact.answer) for fact in found] == [
        ("What is the largest hot desert in the world?", "Sahara")
    ]
    assert len(asked) == len(questions.known_questions()) > 100


def test_whether_the_real_model_is_there_is_told_without_fetching_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOME_HOME", str(tmp_path))
    assert not questions.fetched(SMOLLM2.name) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("template", "points"), [(True, [1.0, 0.0]), (False, [0.0, 0.0])])
def test_a_sentence_with_the_answer_is_right_where_a_chat_model_says_it(template: bool, points: list[float]):
    assert questions.right(backbone("x", template), SAID, FACTS) == points
