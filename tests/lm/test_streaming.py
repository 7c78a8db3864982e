"""A streamed answer is the greedy one, in pieces that are never taken back."""

import copy
import types
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.lm.encoding import said
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.lm.prompts.form import choose_prompt
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
    tokenizer = copy.deepcopy(random_backbone.tokenizer)
    model, free = random_backbone.model, greedy_answers(random_backbone.model, tokenizer, [QUESTIONS[1]], 24)[0]
    choose_prompt(tokenizer, "qa")
    stream = Stream(tokenizer, lambda piece: None)
    stop = stream.stop = free[2:4]  # what it says anyway, in the place of a question
    seen = types.SimpleNamespace(tokens=0)

    class Counting(Stream):
        def put(self, value: torch.Tensor) -> None:
            super().put(value)
            seen.tokens = len(self.ids)

    counting = Counting(tokenizer, lambda piece: None)
    counting.stop = stop
    ids = torch.tensor([tokenizer(f"Q: {QUESTIONS[1]}\nA:")["input_ids"]])
    model.generate(
        input_ids=ids, max_new_tokens=24, do_sample=False, streamer=counting, stopping_criteria=[counting.ended]
    )
    written = tokenizer.decode(counting.ids, skip_special_tokens=True)
    assert stop in written and written.strip().index(stop) >= len(written.strip()) - len(stop) - 2
    assert seen.tokens < 24
