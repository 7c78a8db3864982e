"""Generated answers, greedy or sampled, and whether they are exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import encode_prompts, encode_question, said
from mome.lm.losses import BATCH_ROWS, multiply_bf16, reads_prompts
from mome.lm.prompts.form import History

ABSTENTIONS = ("", "i don't know", "i do not know", "unknown", "i have no comment")
SPARE_TOKENS = 4  # beyond the gold answer, so that an answer that goes on after it is counted as wrong


@torch.no_grad()
def greedy_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    longest: int = 40,
    history: History = (),
) -> list[str]:
    """The model's free greedy answer to each question (no teacher forcing), of at most `longest` tokens.

    Each is asked in the tokenizer's prompt form, after the turns of `history`. An answer ends as `said` says.
    """
    answers: list[str] = [""] * len(questions)
    order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
    for start in range(0, len(order), BATCH_ROWS):
        chosen = order[start : start + BATCH_ROWS]
        texts = generated(model, tokenizer, [questions[index] for index in chosen], longest, history, do_sample=False)
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
    """One answer to each question, drawn token by token, of at most `longest` tokens.

    Drawn at `temperature` (above 0) from the likeliest tokens that make up `top_p` of the probability. The draws depend
    on `seed` and on how many questions are asked at a time, `batch_rows`.
    """
    answers: list[str] = []
    drawing = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(questions), batch_rows):
            answers += generated(model, tokenizer, questions[start : start + batch_rows], longest, (), **drawing)
    return answers


def generated(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    longest: int,
    history: History,
    **options: Any,
) -> list[str]:
    """The model's answers to a batch of questions; `options` go to transformers' `generate`."""
    ids, mask, read = (each.to(model.device) for each in encode_prompts(tokenizer, questions, history))
    routing = {"prompt_mask": read} if reads_prompts(model) else {}
    with multiply_bf16(model.device):
        tokens = model.generate(
            input_ids=ids,
            attention_mask=mask,
            repetition_penalty=1.0,  # a chat model's own settings may hold another
            max_new_tokens=longest,
            pad_token_id=tokenizer.pad_token_id,
            **routing,
            **options,
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
