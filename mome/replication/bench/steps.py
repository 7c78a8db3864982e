"""Training steps of phase 2 as the number of experts grows: their work is counted, their times are compared.

The counted work is the same on any machine; the times are shown and not judged. All contenders are timed in the same
rounds, in a new random order each round, so a machine that slows down slows all of them. A ratio is the median of the
ratios within rounds. Results are checked before times are taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy
import pandas
import torch
from tqdm.auto import tqdm

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact
from mome.lm.allocator import keep_freed_memory
from mome.lm.encoding import collate, encode_question
from mome.lm.losses import answer_losses
from mome.replication.counting.work import work_of
from mome.replication.notebook.backbones import asked_backbone
from mome.train.anchoring import Rows, route_facts
from mome.train.attach import attach_mome
from mome.train.experts import ExpertTrainer
from mome.train.lora import attach_lora
from mome.train.progress import grouped
from mome.train.router import train_router
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings
from mome.train.tuning import adafactor

MOME, SAME_ROWS = "mome", "mome, rows of the smallest bank"
SAME_MODULES, ALL_LINEAR = "lora same modules", "lora all linear"
LORA_RATE = 2e-3
WARM_UP_STEPS = 3
AGREEMENT = 0.02


@dataclass(frozen=True, slots=True)
class StepContender:
    """Something to be timed: `step` trains on the facts of these numbers and returns their mean loss (nats/token).

    `experts` is 0 for LoRA; `rows` counts the distinct experts that the facts of these numbers choose.
    """

    method: str
    experts: int
    optimizer: str
    step: Callable[[list[int]], float]
    rows: Callable[[list[int]], int]


def time_steps(
    name: str,
    facts: Sequence[Fact],
    experts: Sequence[int],
    optimizers: Sequence[str] = ("adam", "adafactor"),
    *,
    batch_size: int = 16,
    passes: int = 6,
    seed: int = 0,
) -> pandas.DataFrame:
    """Time training steps of memory experts, for each number of experts, and of LoRA on the same batches.

    The first batch warms up. The others are trained on `passes` times; in pass 0 the rows of a batch are touched for
    the first time. In a larger bank the facts of a batch share fewer rows, so the largest bank is also timed with rows
    shared as in the smallest one, but lying all over it. Columns: method, experts, optimizer, pass, batch, rows
    (distinct experts), ms, loss, and of a step on the first batch `work_rows`, `flops` and `bytes`
    (`mome.replication.counting.work.Work`).

    Raises:
        ValueError: there are not enough facts for two batches.
        RuntimeError: the contenders do not start from the same loss, or one does not learn.
    """
    batches = [batch for batch in grouped(list(range(len(facts))), batch_size) if len(batch) == batch_size]
    if len(batches) < 2:
        raise ValueError(f"{len(facts)} facts: two batches of {batch_size} are needed, one of them to warm up")
    keep_freed_memory()
    contenders = _contenders(name, facts, experts, optimizers, seed)
    _warm_up(contenders, batches[0])
    counted = [_counted(contender, batches[0]) for contender in contenders]
    rows = []
    order = numpy.random.default_rng(seed)
    for number, (place, batch) in tqdm(
        product(range(passes), enumerate(batches[1:])), desc="timing steps", leave=False
    ):
        for index in order.permutation(len(contenders)):
            rows.append({**_timed(contenders[index], batch), "pass": number, "batch": place, **counted[index]})
    table = pandas.DataFrame(rows)
    _check_learning(table)
    return table


def _timed(contender: StepContender, batch: list[int]) -> dict[str, Any]:
    started = time.perf_counter()
    loss = contender.step(batch)
    milliseconds = 1e3 * (time.perf_counter() - started)
    labels = {"method": contender.method, "experts": contender.experts, "optimizer": contender.optimizer}
    return {**labels, "rows": contender.rows(batch), "ms": milliseconds, "loss": loss}


def _counted(contender: StepContender, batch: list[int]) -> dict[str, int]:
    work = work_of(lambda: contender.step(batch))
    return {"work_rows": contender.rows(batch), "flops": work.flops, "bytes": work.bytes}


def _contenders(
    name: str, facts: Sequence[Fact], experts: Sequence[int], optimizers: Sequence[str], seed: int
) -> list[StepContender]:
    routes = {count: _routed(name, facts, count, seed) for count in sorted(set(experts))}
    least, most = min(experts), max(experts)
    # the rows of the smallest bank, spread over the largest one
    shared = replace(routes[least], ids=routes[least].ids * (most // least))
    found = [
        _mome(name, facts, MOME, count, optimizer, seed, routes[count])
        for count, optimizer in product(experts, optimizers)
    ]
    for optimizer in optimizers:
        if most > least:
            found.append(_mome(name, facts, SAME_ROWS, most, optimizer, seed, shared))
        found.append(_lora(name, facts, ALL_LINEAR, optimizer, seed))
        found.append(_lora(name, facts, SAME_MODULES, optimizer, seed))
    return found


def _mome(
    name: str, facts: Sequence[Fact], method: str, experts: int, optimizer: str, seed: int, routed: Rows
) -> StepContender:
    """Phase 2 as `memorize_facts` runs it, on the `routed` experts."""
    backbone = asked_backbone(name)
    model: Any = attach_mome(backbone, MomeConfig(num_experts=experts), seed)
    trainer = ExpertTrainer(model, backbone.tokenizer, routed, MemorySettings.model_validate({"optimizer": optimizer}))
    trainer.states.load(range(len(facts)))
    generator = numpy.random.default_rng(seed)
    model.train()
    return StepContender(
        method,
        experts,
        optimizer,
        lambda batch: float(trainer.step(batch, generator)[0].mean()),
        lambda batch: len(routed.ids[batch].unique()),
    )


def _routed(name: str, facts: Sequence[Fact], experts: int, seed: int) -> Rows:
    """The experts of the facts by a random router: its training does not change the time of a step."""
    backbone = asked_backbone(name)
    model: Any = attach_mome(backbone, MomeConfig(num_experts=experts), seed)
    train_router(model, backbone.tokenizer, facts, RouterSettings(objective="none"))
    return route_facts(model, backbone.tokenizer, facts, wordings=1)


def _lora(name: str, facts: Sequence[Fact], method: str, optimizer: str, seed: int) -> StepContender:
    """LoRA of rank 32 as `tune` trains it; "same modules" are those that the experts adapt."""
    backbone = asked_backbone(name)
    model: Any = attach_lora(backbone, lora_settings(backbone.model, method), seed)
    encoded = [encode_question(backbone.tokenizer, fact.question, fact.answer) for fact in facts]
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=LORA_RATE)
    if optimizer == "adafactor":
        made = adafactor(parameters, LORA_RATE)

    def step(chosen: list[int]) -> float:
        batch = collate([encoded[index] for index in chosen], backbone.tokenizer.pad_token_id, model.device)
        losses = answer_losses(model, batch)
        loss = losses.sum() / batch.answer_mask.sum()
        loss.backward()
        made.step()
        made.zero_grad()
        return float((losses.detach().sum(dim=1) / batch.answer_mask.sum(dim=1)).mean())

    model.train()
    return StepContender(method, 0, optimizer, step, lambda _: 0)


def lora_settings(model: Any, method: str) -> LoraSettings:
    """Rank 32 on all linear modules, or on the modules and layers that `MomeConfig()` adapts on this model."""
    if method == ALL_LINEAR:
        return LoraSettings()
    config = MomeConfig()
    pattern = "|".join(rf".*\.{module}" for module in config.target_modules or [])
    return LoraSettings(target_modules=pattern, layers=config.adapted_layers(model.config.num_hidden_layers))


def _warm_up(contenders: Sequence[StepContender], batch: list[int]) -> None:
    """Check the untrained contenders: each is the backbone, so cached states and full passes give the same loss."""
    losses = [contender.step(batch) for contender in contenders]
    if max(losses) - min(losses) > AGREEMENT:
        raise RuntimeError(f"untrained contenders disagree about the loss of the first batch: {losses}")
    for _, contender in product(range(WARM_UP_STEPS), contenders):
        contender.step(batch)


def _check_learning(table: pandas.DataFrame) -> None:
    last = table["pass"].max()
    for labels, part in table.groupby(["method", "experts", "optimizer"]):
        first, final = (part.loc[part["pass"] == number, "loss"].mean() for number in (0, last))
        if last and not final < first:
            raise RuntimeError(f"{labels}: {last} passes took the loss from {first:.3f} to {final:.3f}")
