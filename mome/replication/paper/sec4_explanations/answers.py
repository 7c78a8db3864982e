"""Answers of tuned models under each cause of section 4: free answers, hallucinations, the loss of the right one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy

from mome.adapter.model import mome_model
from mome.adapter.queries import question_routes
from mome.facts.fact import Fact
from mome.lm.encoding import answer_ids
from mome.lm.generation import SPARE_TOKENS, drawn_answers, greedy_answers, hallucinated
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses
from mome.replication.paper.sec4_explanations.conditions import ABSTAINING, MOME, Asked


def measure_answers(backbone: Backbone, asked: Asked, count: int, model: str, seed: int) -> Iterator[dict[str, Any]]:
    """Ask, and count hallucinations; memory experts get a second row, abstaining where they recognise no question.

    Columns: cause, model, times (each of `count` facts was asked), wrong (how often each was hallucinated, separated
    by spaces), rival (share of answers that are the wrong one training offered), recognised (share of questions; memory
    experts only), asked_loss (mean nats of the right answer where it was asked), certain (share of questions with a
    right answer each of whose tokens has a probability above 1/2), certain_wrong (share hallucinated among all, though
    certain; greedy answers only).
    """
    tuned, tokenizer = backbone.model, backbone.tokenizer
    questions = [fact.question for fact in asked.facts]
    losses = fact_losses(tuned, tokenizer, asked.facts)
    certain = numpy.array([tokens.max() < math.log(2) for tokens in losses])
    answers = free_answers(backbone, asked, seed)  # sample by sample, all facts in each
    wrong = _wrong(answers, asked.facts)
    known = _recognised(tuned, tokenizer, questions)
    rival = numpy.array([answers[place] == text for place, text in enumerate(asked.rivals)])
    numbers = {
        "times": wrong.size // count,
        "recognised": float(known.mean()) if model == MOME else float("nan"),
        "asked_loss": float(numpy.mean([tokens.sum() for tokens in losses])),
        "certain": float(certain.mean()),
        "certain_wrong": float((wrong[0] & certain).mean()) if asked.temperature == 0 else float("nan"),
    }
    for title, found in ((model, wrong), (ABSTAINING, wrong & known)):
        if title == model or model == MOME:
            share = float((rival & found[0]).mean()) if len(rival) else float("nan")
            yield {"cause": asked.cause, **numbers, "model": title, "rival": share, "wrong": _packed(found, count)}


def free_answers(backbone: Backbone, asked: Asked, seed: int) -> list[str]:
    """`asked.samples` answers to each question, all questions before the next sample; greedy at temperature 0."""
    model, tokenizer = backbone.model, backbone.tokenizer
    questions = [fact.question for fact in asked.facts] * asked.samples
    longest = max(len(answer_ids(tokenizer, fact)) for fact in asked.facts) + SPARE_TOKENS
    if asked.temperature == 0:
        return greedy_answers(model, tokenizer, questions, longest)
    return drawn_answers(model, tokenizer, questions, longest, seed, temperature=asked.temperature, top_p=asked.top_p)


def _wrong(answers: Sequence[str], facts: Sequence[Fact]) -> numpy.ndarray:
    """Whether each answer is a hallucination: bool [samples, questions]."""
    repeats = len(answers) // len(facts)
    return numpy.array(hallucinated(answers, [*facts] * repeats)).reshape(repeats, len(facts))


def _packed(wrong: numpy.ndarray, count: int) -> str:
    return " ".join(str(int(number)) for number in wrong.reshape(-1, count).sum(axis=0))


def _recognised(model: Any, tokenizer: Any, questions: Sequence[str]) -> numpy.ndarray:
    """Whether each question resembles a memorized one (memory experts), else True: bool [questions]."""
    if mome_model(model) is None:
        return numpy.ones(len(questions), dtype=bool)
    found: numpy.ndarray = question_routes(model, tokenizer, questions).weights.any(dim=1).numpy()
    return found
