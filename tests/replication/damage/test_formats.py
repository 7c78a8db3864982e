"""Formats, and answers in them."""

from typing import Any

import pytest
import torch

from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QA, with_prompt
from mome.lm.prompts.frame import prompt_ids
from mome.replication.damage.formats import PROSE, answers_in, free_formats, known_formats
from mome.replication.damage.sets import Item

TEMPLATE = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
ITEMS = [Item("1", "Where is Lima?"), Item("2", "Who?"), Item("3", "What is the capital of Peru and of Mali?")]


@pytest.fixture
def chatting(backbone: Backbone) -> Any:
    """The random backbone's tokenizer with a chat template, in which it is asked."""
    tokenizer = with_prompt(backbone.tokenizer, "qa")
    tokenizer.chat_template = TEMPLATE
    return with_prompt(tokenizer, "chat")


def test_a_backbone_without_a_template_has_three_formats(backbone: Backbone) -> None:
    found = free_formats(backbone.tokenizer)
    assert list(found) == ["tuned_format", "bare", "prose"]
    assert found["tuned_format"] == QA
    assert list(known_formats(backbone.tokenizer)) == ["qa", "question_answer"]


def test_a_chat_model_is_asked_in_the_other_format_too(chatting: Any) -> None:
    found = free_formats(chatting)
    assert list(found) == ["tuned_format", "chat", "qa", "bare", "prose"]
    assert found["tuned_format"] == found["chat"] != found["qa"]
    assert list(known_formats(chatting)) == ["qa", "chat", "question_answer"]


def test_prose_ends_where_the_answer_should_come_and_is_read_whole(backbone: Backbone) -> None:
    tokenizer = with_prompt(backbone.tokenizer, PROSE)
    (ids,) = prompt_ids(tokenizer, ["Where is Lima?"])
    assert list(ids) == tokenizer(PROSE.before + "Where is Lima?" + PROSE.after)["input_ids"]
    assert PROSE.after.endswith('answered: "') and PROSE.whole


def test_answers_are_those_of_greedy_generation_in_each_format(backbone: Backbone) -> None:
    formats = free_formats(backbone.tokenizer)
    table = answers_in(backbone.model, backbone.tokenizer, ITEMS, formats, 5)
    assert table["item"].tolist() == ["1", "2", "3"] * 3
    for name, form in formats.items():
        wanted = greedy_answers(backbone.model, with_prompt(backbone.tokenizer, form), [item.text for item in ITEMS], 5)
        assert table.loc[table["format"] == name, "answer"].tolist() == wanted


def test_a_format_with_two_names_is_asked_once(
    backbone: Backbone, chatting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    generate = backbone.model.generate
    monkeypatch.setattr(backbone.model, "generate", lambda **given: calls.append(1) or generate(**given))
    torch.manual_seed(0)
    table = answers_in(backbone.model, chatting, ITEMS, free_formats(chatting), 3)
    assert len(calls) == 4
    answers = {name: part["answer"].tolist() for name, part in table.groupby("format")}
    assert answers["tuned_format"] == answers["chat"]
