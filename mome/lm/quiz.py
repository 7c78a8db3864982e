"""A quiz: four-choice questions made from facts, and which of them a model answers right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import encode_question
from mome.lm.losses import row_losses


@dataclass(frozen=True, slots=True)
class QuizItem:
    """A question with four answers of the same relation; `correct` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    correct: int


def make_quiz(facts: Sequence[Fact], pool: Sequence[Fact], seed: int) -> list[QuizItem]:
    """Four-choice questions: each fact's answer among three other answers of its relation, drawn from `pool`.

    Facts of relations with fewer than four distinct answers are left out.
    """
    answers: dict[str, set[str]] = {}
    for fact in pool:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    generator = numpy.random.default_rng(seed)
    items = []
    for fact in facts:
        others = sorted(answers.get(fact.relation, set()) - {fact.answer})
        if len(others) >= 3:
            choices = [*generator.choice(others, 3, replace=False).tolist(), fact.answer]
            order = generator.permutation(4)
            items.append(QuizItem(fact.question, tuple(choices[i] for i in order), int(numpy.argmax(order == 3))))
    return items


@torch.no_grad()
def quiz_correct(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[QuizItem]) -> list[bool]:
    """Whether the choice with the highest total log-probability is the right one, for each item."""
    rows = [encode_question(tokenizer, item.question, choice) for item in items for choice in item.choices]
    totals = [float(losses.sum()) for losses in row_losses(model, tokenizer, rows)]
    starts = numpy.cumsum([0, *(len(item.choices) for item in items)])
    picks = [int(numpy.argmin(totals[start:stop])) for start, stop in pairwise(starts)]
    return [pick == item.correct for pick, item in zip(picks, items, strict=True)]
