"""Phase 2 of memory tuning (paper, section 7.1): the experts of each fact are trained, backbone and router frozen.

The router is frozen, so each fact has the same experts at every step, and they are chosen once. Nothing below the first
adapted layer changes, so the states that enter it are computed once for a group of facts. A fact is trained until the
loss of its worst token is under the target. A final check finds facts that others disturbed; these are trained again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.adapter.bank import with_fresh_optimizers
from mome.adapter.model import mome_model
from mome.adapter.selection import Routes, Selection
from mome.facts.fact import Fact
from mome.files.checkpoints import Checkpoint, read_checkpoint, write_checkpoint
from mome.files.sealed import CheckpointError
from mome.lm.allocator import keep_freed_memory
from mome.train.anchoring import Rows, route_facts, set_null_key
from mome.train.fact_trainer import FactTrainer, Watch, row_optimizer
from mome.train.optim import RowOptimizer
from mome.train.progress import Progress
from mome.train.settings import MemorySettings
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
    watch: Watch | None = None,
    trainer_of: TrainerOf | None = None,
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
        watch: called with the progress after each epoch, each group that is taken (at first before any epoch) and each
            check; what it takes is not counted as training time.
        trainer_of: makes the trainer, such as one that shares the work with other processes; None: `ExpertTrainer`.

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
    trainer = (trainer_of or ExpertTrainer)(model, tokenizer, rows, settings)
    progress = trainer.start(checkpoint, config)
    watches = [watch] if watch else []
    if checkpoint:
        watches.append(trainer.saving(checkpoint, config, every_seconds))
    trainer.train(progress, *watches)
    model.eval()
    failed = [facts[index].id for index in progress.failed]
    worst = numpy.asarray(progress.worst, dtype=numpy.float32)
    return MemoryRun(progress.curves(), progress.seconds, worst, failed, progress.visits, progress.rounds)


class ExpertTrainer(FactTrainer):
    """Trains the rows of the experts that the frozen router chose once; a run can be saved and taken up again."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, rows: Rows, settings: MemorySettings) -> None:
        super().__init__(model, tokenizer, rows.encoded, rows.owners, settings)
        self.rows = rows
        self.loaded: list[int] = []  # the group whose states are cached
        self.optimizer: RowOptimizer | None = None

    def epoch(self, progress: Progress) -> None:
        """As `FactTrainer.epoch`, with the states of the present group at hand."""
        if self.loaded != progress.group:
            self.states.load([row for fact in progress.group for row in self.rows_of[fact]])
            self.loaded = progress.group
        super().epoch(progress)

    def select(self, rows: Sequence[int]) -> Selection:
        """The experts of some rows, read from the bank; no row is left out of them."""
        places = list(rows)
        ids, weights = self.rows.ids[places], self.rows.weights[places]  # [rows, K] each
        return self.mome.select(Routes(ids, weights, torch.ones(len(places))))

    def update(self) -> None:
        """One step of the row optimizer on the rows of the last forward pass."""
        block = self.mome.blocks.pop()
        gradients = {name: values.grad.cpu() for name, values in block.rows.items() if values.grad is not None}
        self._optimizer().update(block.ids, gradients)

    def _optimizer(self) -> RowOptimizer:
        """Made when first needed: a finished run needs none of its tables."""
        if self.optimizer is None:
            self.optimizer = row_optimizer(self.settings.optimizer, self.mome.bank, self.settings.learning_rate)
        return self.optimizer

    def saving(self, folder: Path, config: dict[str, Any], every_seconds: float) -> Watch:
        """A watch that writes a checkpoint at the end, and before it whenever `every_seconds` have passed."""
        saved = time.perf_counter()

        def save_if_due(progress: Progress) -> None:
            nonlocal saved
            if progress.finished or time.perf_counter() - saved > every_seconds:
                self.save(folder, config, progress)
                saved = time.perf_counter()

        return save_if_due

    def save(
        self, folder: Path, config: dict[str, Any], progress: Progress, held: dict[str, Tensor] | None = None
    ) -> None:
        """Write a checkpoint with the bank's members, or `held` for them; a finished run leaves its optimizer out."""
        routes = {"ids": self.rows.ids, "weights": self.rows.weights}
        members = {"bank": held or self.mome.bank.members(optimizer=not progress.finished), "routes": routes}
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


TrainerOf = Callable[[Any, PreTrainedTokenizerBase, Rows, MemorySettings], ExpertTrainer]
