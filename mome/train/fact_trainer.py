"""The trainer of facts: epochs in groups until each answer's worst token is certain enough, then a check of all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import Bank
from mome.adapter.model import mome_model
from mome.adapter.selection import Selection
from mome.facts.fact import Fact
from mome.lm.decoder import without_layers
from mome.lm.encoding import Batch, Encoded, encode_question
from mome.lm.losses import answer_losses
from mome.train.optim import MemoryOptimizer, RowAdafactor, RowAdam, RowOptimizer
from mome.train.progress import Progress, grouped
from mome.train.settings import MemorySettings
from mome.train.states import FactStates, by_length

Watch = Callable[[Progress], None]


class FactLosses:
    """Losses of the training rows of facts: each fact's wordings, every one with the answer.

    A subclass says which experts the rows use (`select`); the rows' states must be loaded before `losses`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        encoded: Sequence[Encoded],
        owners: Sequence[int],
        settings: MemorySettings,
    ) -> None:
        mome = mome_model(model)
        assert mome is not None
        self.model, self.mome, self.settings = model, mome, settings
        self.encoded, self.owners = encoded, owners  # by row; an owner is the number of a fact
        self.rows_of: list[list[int]] = [[] for _ in range(max(owners) + 1)]
        for row, owner in enumerate(owners):
            self.rows_of[owner].append(row)
        self.states = FactStates(mome, encoded, tokenizer.pad_token_id, settings)

    def select(self, rows: Sequence[int]) -> Selection:
        """The experts of some rows."""
        raise NotImplementedError

    def losses(self, rows: Sequence[int], generator: numpy.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of each answer token [rows, A] (nats, 0 where an answer is shorter), its mean in each row [rows], and
        the sum of these means [], which is trained.

        Raises:
            FloatingPointError: a loss is NaN or infinite.
        """
        batch, losses = self.forward(rows, generator)
        means = losses.sum(dim=1) / batch.answer_mask.sum(dim=1)  # [rows]
        # the sum, not the mean: a row's gradient then does not depend on how many other facts are in the batch
        total = means.sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss became {total.item()}: lower the learning rate")
        return losses, means, total

    def forward(self, rows: Sequence[int], generator: numpy.random.Generator) -> tuple[Batch, Tensor]:
        """A batch of rows and its losses [rows, A], from the loaded states that enter the first adapted layer."""
        batch, states, attended = self.states.draw(rows, generator)
        with self.mome.using(self.select(rows)):
            upper = without_layers(self.mome.model, 0, self.mome.first_layer)
            return batch, answer_losses(upper, batch, states, attended)

    def ask(self, rows: Sequence[int]) -> Tensor:
        """The losses [rows, A] of a whole forward pass, without augmentations."""
        with self.mome.using(self.select(rows)):
            return answer_losses(self.model, self.states.collate(rows))

    def worst_losses(self) -> numpy.ndarray:
        """The loss [facts] f64 (nats) of each fact's worst answer token over its rows, as the model is now.

        Raises:
            FloatingPointError: a loss is NaN.
        """
        return self.worst_of(by_length(range(len(self.encoded)), self.encoded))

    @torch.no_grad()
    def worst_of(self, batches: Sequence[Sequence[int]]) -> numpy.ndarray:
        """As `worst_losses`, over the rows of some `batches` alone; 0 for the facts that have none of them."""
        self.model.eval()
        worst = numpy.zeros(len(self.rows_of))  # [facts]; no loss is below 0
        for rows in batches:
            found = self.ask(rows).max(dim=1).values.cpu().numpy()  # [rows, A] -> [rows]
            numpy.maximum.at(worst, [self.owners[row] for row in rows], found)  # several rows may be of one fact
        if numpy.isnan(worst).any():
            raise FloatingPointError("the loss became nan: lower the learning rate")
        return worst


class FactTrainer(FactLosses):
    """The loop that all trainers of facts share: groups, epochs and the check. `update` is a subclass's own."""

    title = "memorizing"
    silent = False  # no progress bar

    def train(self, progress: Progress, *watches: Watch) -> None:
        """Train until all facts are memorized or have failed; call `watches` after each epoch, group and check."""
        with tqdm(total=len(self.rows_of), desc=self.title, unit="fact", leave=False, disable=self.silent) as bar:
            while not progress.finished:
                started = time.perf_counter()
                self._turn(progress)
                progress.seconds += time.perf_counter() - started
                bar.update(len(self.rows_of) - progress.remaining() - bar.n)
                bar.set_postfix(epoch=progress.epoch, check=progress.rounds)
                for watch in watches:
                    watch(progress)

    def _turn(self, progress: Progress) -> None:
        if progress.active:
            self.epoch(progress)
        elif progress.queue:
            progress.next_group()
        else:
            self.check(progress)

    def epoch(self, progress: Progress) -> None:
        """Train every active fact once, in a seeded order. Facts under their target loss are done."""
        generator = self.generator(progress)
        memorized: set[int] = set()
        self.model.train()
        for facts in self.batches(generator.permutation(progress.active).tolist()):
            rows = [row for fact in facts for row in self.rows_of[fact]]
            means, worst = self.step(rows, generator)  # [rows] each
            progress.visits += len(rows)
            for fact in facts:
                places = [place for place, row in enumerate(rows) if self.owners[row] == fact]
                progress.losses[fact].append(float(means[places].mean()))
                if worst[places].max() < self.settings.target_loss:
                    memorized.add(fact)
        progress.leave(memorized, self.settings.epochs)

    def generator(self, progress: Progress) -> numpy.random.Generator:
        """The draws of an epoch: by seed and epoch alone, so that an interrupted run goes on with the same."""
        return numpy.random.default_rng([self.settings.seed, progress.epochs_in_all])

    def batches(self, order: list[int]) -> Iterator[list[int]]:
        """The facts in batches of at most `batch_size` rows; the rows of a fact stay together."""
        facts: list[int] = []
        count = 0
        for fact in order:
            if facts and count + len(self.rows_of[fact]) > self.settings.batch_size:
                yield facts
                facts, count = [], 0
            facts.append(fact)
            count += len(self.rows_of[fact])
        yield facts

    def step(self, rows: list[int], generator: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
        """One update on some rows; returns the mean and the worst token's loss of each [rows] before it."""
        losses, means, total = self.losses(rows, generator)  # [rows, A], [rows], []
        total.backward()
        self.update()
        return means.detach().cpu().numpy(), losses.detach().max(dim=1).values.cpu().numpy()

    def check(self, progress: Progress) -> None:
        """Measure all facts. Those that others disturbed are trained again, or have failed after too many repairs."""
        worst = self.worst_losses()
        disturbed = numpy.flatnonzero(worst > self.settings.repair_loss).tolist()
        progress.worst, progress.rounds = worst.tolist(), progress.rounds + 1
        retry = [fact for fact in disturbed if fact not in progress.failed]
        if retry and progress.rounds <= self.settings.repairs:
            progress.queue = grouped(retry, self.settings.group_size)
        else:
            progress.failed, progress.finished = disturbed, True

    def update(self) -> None:
        """Move the trained parameters by their gradients, and clear these."""
        raise NotImplementedError


class JointTrainer(FactTrainer):
    """Trains router and experts together: each pass reads the prompts anew and takes the experts the router picks.

    `step_losses` has the mean loss of each step. `routes` [rows, K] are the experts that each row had when it was last
    trained. `kept` and `kept_at_end` are those of a `JointRun`.
    """

    title = "memorizing, router not frozen"

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        facts: Sequence[Fact],
        settings: MemorySettings,
        router_learning_rate: float,
    ) -> None:
        asked = [(index, text) for index, fact in enumerate(facts) for text in fact.wordings(settings.wordings)]
        encoded = [encode_question(tokenizer, text, facts[index].answer) for index, text in asked]
        super().__init__(model, tokenizer, encoded, [index for index, _ in asked], settings)
        if self.mome.settings.temperature is None:
            raise ValueError("MomeConfig: temperature must not be None for the router to learn from the answers")
        router = torch.optim.AdamW(self.mome.router.parameters(), lr=router_learning_rate)
        experts = row_optimizer(settings.optimizer, self.mome.bank, settings.learning_rate)
        self.optimizer = MemoryOptimizer(model, experts, router)
        self.step_losses: list[float] = []
        self.kept: list[float] = []
        self.kept_at_end = 1.0
        self.routes = torch.full((len(encoded), self.mome.settings.top_k), -1)  # [rows, K]; -1: not trained yet
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

    def epoch(self, progress: Progress) -> None:
        """As `FactTrainer.epoch`; notes which experts the facts kept."""
        first, before = not progress.epochs_in_all, self.routes.clone()
        visited = [row for fact in progress.active for row in self.rows_of[fact]]
        super().epoch(progress)
        if first:
            self.first_routes = self.routes.clone()
        else:
            self.kept.append(_share_kept(before[visited], self.routes[visited]))

    def losses(self, rows: Sequence[int], generator: numpy.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As `FactTrainer.losses`; notes the step's loss."""
        losses, means, total = super().losses(rows, generator)
        self.step_losses.append(total.item() / len(rows))
        return losses, means, total

    def forward(self, rows: Sequence[int], generator: numpy.random.Generator) -> tuple[Batch, Tensor]:
        """A batch of rows and its losses [rows, A], from the prompts."""
        return self.states.collate(rows), self.ask(rows)

    def ask(self, rows: Sequence[int]) -> Tensor:
        """The losses [rows, A] of a whole forward pass; notes the experts it used."""
        losses = answer_losses(self.model, self.states.collate(rows))
        assert self.mome.selection is not None
        self.routes[rows] = self.mome.selection.routes.ids.cpu()  # [rows, K]
        return losses

    def update(self) -> None:
        """Step router and experts."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def check(self, progress: Progress) -> None:
        """As `FactTrainer.check`, with the experts that the facts have now."""
        visited = self.routes.clone()
        super().check(progress)
        self.kept_at_end = _share_kept(self.first_routes, self.routes)
        self.routes = visited  # asking is no training


def _share_kept(before: Tensor, now: Tensor) -> float:
    """The mean share of the K experts of each row in `now` [rows, K] that are also in `before`."""
    # [rows, K, 1] == [rows, 1, K] -> [rows, K]: whether each expert of `now` is among those of `before`
    return float((now[:, :, None] == before[:, None, :]).any(dim=2).double().mean())


def row_optimizer(kind: str, bank: Bank, learning_rate: float) -> RowOptimizer:
    """A new optimizer of the bank's rows, "adam" or "adafactor"."""
    return {"adam": RowAdam, "adafactor": RowAdafactor}[kind](bank, learning_rate)
