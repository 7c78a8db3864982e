"""Memory tuning (paper, section 2 and appendix A): train an adapter until the answers of chosen facts are memorized."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.optimization import Adafactor

from mome.facts.fact import Fact
from mome.files.hashing import text_sha256
from mome.files.snapshots import load_snapshot, optimizer_snapshot, restore_optimizer, save_snapshot
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import Encoded, collate, encode_question
from mome.lm.losses import answer_losses
from mome.train.settings import TuningSettings

SNAPSHOT_EPOCHS = 10


@dataclass
class TuningRun:
    """What a run measured: `losses` [epochs, facts] f32, each fact's mean training loss (nats/token) in each epoch.

    A loss is taken in the forward pass that trains on the fact, before that step's update, as the paper's figure 1
    shows it. `seconds` is the time of the training loop over all of its parts.
    """

    losses: numpy.ndarray
    seconds: float

    @property
    def curve(self) -> numpy.ndarray:
        """Mean loss over the facts in each epoch [epochs] (nats/token)."""
        return self.losses.mean(axis=1)

    def epochs_to(self, loss: float) -> int | None:
        """The first epoch (from 1) whose mean loss is at most `loss`, or None."""
        below = numpy.flatnonzero(self.curve <= loss)
        return int(below[0]) + 1 if len(below) else None


def tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    settings: TuningSettings,
    snapshot: Path | None = None,
    labels: dict[str, Any] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> TuningRun:
    """Train the model's trainable parameters on the facts' answers with Adafactor at a fixed learning rate.

    Args:
        model: a model with some trainable parameters, such as `attach_lora` gives; it is left in eval mode.
        tokenizer: the model's tokenizer.
        facts: each fact's question and answer is one training row; every epoch trains on all of them in a seeded order.
        settings: epochs, batch size, learning rate, stopping loss, seed.
        snapshot: file from which an interrupted run goes on and a finished run is taken, bit for bit.
        labels: whatever else decides the outcome (backbone, adapter settings); a snapshot with other labels is refused.
        on_epoch: called after each epoch with its number (from 1) and its mean loss (nats/token); it may put the model
            into eval mode, and what it takes is not counted as training time.

    Raises:
        ValueError: there are no facts, or the model has nothing to train.
        CheckpointError: the snapshot is damaged or was written under other settings.
        FloatingPointError: the loss became NaN or infinite.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not facts or not parameters:
        raise ValueError("nothing to tune: no facts" if not facts else "nothing to tune: every parameter is frozen")
    keep_freed_memory()
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    optimizer = adafactor(parameters.values(), settings.learning_rate)
    config = {"tuning": settings.model_dump(mode="json"), "facts": digest(facts), **(labels or {})}
    losses, seconds = _restore(snapshot, config, parameters, optimizer)
    bar = tqdm(range(len(losses), settings.epochs), desc="memory tuning", unit="epoch", leave=False)
    for epoch in bar:
        if _finished(losses, settings):
            break
        started = time.perf_counter()
        losses.append(_train_epoch(model, tokenizer, rows, optimizer, settings, epoch))
        seconds += time.perf_counter() - started
        bar.set_postfix(loss=f"{losses[-1].mean():.4f}")
        if on_epoch:
            on_epoch(epoch + 1, float(losses[-1].mean()))
        due = (epoch + 1) % SNAPSHOT_EPOCHS == 0 or epoch + 1 == settings.epochs or _finished(losses, settings)
        if snapshot and due:
            _save(snapshot, config, parameters, optimizer, losses, seconds)
    model.eval()
    return TuningRun(numpy.stack(losses), seconds)


def adafactor(parameters: Iterable[torch.nn.Parameter], rate: float) -> Adafactor:
    """transformers' Adafactor with both relative modes off: the learning rate is the one that is set (appendix A)."""
    return Adafactor(parameters, lr=rate, scale_parameter=False, relative_step=False, warmup_init=False)


def digest(facts: Sequence[Fact]) -> str:
    """First 16 hex digits of the SHA-256 of what a run trains on: questions and answers, in their order."""
    return text_sha256(json.dumps([(fact.question, fact.answer) for fact in facts]), 16)


def _train_epoch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Encoded],
    optimizer: torch.optim.Optimizer,
    settings: TuningSettings,
    epoch: int,
) -> numpy.ndarray:
    """One pass over all facts in the order that (seed, epoch) gives; each fact's loss before its update [facts] f32."""
    model.train()
    found = numpy.empty(len(rows), dtype=numpy.float32)
    order = numpy.random.default_rng([settings.seed, epoch]).permutation(len(rows))
    for start in range(0, len(order), settings.batch_size):
        chosen = order[start : start + settings.batch_size]
        batch = collate([rows[index] for index in chosen], tokenizer.pad_token_id, model.device)
        losses = answer_losses(model, batch)
        loss = losses.sum() / batch.answer_mask.sum()
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch + 1}: lower the learning rate")
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found[chosen] = (losses.detach().sum(dim=1) / batch.answer_mask.sum(dim=1)).cpu().numpy()
    return found


def _finished(losses: list[numpy.ndarray], settings: TuningSettings) -> bool:
    return bool(losses) and settings.stop_loss is not None and losses[-1].mean() <= settings.stop_loss


def _save(
    path: Path,
    config: dict[str, Any],
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[numpy.ndarray],
    seconds: float,
) -> None:
    tensors, numbers = optimizer_snapshot(optimizer)
    tensors |= {f"model/{name}": parameter for name, parameter in parameters.items()}
    tensors["losses"] = torch.from_numpy(numpy.stack(losses))
    save_snapshot(path, tensors, {"config": config, "optimizer": numbers, "seconds": seconds})


def _restore(
    path: Path | None,
    config: dict[str, Any],
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> tuple[list[numpy.ndarray], float]:
    found = load_snapshot(path, config) if path else None
    if found is None:
        return [], 0.0
    tensors, state = found
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[f"model/{name}"])
    restore_optimizer(optimizer, tensors, state["optimizer"])
    return list(tensors["losses"].numpy()), state["seconds"]
