"""Encoding: questions and answers become padded batches of tokens.

Everything that trains or scores goes through this one encoding: prompt and answer are tokenized apart and joined, rows
are padded on the left, so the last columns hold the answers of all rows and generation continues where they start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.prompts.form import History, prompt_form
from mome.lm.prompts.frame import prompt_ids, routed_part


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one text; the last `answer_tokens` of them (end of sequence included) are scored.

    A question is routed by the tokens `routed` (memory experts; start and stop); None: by all that are not scored.
    """

    ids: tuple[int, ...]
    answer_tokens: int
    routed: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Left-padded rows: `ids`, `mask` [B, T] int64 (1 = token); A is the longest answer.

    `prompt` [B, T] bool marks the tokens by which experts are chosen, `answer_mask` [B, A] bool the answers' tokens.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    prompt: torch.Tensor
    answer_mask: torch.Tensor
    answer_tokens: int

    @property
    def positions(self) -> torch.Tensor:
        """Position of each token in its own row [B, T] int64, 0 on padding."""
        return (self.mask.cumsum(dim=1) - 1).clamp_min(0)


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str) -> Encoded:
    """Encode a text with special tokens, then " answer" and the end of sequence without."""
    return _joined(tokenizer, tokenizer(prompt)["input_ids"], f" {answer}")


def encode_question(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Encoded:
    """Encode a question in the tokenizer's prompt form with its answer."""
    (ids,) = prompt_ids(tokenizer, [question])
    return _joined(tokenizer, ids, answer_text(tokenizer, answer), routed_part(tokenizer, len(ids)))


def _joined(
    tokenizer: PreTrainedTokenizerBase, prompt: list[int], answer: str, routed: tuple[int, int] | None = None
) -> Encoded:
    answer_ids = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return Encoded(tuple(prompt + answer_ids), len(answer_ids), routed or (0, len(prompt)))


def answer_text(tokenizer: PreTrainedTokenizerBase, answer: str) -> str:
    """The answer as it follows the prompt."""
    return prompt_form(tokenizer).gap + answer


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], history: History = ()
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Questions in the tokenizer's prompt form, padded on its side, each after the turns of `history`.

    Returns:
        Token ids [B, T] int64, the mask of real tokens [B, T] int64 (1 = token), and which of these the router reads
        [B, T] bool.
    """
    rows = [torch.tensor(row) for row in prompt_ids(tokenizer, questions, history)]
    routed = [torch.zeros_like(row, dtype=torch.bool) for row in rows]
    for marks in routed:
        start, stop = routed_part(tokenizer, len(marks))
        marks[start:stop] = True
    side, filling = tokenizer.padding_side, tokenizer.pad_token_id
    # Padded here: a tokenizer that is told to pad keeps that as its state, which threads would take from each other.
    ids, mask, read = (
        torch.nn.utils.rnn.pad_sequence(parts, True, value, side)
        for parts, value in ((rows, filling), ([torch.ones_like(row) for row in rows], 0), (routed, False))
    )
    return ids, mask, read


def said(tokenizer: PreTrainedTokenizerBase, tokens: Any) -> list[str]:
    """The answers in generated tokens (rows of ids, a list or [B, T]): their text without special tokens.

    An answer ends where another question or answer begins (`PromptForm.stops`). Outer white space is no part of it.
    """
    form = prompt_form(tokenizer)
    return [form.cut(text).strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]


def collate(rows: Sequence[Encoded], padding: int, device: torch.device | str = "cpu") -> Batch:
    """Pad rows on the left to one [B, T] batch; `answer_mask` [B, A] marks real answer tokens in the last A columns."""
    width, answers = max(len(row.ids) for row in rows), max(row.answer_tokens for row in rows)
    ids = torch.full((len(rows), width), padding, dtype=torch.int64)
    mask, prompt = torch.zeros_like(ids), torch.zeros(len(rows), width, dtype=torch.bool)
    answer_mask = torch.zeros(len(rows), answers, dtype=torch.bool)
    for index, row in enumerate(rows):
        start = width - len(row.ids)
        ids[index, start:] = torch.tensor(row.ids)
        mask[index, start:] = 1
        first, last = (0, len(row.ids) - row.answer_tokens) if row.routed is None else row.routed
        prompt[index, start + first : start + last] = True
        answer_mask[index, answers - row.answer_tokens :] = True
    return Batch(ids.to(device), mask.to(device), prompt.to(device), answer_mask.to(device), answers)


def answer_ids(tokenizer: PreTrainedTokenizerBase, fact: Fact) -> tuple[int, ...]:
    """The ids of the fact's answer tokens, end of sequence included."""
    row = encode_question(tokenizer, fact.question, fact.answer)
    return row.ids[-row.answer_tokens :]
