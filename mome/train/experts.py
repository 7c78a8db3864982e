"""Phase 2 of memory tuning (paper, section 7.1): the experts of each fact are trained, backbone and router frozen.

The router is frozen, so each fact has the same experts at every step, and they are chosen once. Nothing below the first
adapted layer changes, so the states that enter it are computed once for a group of facts. A fact is trained until the
loss of its worst token is under the target. A final check finds facts that others disturbed; these are trained again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import with_fresh_optimizers
from mome.adapter.model import mome_model
from mome.adapter.selection import Routes
from mome.facts.fact import Fact
from mome.files.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from mome.files.sealed import CheckpointError
from mome.lm.allocator import keep_freed_memory
from mome.lm.decoder import without_layers
from mome.lm.losses import answer_losses
from mome.train.anchoring import Rows, route_facts, set_null_key
from mome.train.optim import RowAdafactor, RowAdam, RowOptimizer
from mome.train.progress import Progress, grouped
from mome.train.settings import MemorySettings
from mome.train.states import FactStates, by_length
from mome.train.tuning import TuningRun, digest


@dataclass
class MemoryRun(TuningRun):
    """What phase 2 measured: `losses` [epochs, facts] f32 by each fact's own epoch, its last value kept after it left.

    `worst` [facts]: the loss (nats) of each fact's worst token over its tuned wordings at the end; `failed`: ids of the
    facts that could not be memorized; `visits`: training rows in all; `rounds`: final checks.
    """

    worst: numpy.ndarray
    failed: list[str]
    visits: int
    rounds: int


def memorize_facts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    settings: MemorySettings,
    *,
    others: Sequence[str] = (),
    false_alarms: float | None = None,
    checkpoint: Path | None = None,
    labels: dict[str, Any] | None = None,
    every_seconds: float = 60.0,
) -> MemoryRun:
    """Train the experts of a MoME model until every fact's worst answer token is under its target loss.

    Args:
        model: a PEFT model with a MoME adapter; its router is frozen and remembers the facts' questions as anchors.
        tokenizer: the model's tokenizer.
        facts: question and first `wordings` - 1 phrasings of each are tuned.
        settings: when a fact is done, group and batch sizes, optimizer, augmentations, seed.
        others: out-of-scope questions, which set the rejection threshold.
        false_alarms: their accepted false-positive rate; None: no question is rejected.
        checkpoint: a folder from which an interrupted run goes on, and a finished one is taken, bit for bit; the bank
            is then as it was when the run first started, or further on, whatever it held since.
        labels: whatever else decides the outcome; a checkpoint with other labels is refused.
        every_seconds: least time between two checkpoints.

    Raises:
        ValueError: there are no facts, no MoME adapter, or `false_alarms` without `others`.
        CheckpointError: no checkpoint in the folder is good, or it was written under other settings.
        FloatingPointError: a loss became NaN or infinite.
    """
    mome = mome_model(model)
    if mome is None or not facts:
        raise ValueError("memorize_facts: no facts" if mome else "memorize_facts: the model has no MoME adapter")
    keep_freed_memory()
    mome.router.requires_grad_(False)
    rows = route_facts(model, tokenizer, facts, settings.wordings, settings.typings, settings.seed)
    if false_alarms is not None:
        set_null_key(model, tokenizer, others, false_alarms)
    tuned = [replace(fact, question="\n".join(fact.wordings(settings.wordings))) for fact in facts]
    config = {"memory": settings.model_dump(mode="json"), "facts": digest(tuned), "bank": mome.bank.arguments()}
    config |= labels or {}
    trainer = _Trainer(model, tokenizer, rows, settings)
    progress = trainer.start(checkpoint, config)
    trainer.train(progress, checkpoint, config, every_seconds)
    model.eval()
    failed = [facts[index].id for index in progress.failed]
    worst = numpy.asarray(progress.worst, dtype=numpy.float32)
    return MemoryRun(progress.curves(), progress.seconds, worst, failed, progress.visits, progress.rounds)


class _Trainer:
    """One run of phase 2."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows, settings: MemorySettings) -> None:
        mome = mome_model(model)
        assert mome is not None
        self.model, self.mome, self.rows, self.settings = model, mome, rows, settings
        self.rows_of = rows.by_fact()
        self.states = FactStates(mome, rows.encoded, tokenizer.pad_token_id, settings)
        self.loaded: list[int] = []
        self.optimizer: RowOptimizer | None = None

    def train(self, progress: Progress, folder: Path | None, config: dict[str, Any], every_seconds: float) -> None:
        """Epoch after epoch until all facts are memorized or have failed."""
        saved = time.perf_counter()
        bar = tqdm(total=len(self.rows_of), desc="memorizing", unit="fact", leave=False)
        while not progress.finished:
            started = time.perf_counter()
            if progress.active:
                self._epoch(progress)
            elif progress.queue:
                progress.next_group()
            else:
                self._check(progress)
            progress.seconds += time.perf_counter() - started
            bar.update(len(self.rows_of) - progress.remaining() - bar.n)
            bar.set_postfix(epoch=progress.epoch, check=progress.rounds)
            if folder and (progress.finished or time.perf_counter() - saved > every_seconds):
                self.save(folder, config, progress)
                saved = time.perf_counter()
        bar.close()

    def _epoch(self, progress: Progress) -> None:
        if self.loaded != progress.group:
            self.states.load([row for fact in progress.group for row in self.rows_of[fact]])
            self.loaded = progress.group
        generator = numpy.random.default_rng([self.settings.seed, progress.epochs_in_all])
        memorized: set[int] = set()
        self.model.train()
        for facts in self._batches(generator.permutation(progress.active).tolist()):
            rows = [row for fact in facts for row in self.rows_of[fact]]
            means, worst = self._step(rows, generator)
            progress.visits += len(rows)
            for fact in facts:
                places = [place for place, row in enumerate(rows) if self.rows.owners[row] == fact]
                progress.losses[fact].append(float(means[places].mean()))
                if worst[places].max() < self.settings.target_loss:
                    memorized.add(fact)
        progress.leave(memorized, self.settings.epochs)

    def _batches(self, order: list[int]) -> Iterator[list[int]]:
        """The facts in batches of at most `batch_size` rows, a fact never parted."""
        facts: list[int] = []
        count = 0
        for fact in order:
            if facts and count + len(self.rows_of[fact]) > self.settings.batch_size:
                yield facts
                facts, count = [], 0
            facts.append(fact)
            count += len(self.rows_of[fact])
        yield facts

    def _step(self, rows: list[int], generator: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
        """One update on some rows; returns the mean and the worst token's loss of each [rows] before it."""
        batch, states, attended = self.states.draw(rows, generator)
        with self.mome.using(self._select(rows)):
            upper = without_layers(self.mome.model, 0, self.mome.first_layer)
            losses = answer_losses(upper, batch, states, attended)
        means = losses.sum(dim=1) / batch.answer_mask.sum(dim=1)
        total = means.sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"the loss became {total.item()}: lower the learning rate")
        total.backward()
        block = self.mome.blocks.pop()
        gradients = {name: values.grad.cpu() for name, values in block.rows.items() if values.grad is not None}
        self._optimizer().update(block.ids, gradients)
        return means.detach().cpu().numpy(), losses.detach().max(dim=1).values.cpu().numpy()

    @torch.no_grad()
    def _check(self, progress: Progress) -> None:
        """Ask for all facts again: who was disturbed by others re-enters, unless this happened too often."""
        self.model.eval()
        worst = numpy.zeros(len(self.rows_of))
        for rows in by_length(range(len(self.rows.encoded)), self.rows.encoded):
            with self.mome.using(self._select(rows)):
                found = answer_losses(self.model, self.states.collate(rows)).max(dim=1).values.cpu().numpy()
            numpy.maximum.at(worst, [self.rows.owners[row] for row in rows], found)
        if numpy.isnan(worst).any():
            raise FloatingPointError("the loss became nan: lower the learning rate")
        disturbed = numpy.flatnonzero(worst > self.settings.repair_loss).tolist()
        progress.worst, progress.rounds = worst.tolist(), progress.rounds + 1
        retry = [fact for fact in disturbed if fact not in progress.failed]
        if retry and progress.rounds <= self.settings.repairs:
            progress.queue = grouped(retry, self.settings.group_size)
        else:
            progress.failed, progress.finished = disturbed, True

    def _select(self, rows: list[int]) -> Any:
        ids, weights = self.rows.ids[rows], self.rows.weights[rows]
        return self.mome.select(Routes(ids, weights, torch.ones(len(rows))))

    def _optimizer(self) -> RowOptimizer:
        """Made when first needed: a finished run needs none of its tables."""
        if self.optimizer is None:
            kind = RowAdam if self.settings.optimizer == "adam" else RowAdafactor
            self.optimizer = kind(self.mome.bank, self.settings.learning_rate)
        return self.optimizer

    def save(self, folder: Path, config: dict[str, Any], progress: Progress) -> None:
        """Write a checkpoint; a finished run leaves its optimizer out."""
        routes = {"ids": self.rows.ids, "weights": self.rows.weights}
        members = {"bank": self.mome.bank.members(optimizer=not progress.finished), "routes": routes}
        if not progress.finished:
            members["optimizer"] = self._optimizer().state()
        state = {"config": config, "progress": progress.as_json()}
        write_checkpoint(folder, progress.epochs_in_all + progress.finished, members, state)

    def start(self, folder: Path | None, config: dict[str, Any]) -> Progress:
        """Go on from the newest good checkpoint; without one, write the first before anything changes."""
        found = read_checkpoint(folder) if folder else None
        if found:
            return self._restore(found, config)
        progress = Progress.start(len(self.rows_of), self.settings.group_size)
        if folder:
            self.save(folder, config, progress)
        return progress

    def _restore(self, found: Checkpoint, config: dict[str, Any]) -> Progress:
        written = found.state["config"]
        if written != config:
            changed = sorted(name for name in {**written, **config} if written.get(name) != config.get(name))
            raise CheckpointError(f"{found.path}: written under other settings ({', '.join(changed)}); delete it")
        routes = found.members["routes"]
        if not all(torch.equal(routes[name], getattr(self.rows, name).cpu()) for name in ("ids", "weights")):
            raise CheckpointError(f"{found.path}: the router chooses other experts than when it was written; delete it")
        progress = Progress.from_json(found.state["progress"])
        if not progress.finished:
            self._optimizer().load(found.members["optimizer"])
        self.mome.bank.restore(with_fresh_optimizers(self.mome.bank, found.members["bank"]))
        return progress
