"""The trainer of router and experts together, for the ablation `joint` and for phase 1 on the language objective."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.model import MomeModel
from mome.facts.fact import Fact
from mome.lm.encoding import Batch, collate, encode_question
from mome.lm.losses import answer_losses
from mome.train.optim import MemoryOptimizer, RowAdafactor, RowAdam
from mome.train.progress import Progress, grouped
from mome.train.settings import MemorySettings
from mome.train.states import by_length


class FactTrainer:
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
        asked = [(index, text) for index, fact in enumerate(facts) for text in fact.wordings(settings.wordings)]
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
        """Unfreeze the router while the context lasts."""
        self.mome.router.requires_grad_(True)
        try:
            yield
        finally:
            self.optimizer.zero_grad()
            self.mome.router.requires_grad_(False)
            self.model.eval()

    def train(self, progress: Progress, repairs: int) -> None:
        """Train epoch after epoch until no fact is active, then check all facts by the experts they have at the end."""
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
        """Train every active fact once, in a seeded order. Facts under their target loss are done."""
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
        losses = answer_losses(self.model, batch)  # [rows, A], 0 beyond a row's answer
        self.routes[rows] = self._chosen()
        means = losses.sum(dim=1) / batch.answer_mask.sum(dim=1)  # [rows]
        # the sum, not the mean: a row's gradient then does not depend on how many other facts are in the batch
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
        """Measure all facts with the experts they have now. Disturbed facts are trained again, or have failed."""
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


def _share_kept(before: Tensor, now: Tensor) -> float:
    """The mean share of the K experts of each row in `now` [rows, K] that are also in `before`."""
    return float((now[:, :, None] == before[:, None, :]).any(dim=2).double().mean())
