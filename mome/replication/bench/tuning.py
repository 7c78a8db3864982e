"""Times of the training loops that a user waits for: LoRA, and phase 2 over the number of experts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pandas
import torch

from mome.facts.fact import Fact
from mome.lm.encoding import collate, encode_question
from mome.lm.losses import answer_losses
from mome.replication.bench import traffic
from mome.replication.bench.steps import ALL_LINEAR, MOME, SAME_MODULES, SAME_ROWS, lora_settings, time_steps
from mome.replication.bench.tables import times, write_table
from mome.replication.bench.timing import CheckError, Timer
from mome.replication.notebook.backbones import asked_backbone
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import tune

BATCH_SIZES = (8, 16, 32)
STEPS = 12
RANK = LoraSettings().rank
ROUND = ["pass", "batch"]


def bench_lora_tuning(backbone_name: str, facts: list[Fact], copied: int | None = None) -> str:
    """Median time of a LoRA memory-tuning step, and its share of the backbone's forward pass alone.

    It runs where `asked_backbone` puts the backbone. `copied`: bytes of the copy that times are compared with. Writes
    lora_tuning.csv to `fresh_folder()` and returns the table as text.

    Raises:
        CheckError: a tuning run of three epochs does not lower the loss, so timing it would say nothing.
    """
    _check(backbone_name, facts)
    timer = Timer(asked_backbone(backbone_name).device, copied=copied)
    rows = [_time(timer, backbone_name, facts, size) for size in BATCH_SIZES]
    return write_table("lora_tuning", rows, timer.copy_rate)


def _check(backbone_name: str, facts: list[Fact]) -> None:
    backbone = asked_backbone(backbone_name)
    model: Any = attach_lora(backbone, LoraSettings(), seed=0)
    run = tune(model, backbone.tokenizer, facts, TuningSettings(epochs=3, learning_rate=2e-3))
    if not run.curve[-1] < run.curve[0]:
        raise CheckError(f"three epochs of tuning took the loss from {run.curve[0]:.3f} to {run.curve[-1]:.3f}")


def _time(timer: Timer, backbone_name: str, facts: list[Fact], size: int) -> dict[str, Any]:
    """Time whole epochs of the training loop: the steps a user waits for, not a kernel alone."""
    backbone = asked_backbone(backbone_name)
    encoded = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    batch = collate(encoded[:size], backbone.tokenizer.pad_token_id, backbone.device)
    forward = _median([_seconds(lambda: answer_losses(backbone.model, batch)) for _ in range(STEPS)])
    model: Any = attach_lora(backbone, LoraSettings(), seed=0)
    settings = TuningSettings(epochs=1, batch_size=size, learning_rate=2e-3)
    tune(model, backbone.tokenizer, facts, settings)
    steps = -(-len(facts) // size)
    taken = [tune(model, backbone.tokenizer, facts, settings).seconds / steps for _ in range(5)]
    numbers = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    moved = traffic.tuning_step(backbone.model, 0, False, numbers, "adafactor")
    row = timer.row({"backbone": backbone_name, "batch_size": size}, moved, taken)
    tokens = sum(len(row.ids) for row in encoded)
    own = {
        "tokens_per_second": round(tokens / steps / _median(taken)),
        "step_over_backbone_forward": _median(taken) / forward,
    }
    return row | own


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        call()
    return time.perf_counter() - started


def _median(values: list[float]) -> float:
    return float(numpy.median(values))


def bench_memory_steps(
    backbone_name: str,
    facts: list[Fact],
    experts: Sequence[int],
    batch_size: int = 16,
    passes: int = 6,
    copied: int | None = None,
) -> str:
    """Phase 2's training step over the number of experts, and PEFT LoRA r = 32 on the same batches.

    Everything is timed by `steps.time_steps`; the passes after the first count, in which no row is new.
    `over_smallest` is the median of the ratios within rounds to the smallest bank, `over_lora` to LoRA on the same
    modules, both with the same optimizer. The rest is as in `bench_lora_tuning`; the table is memory_steps.csv.

    Raises:
        RuntimeError: the contenders do not start from the same loss, or one does not learn.
    """
    table = time_steps(backbone_name, facts, experts, batch_size=batch_size, passes=passes)
    backbone = asked_backbone(backbone_name)
    timer = Timer(backbone.device, copied=copied)
    matrices = {method: _lora_numbers(backbone_name, method) for method in (SAME_MODULES, ALL_LINEAR)}
    steady = table[table["pass"] > 0]
    rows = []
    for (optimizer, method, number), part in steady.groupby(["optimizer", "method", "experts"]):
        lowest = min(lora_settings(backbone.model, SAME_MODULES if number else method).layers or [0])
        # a rank of LoRA on the same modules has as many numbers as one expert
        numbers = round(matrices[SAME_MODULES] / RANK * part["rows"].mean()) if number else matrices[method]
        moved = traffic.tuning_step(backbone.model, lowest, bool(number), numbers, optimizer)
        row = timer.row({"method": method, "experts": number, "optimizer": optimizer}, moved, part["ms"] / 1e3)
        rows.append(row | _ratios(steady[steady["optimizer"] == optimizer], method, number))
    return write_table("memory_steps", rows, timer.copy_rate)


def _ratios(steady: pandas.DataFrame, method: str, experts: int) -> dict[str, float | None]:
    own = times(steady, ROUND, method=method, experts=experts)
    smallest = int(steady.loc[steady["method"] == MOME, "experts"].min())
    of_kind = method in (MOME, SAME_ROWS)
    over = float((own / times(steady, ROUND, method=MOME, experts=smallest)).median()) if of_kind else None
    return {"over_smallest": over, "over_lora": float((own / times(steady, ROUND, method=SAME_MODULES)).median())}


def _lora_numbers(backbone_name: str, method: str) -> int:
    backbone = asked_backbone(backbone_name)
    model: Any = attach_lora(backbone, lora_settings(backbone.model, method), seed=0)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
