"""Router and experts trained together on the answers: the ablation "router not frozen", and phase 1 as the paper says.

Each pass reads the prompts anew, and the router learns through the weights of the experts it picks: what a fact is
given may change from step to step. There are no anchors, no null key, and no states or routes computed ahead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import Bank
from mome.adapter.model import MomeModel, mome_model
from mome.facts.fact import Fact
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import Batch, answer_losses, collate, encode_question
from mome.train.optim import RowAdafactor, RowAdam
from mome.train.optim_trainer import MemoryOptimizer
from mome.train.progress import Progress, grouped
from mome.train.settings import MemorySettings, RouterSettings
from mome.train.states import by_length
from mome.train.tuning import TuningRun


@dataclass
class JointRun(TuningRun):
    """What joint training measured: `losses` [epochs, facts] f32, `worst` and `failed` as a `MemoryRun` has them.

    `kept` [epochs - 1] f32: of a fact's K experts, the share it also had one visit before, mean over the facts of each
    epoch from the second on (a frozen router keeps all: 1). `kept_at_end`: the share of its very first ones that it
    has in the last check. `visits`: training rows in all; `rounds`: checks.
    """

    worst: numpy.ndarray
    failed: list[str]
    visits: int
    rounds: int
    kept: numpy.ndarray
    kept_at_end: float


def train_jointly(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    settings: MemorySettings,
    router_learning_rate: float = 2e-4,
    repairs: int = 0,
) -> JointRun:
    """Train router and experts of a MoME model together until every fact's worst answer token was under its target.

    The ablation of phase 2 in which the router is not frozen; a fact leaves as there, but the router that the others
    still train also moves the experts of those that have left.

    Args:
        model: a PEFT model with a MoME adapter; its anchors and null key are dropped, its router frozen at the end.
        tokenizer: the model's tokenizer.
        facts: question and first `wordings` - 1 phrasings of each are tuned, all facts in one group.
        settings: when a fact is done, epochs, batch size, optimizer and learning rate of the rows, seed.
        router_learning_rate: of the router's AdamW; by default the paper's one rate (appendix A).
        repairs: how often facts that a check by their final routes finds disturbed are trained again, in place of
            `settings.repairs`; 0: the check only reports them.

    Raises:
        ValueError: no facts, no MoME adapter, a router that cannot learn, or augmentations, which need cached states.
        FloatingPointError: a loss became NaN or infinite.
    """
    mome = mome_model(model)
    if mome is None or not facts:
        raise ValueError("train_jointly: no facts" if mome else "train_jointly: the model has no MoME adapter")
    for name in ("prompt_dropout", "state_noise"):
        if getattr(settings, name):
            raise ValueError(f"train_jointly: {name} must be 0 here, got {getattr(settings, name)}")
    keep_freed_memory()
    mome.router.forget()
    mome.set_min_score(None)
    trainer = _Trainer(model, mome, tokenizer, facts, settings, router_learning_rate)
    progress = Progress.start(len(facts), len(facts))
    trainer.train(progress, repairs)
    failed = [facts[index].id for index in progress.failed]
    worst = numpy.asarray(progress.worst, dtype=numpy.float32)
    counts = progress.visits, progress.rounds
    kept = numpy.asarray(trainer.kept, dtype=numpy.float32), trainer.kept_at_end
    return JointRun(progress.curves(), progress.seconds, worst, failed, *counts, *kept)


def learn_from_answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact], settings: RouterSettings
) -> list[float]:
    """Phase 1 as the paper says: one epoch of training on the facts, which the router keeps and the experts do not.

    The paper does not say what becomes of the experts. Our reading: they are dropped, so that every b is zero when the
    phase ends; they live in a bank of their own, and the model's is never touched. Rows are trained as phase 2 trains
    them by default (only `learning_rate`, the router's, and `seed` are taken from `settings`).

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
        trainer = _Trainer(model, mome, tokenizer, facts, once, settings.learning_rate)
        progress = Progress.start(len(facts), len(facts))
        progress.next_group()
        with trainer.learning():
            trainer.epoch(progress)
    return trainer.losses


@contextmanager
def _passing_bank(mome: MomeModel) -> Iterator[None]:
    """Let the experts be untouched ones in memory while the context lasts; what they learn is lost."""
    kept = mome.bank
    mome.state.bank = Bank(kept.num_experts, kept.shapes, kept.rank, kept.dtype, kept.seed, init_scale=kept.init_scale)
    try:
        yield
    finally:
        mome.state.bank, mome.state.call.selection = kept, None


class _Trainer:
    """One run of joint training; `losses` by step, `kept` by epoch, `routes` [rows, K] at each row's last visit."""

    def __init__(
        self,
        model: Any,
        mome: MomeModel,
        tokenizer: PreTrainedTokenizerBase,
        facts: Sequence[Fact],
        settings: MemorySettings,
        router_learning_rate: float,
    ) -> None:
        if mome.settings.temperature is None:
            raise ValueError("MomeConfig: temperature must not be None for the router to learn from the answers")
        self.model, self.mome, self.padding, self.settings = model, mome, tokenizer.pad_token_id, settings
        asked = [(index, text) for index, fact in enumerate(facts) for text in _wordings(fact, settings.wordings)]
        self.encoded = [encode_question(tokenizer, text, facts[index].answer) for index, text in asked]
        self.owners = [index for index, _ in asked]
        self.rows_of: list[list[int]] = [[] for _ in facts]
        for row, owner in enumerate(self.owners):
            self.rows_of[owner].append(row)
        kind = RowAdam if settings.optimizer == "adam" else RowAdafactor
        router = torch.optim.AdamW(mome.router.parameters(), lr=router_learning_rate)
        self.optimizer = MemoryOptimizer(model, kind(mome.bank, settings.learning_rate), router)
        self.losses: list[float] = []
        self.kept: list[float] = []
        self.kept_at_end = 1.0
        self.routes = torch.full((len(self.encoded), mome.settings.top_k), -1)
        self.first_routes = self.routes

    @contextmanager
    def learning(self) -> Iterator[None]:
        """The router learns while the context lasts, and is frozen after it."""
        self.mome.router.requires_grad_(True)
        try:
            yield
        finally:
            self.optimizer.zero_grad()
            self.mome.router.requires_grad_(False)
            self.model.eval()

    def train(self, progress: Progress, repairs: int) -> None:
        """Epoch after epoch until all facts have left, then the check by their final routes."""
        bar = tqdm(total=len(self.rows_of), desc="memorizing, router not frozen", unit="fact", leave=False)
        with bar, self.learning():
            while not progress.finished:
                started = time.perf_counter()
                if progress.active:
                    self.epoch(progress)
                elif progress.queue:
                    progress.next_group()
                else:
                    self.check(progress, repairs)
                progress.seconds += time.perf_counter() - started
                bar.update(len(self.rows_of) - progress.remaining() - bar.n)
                bar.set_postfix(epoch=progress.epoch, check=progress.rounds)

    def epoch(self, progress: Progress) -> None:
        """Every active fact once, in a seeded order; those under their target leave."""
        generator = numpy.random.default_rng([self.settings.seed, progress.epochs_in_all])
        order = generator.permutation(progress.active).tolist()
        memorized: set[int] = set()
        before, visited = self.routes.clone(), []
        self.model.train()
        for facts in grouped(order, max(1, self.settings.batch_size // len(self.rows_of[order[0]]))):
            rows = [row for fact in facts for row in self.rows_of[fact]]
            visited += rows
            means, worst = self._step(rows)
            for fact in facts:
                places = [place for place, row in enumerate(rows) if self.owners[row] == fact]
                progress.losses[fact].append(float(means[places].mean()))
                if worst[places].max() < self.settings.target_loss:
                    memorized.add(fact)
        if progress.epochs_in_all:
            self.kept.append(_share_kept(before[visited], self.routes[visited]))
        else:
            self.first_routes = self.routes.clone()
        progress.visits += len(visited)
        progress.leave(memorized, self.settings.epochs)

    def _step(self, rows: list[int]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """One update on some rows; returns the mean and the worst token's loss of each [rows] before it."""
        batch = self._collate(rows)
        losses = answer_losses(self.model, batch)
        self.routes[rows] = self._chosen()
        means = losses.sum(dim=1) / batch.answer_mask.sum(dim=1)
        total = means.sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss became {total.item()}: lower the learning rate")
        total.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(total.item() / len(rows))
        return means.detach().cpu().numpy(), losses.detach().max(dim=1).values.cpu().numpy()

    @torch.no_grad()
    def check(self, progress: Progress, repairs: int) -> None:
        """Ask for all facts by the routes they have now; the disturbed ones re-enter, or have failed."""
        self.model.eval()
        worst, routes = numpy.zeros(len(self.rows_of)), self.routes.clone()
        for rows in by_length(range(len(self.encoded)), self.encoded):
            found = answer_losses(self.model, self._collate(rows)).max(dim=1).values.cpu().numpy()
            routes[rows] = self._chosen()
            numpy.maximum.at(worst, [self.owners[row] for row in rows], found)
        self.kept_at_end = _share_kept(self.first_routes, routes)
        disturbed = numpy.flatnonzero(worst > self.settings.repair_loss).tolist()
        progress.worst, progress.rounds = worst.tolist(), progress.rounds + 1
        retry = [fact for fact in disturbed if fact not in progress.failed]
        if retry and progress.rounds <= repairs:
            progress.queue = [retry]
        else:
            progress.failed, progress.finished = disturbed, True

    def _collate(self, rows: Sequence[int]) -> Batch:
        return collate([self.encoded[row] for row in rows], self.padding, self.mome.model.device)

    def _chosen(self) -> Tensor:
        """The experts [rows, K] of the last forward pass."""
        assert self.mome.selection is not None
        return self.mome.selection.routes.ids.cpu()


def _wordings(fact: Fact, count: int) -> list[str]:
    return [fact.question, *fact.phrasings][:count]


def _share_kept(before: Tensor, now: Tensor) -> float:
    """The mean share of the K experts of each row in `now` [rows, K] that are also in `before`."""
    return float((now[:, :, None] == before[:, None, :]).any(dim=2).double().mean())
