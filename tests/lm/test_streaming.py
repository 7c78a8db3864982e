"""A streamed answer is the greedy one, in pieces that are never taken back."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.lm.encoding import said
from mome.lm.generation import generated, greedy_answers
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QA, with_prompt
from mome.lm.streaming import Stream, streamed_answer

HISTORY = [("Who wrote Emma?", "Jane Austen")]
QUESTIONS = ("Who?", "What is the capital of Peru?", "When was Emma published?")


def streamed(tokenizer: Any, ids: list[int]) -> list[str]:
    """The pieces of a generation of these tokens."""
    pieces: list[str] = []
    stream = Stream(tokenizer, pieces.append)
    stream.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for token in ids:
        stream.put(torch.tensor([token]))
    stream.end()
    return pieces


@pytest.mark.parametrize("history", [[], HISTORY])
@pytest.mark.parametrize("question", QUESTIONS)
def test_it_is_the_greedy_answer(random_backbone: Backbone, question: str, history: list) -> None:
    pieces: list[str] = []
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    answer = streamed_answer(model, tokenizer, question, 24, history, pieces.append)
    assert [answer] == greedy_answers(model, tokenizer, [question], 24, history)
    assert "".join(pieces) == answer and (len(pieces) > 1 or len(answer) < 2)


@given(st.text(alphabet="aQ:\n é東🗼", max_size=12))
@settings(max_examples=60, deadline=None)
def test_pieces_join_to_the_answer_whatever_the_tokens_are(random_backbone: Backbone, text: str) -> None:
    tokenizer = random_backbone.tokenizer
    ids = tokenizer(f" {text}", add_special_tokens=False)["input_ids"]
    pieces = streamed(tokenizer, [*ids, tokenizer.eos_token_id])
    assert "".join(pieces) == said(tokenizer, [ids])[0]
    assert all(pieces)


def test_what_may_become_another_question_is_held_back(random_backbone: Backbone) -> None:
    tokenizer = random_backbone.tokenizer
    pieces: list[str] = []
    stream = Stream(tokenizer, pieces.append)
    stream.put(torch.tensor([[1]]))
    for part, shown in ((" Lima", "Lima"), ("\n", "Lima"), ("Q", "Lima"), (":", "Lima")):
        for token in tokenizer(part, add_special_tokens=False)["input_ids"]:
            stream.put(torch.tensor([token]))
        assert "".join(pieces) == shown
    stream.end()
    assert "".join(pieces) == "Lima"


def test_generation_ends_where_another_question_begins(random_backbone: Backbone) -> None:
    free = greedy_answers(random_backbone.model, random_backbone.tokenizer, [QUESTIONS[1]], 24)[0]
    tokenizer = with_prompt(random_backbone.tokenizer, replace(QA, stops=(free[2:4],)))  # what it says anyway
    seen: list[list[int]] = []

    class Counting(Stream):
        def end(self) -> None:
            super().end()
            seen.append(self.ids)

    stream = Counting(tokenizer, lambda piece: None)
    options = {"do_sample": False, "streamer": stream, "stopping_criteria": [stream.ended]}
    (answer,) = generated(random_backbone.model, tokenizer, [QUESTIONS[1]], 24, (), **options)
    assert answer == QA.cut(free)[: free.index(free[2:4])].strip() and len(seen[0]) < 24
