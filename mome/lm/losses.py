"""Losses of answer tokens, for training and for measuring."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy
import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import Batch, Encoded, collate, encode_question


def multiply_bf16(device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in bf16 with f32 accumulation, as the paper's appendix A trains; everything else stays f32."""
    return torch.autocast(device.type, dtype=torch.bfloat16)


def reads_prompts(model: Any) -> bool:
    """Whether the model chooses memory experts for each row by its prompt."""
    return getattr(model, "reads_prompt_mask", False)


def prompt_inputs(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """What the model takes beside the tokens: `prompt_mask` [B, T] bool where it `reads_prompts`, else nothing."""
    return {"prompt_mask": batch.prompt} if reads_prompts(model) else {}


def answer_logits(
    model: Any,
    batch: Batch,
    columns: int | None = None,
    states: torch.Tensor | None = None,
    attended: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logits [B, columns, V] of each row's last `columns` tokens, given those before them (None: all answer tokens).

    A shorter answer stands on the right: `batch.answer_mask` [B, A] marks the columns that count. `states` [B, T, D]
    replaces the tokens' embeddings; `attended` [B, T] int64 replaces the batch's mask.
    """
    inputs = {"input_ids": batch.ids} if states is None else {"inputs_embeds": states}
    with multiply_bf16(batch.ids.device):
        logits: torch.Tensor = model(
            **inputs,
            **prompt_inputs(model, batch),
            attention_mask=batch.mask if attended is None else attended,
            position_ids=batch.positions,
            use_cache=False,
            # one column more, as the logits at a token predict the next one; the last column predicts beyond the row
            logits_to_keep=(batch.answer_tokens if columns is None else columns) + 1,
        ).logits
    return logits[:, :-1]


def token_losses(
    model: Any,
    batch: Batch,
    columns: int,
    states: torch.Tensor | None = None,
    attended: torch.Tensor | None = None,
) -> torch.Tensor:
    """Next-token loss in nats [B, columns] f32 of the last `columns` tokens of each row; the rest as `answer_logits`.

    `columns` must be below T.
    """
    logits = answer_logits(model, batch, columns, states, attended)
    targets = batch.ids[:, -columns:]
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def answer_losses(
    model: PreTrainedModel, batch: Batch, states: torch.Tensor | None = None, attended: torch.Tensor | None = None
) -> torch.Tensor:
    """Loss of the answer tokens in nats [B, A] f32, 0 where a row's answer is shorter than A."""
    return token_losses(model, batch, batch.answer_tokens, states, attended) * batch.answer_mask


BATCH_ROWS = 128


@torch.no_grad()
def fact_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]
) -> list[numpy.ndarray]:
    """Loss in nats of every answer token of every fact (float32 [answer tokens], end of sequence included)."""
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    return row_losses(model, tokenizer, rows)


@torch.no_grad()
def text_loss(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> list[float]:
    """Mean loss in nats/token of the whole text (question and answer) of each fact in its first held-out wording."""
    rows = [encode_question(tokenizer, fact.held_out[0], fact.answer) for fact in facts]
    whole = [replace(row, answer_tokens=len(row.ids) - 1) for row in rows]
    return [float(losses.mean()) for losses in row_losses(model, tokenizer, whole)]


def row_losses(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoded]
) -> list[numpy.ndarray]:
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
