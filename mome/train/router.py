"""Phase 1 of memory tuning (paper, section 7.1): the router learns which questions are paraphrases, and is frozen.

Every expert is still untouched when this phase ends, so the experts of unrelated prompts add nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import Bank
from mome.adapter.model import MomeModel, mome_model
from mome.adapter.queries import BATCH_ROWS, normalized_states, parts, pooled_queries
from mome.adapter.router import Router
from mome.facts.fact import Fact
from mome.lm.allocator import keep_freed_memory
from mome.train.fact_trainer import JointTrainer
from mome.train.progress import Progress
from mome.train.settings import MemorySettings, RouterSettings

REFRESH_STEPS = 50  # steps after which the most similar questions are looked up again
# queries in use are f64, to be the same in any batch; a step needs not be: 10.8 instead of 19.6 CPU s for 300 steps on
# 14,064 questions (AMD EPYC, one thread), and trained weights that differ by 3e-7 of their norm
STEP_DTYPE = torch.float32
ALIKE = 8  # similar questions that stand beside each other in a batch, the question itself included


@dataclass(frozen=True, slots=True)
class RouterReport:
    """The measurements of phase 1: the loss of each step, its time, and how evenly questions then use experts.

    `usage_entropy` is the entropy of the chosen experts, as a share of its largest value; `dead_experts` the share of
    all experts that no question chose; `collisions` the mean number of experts that two questions share. `queries`
    [facts, key_size] are those of the facts' questions.
    """

    losses: list[float]
    seconds: float
    usage_entropy: float
    dead_experts: float
    collisions: float
    queries: Tensor = field(repr=False, compare=False)


def train_router(
    model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], settings: RouterSettings
) -> RouterReport:
    """Train the router of a MoME model on the paraphrases of `facts` (not those to be memorized), and freeze it.

    Contrastive: a batch holds two paraphrases of each of `batch_size` questions, many of them similar; each paraphrase
    must find the other among all. The states that the router reads are computed once, as the backbone is frozen.
    Held-out paraphrases are never shown. Language: `learn_from_answers` on `facts`, here those to be memorized.

    Raises:
        ValueError: the model has no MoME adapter, or no fact has a paraphrase; fewer than two questions to whiten by.
    """
    mome = mome_model(model)
    if mome is None or not facts:
        raise ValueError("train_router: no facts" if mome else "train_router: the model has no MoME adapter")
    keep_freed_memory()
    # a router that learns nothing from the other paraphrases needs each fact's question alone
    every = settings.objective == "contrastive" or settings.spread
    wordings = [fact.wordings() if every else [fact.question] for fact in facts]
    flat = normalized_states(model, tokenizer, list(chain.from_iterable(wordings)))
    states = iter(flat)
    grouped = [[next(states) for _ in group] for group in wordings]
    started, losses = time.perf_counter(), []
    if settings.objective == "contrastive":
        losses = _contrast(mome.router, grouped, settings)
    elif settings.objective == "language":
        losses = learn_from_answers(model, tokenizer, facts, settings)
    queries = torch.cat([pooled_queries(mome.router, part) for part in parts(flat)])  # [all read, key_size]
    if settings.spread:
        if len(queries) < 2:
            raise ValueError("train_router: spread needs two questions or more, got 1")
        mome.router.spread(queries)
    mome.router.requires_grad_(False)
    # [facts], the place of each fact's question among all that were read
    firsts = torch.tensor([0, *numpy.cumsum([len(group) for group in wordings])[:-1].tolist()])
    queries = queries[firsts]  # [facts, key_size]
    return RouterReport(losses, time.perf_counter() - started, **usage(mome, queries), queries=queries.detach())


def usage(mome: MomeModel, queries: Tensor) -> dict[str, float]:
    """How evenly the questions of `queries` [n, key_size] use the experts; see `RouterReport`."""
    ids = torch.cat([mome.router.select(part)[0] for part in queries.split(BATCH_ROWS)])  # [n, K]
    counts = ids.flatten().unique(return_counts=True)[1].double()  # [chosen experts], questions of each
    shares, experts = counts / counts.sum(), mome.settings.num_experts
    largest = numpy.log(min(experts, ids.numel()))  # 0 where there is nothing to choose
    entropy = min(1.0, float(-(shares * shares.log()).sum() / largest)) if largest else 1.0
    pairs = len(queries) * (len(queries) - 1) / 2
    collisions = float((counts * (counts - 1) / 2).sum()) / pairs if pairs else 0.0
    return {"usage_entropy": entropy, "dead_experts": 1 - len(counts) / experts, "collisions": collisions}


def _contrast(router: Router, states: list[list[Tensor]], settings: RouterSettings) -> list[float]:
    """Pull two paraphrases of a question together, and push it away from the questions most similar to it so far."""
    paired = [wordings for wordings in states if len(wordings) > 1]
    if not paired:
        raise ValueError("train_router: no fact has a paraphrase to learn from; give some phrasings")
    if not settings.steps:
        return []
    router.requires_grad_(True)
    optimizer = torch.optim.AdamW(router.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps)
    generator, losses = numpy.random.default_rng(settings.seed), []
    bar = tqdm(range(settings.steps), desc="training the router", unit="step", leave=False)
    for step in bar:
        if step % REFRESH_STEPS == 0:
            alike = _most_alike(router, [wordings[0] for wordings in paired])
        pairs = _draw_pairs(paired, alike, settings.batch_size, generator)
        first, second = (pooled_queries(router, list(side), STEP_DTYPE) for side in zip(*pairs, strict=True))
        similarity = first @ second.T / settings.temperature  # [pairs, pairs], the diagonal: one question
        same = torch.arange(len(pairs), device=similarity.device)
        # each first paraphrase must find its second one, and the other way round
        loss = (functional.cross_entropy(similarity, same) + functional.cross_entropy(similarity.T, same)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        bar.set_postfix(loss=f"{loss.item():.3f}")
    return losses


@torch.no_grad()
def _most_alike(router: Router, states: list[Tensor]) -> list[list[int]]:
    """For each question the numbers of the questions with the most similar queries, the question itself first."""
    queries = torch.cat([pooled_queries(router, part, STEP_DTYPE) for part in parts(states)])  # [questions, key_size]
    count = min(ALIKE, len(queries))
    return [row for part in queries.split(BATCH_ROWS) for row in (part @ queries.T).topk(count, dim=1).indices.tolist()]


def _draw_pairs(
    states: list[list[Tensor]], alike: list[list[int]], count: int, generator: numpy.random.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Two paraphrases of each of `count` questions: some drawn at random, each with the most similar ones."""
    drawn: dict[int, None] = {}
    for question in generator.permutation(len(states)):
        drawn.update(dict.fromkeys([int(question), *alike[question]]))
        if len(drawn) >= count:
            break
    pairs = []
    for index in list(drawn)[:count]:
        one, other = generator.choice(len(states[index]), 2, replace=False)
        pairs.append((states[index][one], states[index][other]))
    return pairs


def learn_from_answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], settings: RouterSettings
) -> list[float]:
    """Phase 1 as the paper says: router and experts are trained on the facts for one epoch, and the router is kept.

    The paper does not say what happens to the experts. We drop them, so that every b is zero when the phase ends: they
    are trained in a temporary bank, and the model's own is never touched. Rows are trained with the default settings of
    phase 2 (only the router's `learning_rate` and `seed` are taken from `settings`).

    Returns:
        The mean loss (nats/token) of each step.

    Raises:
        ValueError: no facts, no MoME adapter, or a router that cannot learn from the answers.
        FloatingPointError: a loss became NaN or infinite.
    """
    mome = mome_model(model)
    if mome is None or not facts:
        raise ValueError("train_router: no facts" if mome else "train_router: the model has no MoME adapter")
    once = MemorySettings(epochs=1, seed=settings.seed)
    with _passing_bank(mome):
        trainer = JointTrainer(model, tokenizer, facts, once, settings.learning_rate)
        progress = Progress.start(len(facts), len(facts))
        progress.next_group()
        with trainer.learning():
            trainer.epoch(progress)
    return trainer.step_losses


@contextmanager
def _passing_bank(mome: MomeModel) -> Iterator[None]:
    """Replace the bank by a temporary one of untouched experts, while the context lasts."""
    kept = mome.bank
    mome.state.bank = Bank(kept.num_experts, kept.shapes, kept.rank, kept.dtype, kept.seed, init_scale=kept.init_scale)
    try:
        yield
    finally:
        mome.state.bank, mome.state.call.selection = kept, None
