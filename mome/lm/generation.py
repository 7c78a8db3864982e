"""Measures of what a model knows: free greedy answers, losses, a quiz, and intervals over facts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy
import torch
from scipy import stats
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import Encoded, answer_losses, collate, encode_prompts, encode_question, multiply_bf16, said

ABSTENTIONS = ("", "i don't know", "i do not know", "unknown", "i have no comment")
BATCH_ROWS = 128
SPARE_TOKENS = 4  # an answer that goes on behind the right one is seen to be wrong


@dataclass(frozen=True, slots=True)
class QuizItem:
    """A question with four answers of the same relation; `correct` is the index of the right one."""

    question: str
    choices: tuple[str, ...]
    correct: int


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over `n` facts (counted over all runs) with its 95% interval."""

    mean: float
    low: float
    high: float
    n: int


@torch.no_grad()
def greedy_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], longest: int = 40
) -> list[str]:
    """The model's free greedy answer to each question (no teacher forcing): one line, at most `longest` tokens."""
    answers: list[str] = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
    for start in range(0, len(order), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        texts = _generated(model, tokenizer, [questions[index] for index in chosen], longest, do_sample=False)
        for index, text in zip(chosen, texts, strict=True):
            answers[index] = text
    return answers


@torch.no_grad()
def drawn_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    longest: int,
    seed: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_rows: int = BATCH_ROWS,
) -> list[str]:
    """One answer to each question, drawn token by token: one line, at most `longest` tokens.

    Drawn at `temperature` (above 0) from the likeliest tokens that make up `top_p` of the probability. The draws depend
    on `seed` and on how many questions are asked at a time, `batch_rows`.
    """
    answers: list[str] = []
    drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(questions), batch_rows):
            answers += _generated(model, tokenizer, questions[start : start + batch_rows], longest, **drawing)
    return answers


def _generated(
    model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], longest: int, **drawing: Any
) -> list[str]:
    """What the model says to a batch of questions, each its first line."""
    ids, mask = (each.to(model.device) for each in encode_prompts(tokenizer, questions))
    with multiply_bf16(model.device):
        tokens = model.generate(
            input_ids=ids,
            attention_mask=mask,
            repetition_penalty=1.0,  # a chat model's own settings may hold another
            max_new_tokens=longest,
            pad_token_id=tokenizer.pad_token_id,
            **drawing,
        )
    return said(tokenizer, tokens[:, ids.shape[1] :])


def exact(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], *, held_out: bool = False
) -> list[bool]:
    """Whether each fact's greedy answer is exactly the gold one; `held_out` asks in its first held-out wording.

    Generation ends `SPARE_TOKENS` after the longest gold answer of `facts`.
    """
    questions = [fact.held_out[0] if held_out else fact.question for fact in facts]
    longest = SPARE_TOKENS + max(encode_question(tokenizer, fact.question, fact.answer).answer_tokens for fact in facts)
    answers = greedy_answers(model, tokenizer, questions, longest)
    return [answer == fact.answer for answer, fact in zip(answers, facts, strict=True)]


def hallucinated(answers: Sequence[str], facts: Sequence[Fact]) -> list[bool]:
    """Whether each answer is a confident wrong one: neither the gold answer nor an abstention."""
    return [
        answer != fact.answer and answer.strip(" .").lower() not in ABSTENTIONS
        for answer, fact in zip(answers, facts, strict=True)
    ]


@torch.no_grad()
def fact_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]
) -> list[numpy.ndarray]:
    """Loss in nats of every answer token of every fact (float32 [answer tokens], end of sequence included)."""
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    return _losses(model, tokenizer, rows)


@torch.no_grad()
def text_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> list[float]:
    """Mean loss in nats/token of the whole text (question and answer) of each fact in its first held-out wording."""
    rows = [encode_question(tokenizer, fact.held_out[0], fact.answer) for fact in facts]
    whole = [replace(row, answer_tokens=len(row.ids) - 1) for row in rows]
    return [float(losses.mean()) for losses in _losses(model, tokenizer, whole)]


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
    totals = [float(losses.sum()) for losses in _losses(model, tokenizer, rows)]
    starts = numpy.cumsum([0, *(len(item.choices) for item in items)])
    picks = [int(numpy.argmin(totals[start:stop])) for start, stop in pairwise(starts)]
    return [pick == item.correct for pick, item in zip(picks, items, strict=True)]


def interval(runs: Sequence[Sequence[float]], resamples: int = 2_000, seed: int = 0) -> Interval:
    """The mean of per-fact values over several runs (seeds, backbones), with a 95% bootstrap interval.

    Runs are drawn with replacement, then the facts inside each drawn run (percentile bootstrap); of a single run only
    the facts are drawn. Where all values are equal a bootstrap says nothing: shares of 0 or 1 over facts then get the
    exact binomial (Clopper-Pearson) interval, other values a width of zero.
    """
    groups = [numpy.asarray(run, dtype=float) for run in runs]
    values = numpy.concatenate(groups)
    mean = float(numpy.mean([group.mean() for group in groups]))
    if values.min() == values.max():
        of_facts = mean in (0.0, 1.0) and len(values) > len(groups)
        low, high = _exact_share(values) if of_facts else (mean, mean)
        return Interval(mean, low, high, len(values))
    generator = numpy.random.default_rng(seed)

    def resampled_mean(chosen: numpy.ndarray) -> float:
        drawn = (groups[index][generator.integers(len(groups[index]), size=len(groups[index]))] for index in chosen)
        return float(numpy.mean([group.mean() for group in drawn]))

    single = len(groups) == 1
    result = stats.bootstrap(
        (groups[0] if single else numpy.arange(len(groups)),),
        numpy.mean if single else resampled_mean,
        n_resamples=resamples,
        method="percentile",
        vectorized=False,
        rng=generator,
    ).confidence_interval
    return Interval(mean, min(float(result.low), mean), max(float(result.high), mean), len(values))


def _exact_share(values: numpy.ndarray) -> tuple[float, float]:
    share = stats.binomtest(int(values.sum()), len(values)).proportion_ci(0.95, method="exact")
    return float(share.low), float(share.high)


def _losses(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoded]) -> list[numpy.ndarray]:
    """Answer-token losses of each row, computed in batches of rows of similar length."""
    found: list[numpy.ndarray] = [numpy.empty(0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    for start in range(0, len(order), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        batch = collate([rows[index] for index in chosen], tokenizer.pad_token_id, model.device)
        losses = answer_losses(model, batch).float().cpu().numpy()
        for place, index in enumerate(chosen):
            found[index] = losses[place, losses.shape[1] - rows[index].answer_tokens :]
    return found
