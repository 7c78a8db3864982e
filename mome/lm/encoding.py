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

PROMPT = "Q: {question}\nA:"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one text; the last `answer_tokens` of them (end of sequence included) are scored.

    A question is routed by its first `prompt_tokens` (memory experts); None: by all that are not scored.
    """

    ids: tuple[int, ...]
    answer_tokens: int
    prompt_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Left-padded rows: `ids`, `mask` [B, T] int64 (1 = token), `prompt` [B, T] bool; A is the longest answer."""

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
    """Encode a prompt with special tokens, then " answer" and the end of sequence without."""
    prompt_ids = tokenizer(prompt)["input_ids"]
    answer_ids = tokenizer(f" {answer}", add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return Encoded(tuple(prompt_ids + answer_ids), len(answer_ids), len(prompt_ids))


def encode_question(tokenizer: PreTrainedTokenizerBase, question: str, answer: str) -> Encoded:
    """Encode a question in the `PROMPT` form with its answer."""
    return encode(tokenizer, PROMPT.format(question=question), answer)


def encode_prompts(tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (1 = token) [B, T] int64 of questions in the `PROMPT` form, padded on the tokenizer's side.

    Padded here: a tokenizer that is told to pad keeps that as its state, which threads would take from each other.
    """
    found = tokenizer([PROMPT.format(question=question) for question in questions])
    rows = []
    for ids, mask in zip(found["input_ids"], found["attention_mask"], strict=True):
        rows.append(torch.tensor(ids)[torch.tensor(mask).bool()])  # padded where another thread said so
    marks = [torch.ones_like(row) for row in rows]
    padded = [
        torch.nn.utils.rnn.pad_sequence(parts, True, filling, tokenizer.padding_side)
        for parts, filling in ((rows, tokenizer.pad_token_id), (marks, 0))
    ]
    return padded[0], padded[1]


def said(tokenizer: PreTrainedTokenizerBase, tokens: Any) -> list[str]:
    """The text of generated tokens (rows of ids, a list or [B, T]), up to the first line break, no special tokens."""
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return [text.strip().split("\n")[0].strip() for text in texts]


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
        asked = len(row.ids) - row.answer_tokens if row.prompt_tokens is None else row.prompt_tokens
        prompt[index, start : start + asked] = True
        answer_mask[index, answers - row.answer_tokens :] = True
    return Batch(ids.to(device), mask.to(device), prompt.to(device), answer_mask.to(device), answers)


def answer_ids(tokenizer: PreTrainedTokenizerBase, fact: Fact) -> tuple[int, ...]:
    """The ids of the fact's answer tokens, end of sequence included."""
    row = encode_question(tokenizer, fact.question, fact.answer)
    return row.ids[-row.answer_tokens :]
