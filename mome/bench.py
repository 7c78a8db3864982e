"""Timing of memory tuning: `make bench`. Correctness first, then medians; a table with the machine's name."""

from __future__ import annotations

import time
from typing import Any

import numpy
import pandas
import torch

from mome.backbones import load_backbone
from mome.baselines.lora import attach_lora
from mome.batches import answer_losses, collate, encode_question
from mome.config import LoraSettings, TuningSettings
from mome.corpus import shipped_facts
from mome.environment import current_environment, repository_root
from mome.facts import Fact, randomize
from mome.tuning import tune

BATCH_SIZES = (8, 16, 32)
STEPS = 12


def bench_tuning(backbone_name: str, count: int) -> str:
    """Median time of a LoRA memory-tuning step on random answers, and its share of the backbone's forward pass alone.

    Writes data/results/bench/lora_tuning.csv and returns the table as text.

    Raises:
        RuntimeError: a tuning run of one epoch does not lower the loss, so timing it would say nothing.
    """
    facts = randomize(shipped_facts("unknown")[:count], seed=0)
    _check(backbone_name, facts)
    rows = [_time(backbone_name, facts, size) for size in BATCH_SIZES]
    environment = current_environment()
    table = pandas.DataFrame(rows).assign(
        cpu=environment.hardware.cpu,
        accelerator=environment.hardware.accelerator,
        torch=torch.__version__,
        threads=torch.get_num_threads(),
        commit=environment.commit,
    )
    path = repository_root() / "data" / "results" / "bench" / "lora_tuning.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)
    return table.to_string(index=False)


def _check(backbone_name: str, facts: list[Fact]) -> None:
    backbone = load_backbone(backbone_name)
    model: Any = attach_lora(backbone, LoraSettings(), seed=0)
    run = tune(model, backbone.tokenizer, facts, TuningSettings(epochs=3, learning_rate=2e-3))
    if not run.curve[-1] < run.curve[0]:
        raise RuntimeError(f"three epochs of tuning took the loss from {run.curve[0]:.3f} to {run.curve[-1]:.3f}")


def _time(backbone_name: str, facts: list[Fact], size: int) -> dict[str, Any]:
    """Time whole epochs of the training loop: the steps a user waits for, not a kernel alone."""
    backbone = load_backbone(backbone_name)
    encoded = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    batch = collate(encoded[:size], backbone.tokenizer.pad_token_id, backbone.device)
    forward = _median([_seconds(lambda: answer_losses(backbone.model, batch)) for _ in range(STEPS)])
    model: Any = attach_lora(backbone, LoraSettings(), seed=0)
    settings = TuningSettings(epochs=1, batch_size=size, learning_rate=2e-3)
    tune(model, backbone.tokenizer, facts, settings)
    epochs = [tune(model, backbone.tokenizer, facts, settings).seconds for _ in range(5)]
    steps = -(-len(facts) // size)
    tokens = sum(len(row.ids) for row in encoded)
    return {
        "backbone": backbone_name,
        "batch_size": size,
        "step_ms": round(1e3 * _median(epochs) / steps, 2),
        "step_ms_p20": round(1e3 * float(numpy.percentile(epochs, 20)) / steps, 2),
        "step_ms_p80": round(1e3 * float(numpy.percentile(epochs, 80)) / steps, 2),
        "tokens_per_second": round(tokens / _median(epochs)),
        "step_over_backbone_forward": round(_median(epochs) / steps / forward, 2),
    }


def _seconds(call: Any) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        call()
    return time.perf_counter() - started


def _median(values: list[float]) -> float:
    return float(numpy.median(values))
