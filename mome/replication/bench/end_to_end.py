"""Benchmark 3, memory tuning as a user runs it: the package's own phase 2 and its own LoRA on a whole model.

Phase 2 is `memorize_facts`, from the states that enter the first adapted layer to the last check; LoRA is `tune` on
the same modules, with the same facts, batches and epochs. `generation` times the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
from tqdm.auto import tqdm

from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.lm.encoding import encode_question
from mome.lm.loading import Backbone
from mome.replication.bench import traffic
from mome.replication.bench.steps import SAME_MODULES, lora_settings
from mome.replication.bench.tables import LORA, MEMORY, TUNING
from mome.replication.bench.timing import CheckError, Timer
from mome.replication.bench.whole_model import EndToEndSizes, Make, peak_gib, with_experts
from mome.train.experts import memorize_facts
from mome.train.lora import attach_lora
from mome.train.settings import MemorySettings, TuningSettings
from mome.train.tuning import TuningRun, tune

LORA_RATE = 2e-3
# no fact is ever that certain, so all of them take part in every epoch
NEVER = 1e-12


@dataclass(frozen=True, slots=True)
class _Tuned:
    """A model and a run that tunes it; `moved`: bytes of one step."""

    name: str
    optimizer: str
    model: Any
    run: Callable[[], TuningRun]
    moved: int

    def checked(self) -> None:
        """The first run, which warms up and must learn."""
        curve = self.run().curve
        if not curve[-1] < curve[0]:
            raise CheckError(
                f"{self.name}, {self.optimizer}: {len(curve)} epochs took the loss from {curve[0]:.4f} to "
                f"{curve[-1]:.4f}; nothing was written"
            )


def tuning_rows(timer: Timer, make: Make, facts: Sequence[Fact], sizes: EndToEndSizes) -> list[dict[str, Any]]:
    """Rows of a table, times a training step: stage "tuning", contender, optimizer, tokens_per_second, over_lora.

    `make` gives a fresh copy of the backbone. `peak_gib` (on a GPU): the most device memory that the first run took,
    with the model's own weights.

    Raises:
        CheckError: a run does not lower the loss.
    """
    contenders = [_with_experts(make(), facts, sizes, optimizer) for optimizer in ("adam", "adafactor")]
    last = make()
    contenders.append(_with_lora(last, facts, sizes))
    peaks = [peak_gib(timer.device, tuned.model, tuned.checked) for tuned in contenders]
    taken: list[list[float]] = [[] for _ in contenders]
    order = numpy.random.default_rng(0)
    for _ in tqdm(range(sizes.runs), desc="timing tuning", leave=False):
        for index in order.permutation(len(contenders)):
            taken[index].append(contenders[index].run().seconds)
    lora = float(numpy.median(taken[-1]))
    steps, tokens = sizes.epochs * -(-len(facts) // sizes.batch_size), sizes.epochs * _tokens(last, facts)
    rows = []
    for tuned, seconds, peak in zip(contenders, taken, peaks, strict=True):
        experts, median = sizes.experts if tuned.name == MEMORY else 0, float(numpy.median(seconds))
        labels = {"stage": TUNING, "contender": tuned.name, "optimizer": tuned.optimizer, "experts": experts}
        row = timer.row(labels, tuned.moved, [value / steps for value in seconds])
        rows.append(row | {"tokens_per_second": tokens / median, "over_lora": median / lora, "peak_gib": peak})
    return rows


def _tokens(backbone: Backbone, facts: Sequence[Fact]) -> int:
    return sum(len(encode_question(backbone.tokenizer, fact.question, fact.answer).ids) for fact in facts)


def _with_experts(backbone: Backbone, facts: Sequence[Fact], sizes: EndToEndSizes, optimizer: str) -> _Tuned:
    model = with_experts(backbone, facts, sizes.experts)
    values = {"epochs": sizes.epochs, "batch_size": sizes.batch_size, "optimizer": optimizer, "repairs": 0}
    settings = MemorySettings.model_validate({**values, "target_loss": NEVER})
    mome = mome_model(model)
    assert mome is not None

    def run() -> TuningRun:
        mome.router.anchors.forget()
        return memorize_facts(model, backbone.tokenizer, facts, settings)

    selected = min(sizes.batch_size, len(facts)) * mome.settings.top_k
    numbers = selected * sum(mome.bank.width(module) for module in mome.bank.shapes)
    moved = traffic.tuning_step(backbone.model, mome.first_layer, True, numbers, optimizer)
    return _Tuned(MEMORY, optimizer, model, run, moved)


def _with_lora(backbone: Backbone, facts: Sequence[Fact], sizes: EndToEndSizes) -> _Tuned:
    lora = lora_settings(backbone.model, SAME_MODULES)
    model: Any = attach_lora(backbone, lora, seed=0)
    settings = TuningSettings(epochs=sizes.epochs, batch_size=sizes.batch_size, learning_rate=LORA_RATE)
    numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    moved = traffic.tuning_step(backbone.model, min(lora.layers or [0]), False, numbers, "adafactor")
    return _Tuned(LORA, "adafactor", model, partial(tune, model, backbone.tokenizer, facts, settings), moved)
