"""The router's view of questions: the token states that it reads, and the query vectors that it makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.model import mome_model
from mome.adapter.router import Router, normalized
from mome.adapter.selection import Routes
from mome.lm.decoder import states_before
from mome.lm.encoding import encode_prompts
from mome.lm.losses import multiply_bf16

T = TypeVar("T")

BATCH_ROWS = 128  # questions at a time: bounds the memory of their padded states


@torch.no_grad()
def question_states(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[Tensor]:
    """The states [T, D] that the router reads of each question, asked in the tokenizer's prompt form."""
    mome = mome_model(model)
    assert mome is not None
    found: list[Tensor] = [torch.empty(0)] * len(questions)
    order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
    batches = parts(order)
    for chosen in tqdm(batches, desc="reading questions", unit="batch", leave=False, disable=len(batches) < 2):
        ids, mask, read = (
            each.to(mome.model.device) for each in encode_prompts(tokenizer, [questions[index] for index in chosen])
        )
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
        with mome.using(None), multiply_bf16(mask.device):
            states = states_before(mome.model, mome.read_layer, ids, mask, positions)
        for place, index in enumerate(chosen):
            found[index] = states[place, read[place]]
    return found


def normalized_states(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> list[Tensor]:
    """As `question_states`, `normalized`, f32."""
    states = question_states(model, tokenizer, questions)
    for place, each in enumerate(states):  # one by one, so that they are not held twice
        states[place] = normalized(each)
    return states


@torch.no_grad()
def question_queries(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> Tensor:
    """The router's query [n, key_size] f32 of each question."""
    mome = mome_model(model)
    assert mome is not None
    states = normalized_states(model, tokenizer, questions)
    return torch.cat([pooled_queries(mome.router, part) for part in parts(states)])


def question_routes(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str]) -> Routes:
    """The experts of each question, without those of rejected ones, as if each were asked by itself."""
    mome = mome_model(model)
    assert mome is not None
    return mome.router.route(question_queries(model, tokenizer, questions), questions)


def pooled_queries(router: Router, states: list[Tensor], dtype: torch.dtype = torch.float64) -> Tensor:
    """Queries [n, key_size] of unpadded states [T, D] that are `normalized`; `dtype` as for `Router.pooled`."""
    padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True)
    lengths = torch.tensor([len(each) for each in states], device=padded.device)
    return router.pooled(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None], dtype)


def parts(items: list[T]) -> list[list[T]]:
    """The items in lists of at most `BATCH_ROWS`, in order."""
    return [items[start : start + BATCH_ROWS] for start in range(0, len(items), BATCH_ROWS)]
