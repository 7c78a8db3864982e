"""The log-likelihood of texts after a context, as lm-evaluation-harness defines it.

A context is read once for all that may follow it, and memory experts are chosen in that pass. If a choice were read
too, each choice would get experts of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mome.adapter.model import MomeModel, mome_model
from mome.adapter.selection import Routes
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import Encoded

BATCH_ROWS = 32

Tokens = tuple[int, ...]
Choices = dict[Tokens, list[int]]  # what follows a context -> the rows that ask for it
Part = tuple[int, int]  # start and stop of the tokens of a context by which experts are chosen


@dataclass(frozen=True, slots=True)
class Reading:
    """Contexts as a model has read them: `logits` [C, 1, V] behind each, KV cache, `mask` [C, T], experts chosen."""

    logits: Tensor
    cache: Any
    mask: Tensor
    routes: Routes | None


def longest_input(model: Any) -> int:
    """How many tokens the backbone reads at most."""
    return int(model.config.max_position_embeddings)


def encode_pair(tokenizer: PreTrainedTokenizerBase, context: str, continuation: str, longest: int) -> Encoded:
    """Tokenize context and continuation as one text; what the context alone does not cover is scored.

    White space at the context's end goes to the continuation.

    Raises:
        ValueError: the continuation has no token, or more than `longest`.
    """
    prompt_tokens = len(tokenizer(context.rstrip())["input_ids"])
    ids = tokenizer(context + continuation)["input_ids"]
    count = len(ids) - prompt_tokens
    if not 0 < count <= longest:
        raise ValueError(f"choice {continuation!r}: {count} tokens, must be 1 to {longest}")
    return Encoded(tuple(ids), count)


def fit(row: Encoded, longest: int) -> Encoded:
    """The row's end that a model reading `longest` tokens can score: it reads all but the last token."""
    cut = max(0, len(row.ids) - longest - 1)
    routed = row.routed and (max(0, row.routed[0] - cut), max(1, row.routed[1] - cut))
    return replace(row, ids=row.ids[cut:], routed=routed)


@torch.no_grad()
def log_likelihoods(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Encoded],
    batch_rows: int = BATCH_ROWS,
) -> tuple[list[float], list[bool] | None]:
    """Sum of the log-probabilities (nats) of each row's scored tokens, and whether memory experts answered.

    The model computes in its own dtype. Contexts are read together that have about `batch_rows` continuations in all;
    these are read `BATCH_ROWS` at a time, those of similar length together where there are more of them. Without
    memory experts the second is None.
    """
    keep_freed_memory()
    asked: dict[Tokens, Choices] = {}
    routed: dict[Tokens, Part] = {}
    for index, row in enumerate(rows):
        context = row.ids[: -row.answer_tokens]
        routed[context] = row.routed or (0, len(context))
        choices = asked.setdefault(context, {})
        choices.setdefault(row.ids[-row.answer_tokens :], []).append(index)
    totals, known = [0.0] * len(rows), [False] * len(rows)
    mome = _enabled(model)
    for contexts in tqdm([*_batches(asked, batch_rows)], desc="questions", unit="batch", leave=False):
        pairs = [(place, choice) for place, context in enumerate(contexts) for choice in asked[context]]
        parts = [routed[context] for context in contexts]
        found, answered = _score(model, mome, contexts, parts, pairs, int(tokenizer.pad_token_id or 0))
        for (place, choice), total in zip(pairs, found, strict=True):
            for index in asked[contexts[place]][choice]:
                totals[index], known[index] = total, answered[place]
    return totals, None if mome is None else known


def _batches(asked: Mapping[Tokens, Choices], batch_rows: int) -> Iterator[list[Tokens]]:
    """Contexts of similar length, with `batch_rows` choices in all; more only where a single context has more."""
    contexts: list[Tokens] = []
    count = 0
    for context in sorted(asked, key=len):
        if contexts and count + len(asked[context]) > batch_rows:
            yield contexts
            contexts, count = [], 0
        contexts.append(context)
        count += len(asked[context])
    if contexts:
        yield contexts


def _score(
    model: PreTrainedModel,
    mome: MomeModel | None,
    contexts: Sequence[Tokens],
    routed: Sequence[Part],
    pairs: Sequence[tuple[int, Tokens]],
    padding: int,
) -> tuple[list[float], list[bool]]:
    """The total of each pair of a context's place and what follows it; whether memory experts answered each context."""
    asked, mask = _padded(contexts, padding, model.device, left=True)
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    options: dict[str, Any] = {"attention_mask": mask, "position_ids": positions, "use_cache": True}
    if mome is not None:
        options["prompt_mask"] = _marks(routed, contexts, mask)
    read = model(input_ids=asked, logits_to_keep=1, **options)
    contexts_read = Reading(read.logits, read.past_key_values, mask, None if mome is None else _routes(mome))
    routes = contexts_read.routes
    answered = [False] * len(contexts) if routes is None else routes.weights.any(dim=1).tolist()
    totals = [0.0] * len(pairs)
    for chosen in _parts(pairs):
        found = _continued(model, mome, contexts_read, [pairs[index] for index in chosen], padding)
        for index, total in zip(chosen, found, strict=True):
            totals[index] = total
    return totals, answered


def _parts(pairs: Sequence[tuple[int, Tokens]]) -> list[list[int]]:
    """The places of the pairs that are read together; all of them where they are few, else those of similar length."""
    if len(pairs) <= BATCH_ROWS:
        return [[*range(len(pairs))]]
    order = sorted(range(len(pairs)), key=lambda index: len(pairs[index][1]))
    return [order[start : start + BATCH_ROWS] for start in range(0, len(order), BATCH_ROWS)]


def _continued(
    model: PreTrainedModel,
    mome: MomeModel | None,
    read: Reading,
    pairs: Sequence[tuple[int, Tokens]],
    padding: int,
) -> list[float]:
    """The total of each pair, after the contexts that were `read`, which stays as it is."""
    owners = torch.tensor([place for place, _ in pairs], device=read.mask.device)
    ids, scored = _padded([choice for _, choice in pairs], padding, model.device, left=False)
    scores = read.logits[owners].float().log_softmax(dim=-1)
    if ids.shape[1] > 1:
        cache = deepcopy(read.cache)
        cache.batch_select_indices(owners)
        known = read.mask[owners]
        start = known.sum(dim=1, keepdim=True)
        with _same_experts(mome, read.routes, owners):
            logits = model(
                input_ids=ids[:, :-1],
                attention_mask=torch.cat([known, scored[:, :-1]], dim=1),
                position_ids=start + torch.arange(ids.shape[1] - 1, device=ids.device),
                past_key_values=cache,
                use_cache=True,
            ).logits
        scores = torch.cat([scores, logits.float().log_softmax(dim=-1)], dim=1)
    tokens = scores.gather(2, ids[..., None]).squeeze(2).double()
    return (tokens * scored).sum(dim=1).tolist()


def _marks(routed: Sequence[Part], contexts: Sequence[Tokens], mask: Tensor) -> Tensor:
    """The tokens [B, T] bool of left-padded contexts by which experts are chosen."""
    places = torch.arange(mask.shape[1], device=mask.device)
    starts = [mask.shape[1] - len(context) for context in contexts]
    return torch.stack(
        [
            (places >= start + first) & (places < start + last)
            for start, (first, last) in zip(starts, routed, strict=True)
        ]
    )


def _padded(rows: Sequence[Tokens], padding: int, device: torch.device, *, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids and mask (1 = token) [B, T] int64."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), padding, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, place], mask[index, place] = torch.tensor(row), 1
    return ids.to(device), mask.to(device)


def _enabled(model: PreTrainedModel) -> MomeModel | None:
    """The memory experts of a model, None where it has none or they are switched off."""
    mome = mome_model(model)
    return mome if mome is not None and mome.state.working else None


def _routes(mome: MomeModel) -> Routes:
    assert mome.selection is not None
    return mome.selection.routes


def _same_experts(mome: MomeModel | None, routes: Routes | None, owners: Tensor) -> AbstractContextManager[None]:
    """What follows a context [R] runs with the experts of that context, `owners` [R]."""
    if mome is None or routes is None:
        return nullcontext()
    return mome.using(mome.select(Routes(routes.ids[owners], routes.weights[owners], routes.scores[owners])))
