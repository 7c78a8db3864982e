"""Our own bill: the cost of memorizing facts by full fine-tuning, LoRA and memory experts, on this machine.

A run is timed without a counter; its FLOPs follow from the shapes that went through the decoder, by closed forms. A
second, shorter run of the same steps is counted by torch, and the closed forms must agree with it. `mome table cost
TABLE.csv --facts 1000 --seeds 3` measures the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from tqdm.auto import tqdm

from mome.adapter.config import MomeConfig, balanced_factor
from mome.facts.fact import Fact
from mome.files.records import Count, Settings
from mome.lm.generation import exact
from mome.replication.counting.flops import LLAMA_3_8B, lookup
from mome.replication.counting.meter import FULL, LORA, METHODS, MOME, ROUTER, Meter, Seen, closed_form
from mome.replication.experiments.pools import random_facts
from mome.replication.notebook.backbones import asked_backbone
from mome.train.anchoring import set_null_key
from mome.train.attach import attach_mome, routed_backbone, router_facts
from mome.train.experts import MemoryRun, memorize_facts
from mome.train.lora import attach_lora
from mome.train.router import train_router
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings, TuningSettings
from mome.train.tuning import TuningRun, tune

AGREEMENT = 0.01
KEY = ["method", "backbone", "seed", "facts", "experts"]


class CostPlan(Settings):
    """How each method memorizes: full fine-tuning and LoRA by `tune`, memory experts in two phases.

    The learning rates of full fine-tuning and LoRA are ours, chosen for 1,000 random answers on seed 0 (LOG.md has the
    trials); all else is as in the other notebooks.
    `router_questions` of the shipped facts train the router, a quarter as many set the rejection threshold.
    """

    full: TuningSettings = TuningSettings(learning_rate=5e-4, stop_loss=0.01)
    lora: TuningSettings = TuningSettings(learning_rate=1e-3, stop_loss=0.01)
    adapter: LoraSettings = LoraSettings()
    mome: MomeConfig = MomeConfig(num_experts=2**20)
    router: RouterSettings = RouterSettings()
    memory: MemorySettings = MemorySettings()
    router_questions: Count = 4_000

    def rank(self, method: str) -> int:
        """Of LoRA, or the experts of a question."""
        return self.adapter.rank if method == LORA else self.mome.top_k

    def shortened(self, epochs: int) -> CostPlan:
        """The same, ended after `epochs` epochs, whatever they reached."""
        given = {"epochs": epochs, "stop_loss": None}
        return self.but(full=given, lora=given, memory={"epochs": epochs, "repairs": 0})


def bill_rows(
    name: str, sizes: Sequence[int], plan: CostPlan, methods: Sequence[str] = METHODS, counted_epochs: int = 1
) -> Iterator[dict[str, Any]]:
    """Memorize random answers with every method and number of facts: one row each, as `measure_cost` gives them.

    Memory experts come after a row `router`, phase 1, which is paid once for a backbone.

    Raises:
        ValueError: an unknown method, or more facts than are shipped.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(METHODS)}")
    pool = random_facts(max(sizes), plan.lora.seed)
    for method in methods:
        if method == MOME:
            yield measure_router(name, pool, plan)
        for size in tqdm(sizes, desc=f"bill: {method}", unit="run", leave=False):
            yield measure_cost(method, name, pool[:size], pool, plan, counted_epochs)


def measure_cost(
    method: str, name: str, facts: Sequence[Fact], pool: Sequence[Fact], plan: CostPlan, counted_epochs: int = 1
) -> dict[str, Any]:
    """Memorize `facts` on a fresh copy of the backbone `name`, timed; then count `counted_epochs` of the same steps.

    The router never sees a question of `pool`. Columns: method, backbone, seed, facts, experts (N, else 0), epochs,
    visits (training rows), recall (share of exact free answers), seconds and cpu_seconds (of the memorizing alone, for
    memory experts with routing and final checks), flops (closed form), flops_8b (the same passes on a Llama 3 8B),
    late_over_early (median CPU time of a step in the last third of the steps over the first), fixed_cpu_seconds and
    fixed_flops (setting the rejection threshold, whatever the number of facts), and those of `count`.

    Raises:
        RuntimeError: the count and the closed form differ.
    """
    job, rank = _job(method, name, facts, pool, plan), plan.rank(method)
    with Meter(job.model) as meter:
        run = job.train()
    with Meter(job.model) as fixed:
        job.settle()
    done = {
        "epochs": len(run.curve),
        "visits": run.visits if isinstance(run, MemoryRun) else run.losses.size,
        "recall": float(numpy.mean(exact(job.model, job.tokenizer, facts))),
        "seconds": meter.seconds,
        "cpu_seconds": meter.cpu_seconds,
        "flops": closed_form(method, job.model, meter.passes, rank),
        "flops_8b": closed_form(method, job.model, meter.passes, rank, LLAMA_3_8B),
        "late_over_early": late_over_early(meter.passes, meter.cpu_seconds),
        "fixed_cpu_seconds": fixed.cpu_seconds,
        "fixed_flops": closed_form(method, job.model, fixed.passes, rank),
    }
    labels = {"method": method, "backbone": name, "seed": plan.lora.seed, "facts": len(facts)}
    experts = plan.mome.num_experts if method == MOME else 0
    return {**labels, "experts": experts, **done, **count(method, name, facts, pool, plan, counted_epochs)}


def count(
    method: str, name: str, facts: Sequence[Fact], pool: Sequence[Fact], plan: CostPlan, epochs: int = 1
) -> dict[str, int]:
    """The FLOPs of `epochs` epochs as torch counts them: `counted` in all, `counted_steps` in training steps alone.

    `closed_steps` is the closed form of those steps.

    Raises:
        RuntimeError: the two differ by more than 1% (on a CPU, where attention is eager, they are the same).
    """
    job = _job(method, name, facts, pool, plan.shortened(epochs))
    with Meter(job.model, counting=True) as meter:
        job.train()
    steps, rank = [seen for seen in meter.passes if seen.learns], plan.rank(method)
    counted, closed = meter.counted_steps(), closed_form(method, job.model, steps, rank)
    if abs(counted - closed) > AGREEMENT * counted:
        raise RuntimeError(f"{method}: torch counts {counted:,} FLOPs in the steps, the closed form says {closed:,}")
    return {"counted": meter.counted or 0, "counted_steps": counted, "closed_steps": closed}


def count_by_experts(name: str, facts: int, experts: Sequence[int], plan: CostPlan) -> dict[int, int]:
    """The FLOPs of one epoch of memory experts for each number of experts N.

    They are torch's count and the closed form of the lookups, which torch does not count.
    """
    pool, found = random_facts(facts, plan.memory.seed), {}
    for size in experts:
        rows = balanced_factor(size)
        counted = count(MOME, name, pool, pool, plan.but(mome={"num_experts": size}))["counted"]
        found[size] = counted + lookup(facts, (rows, size // rows), MomeConfig().key_size)
    return found


@dataclass(frozen=True, slots=True)
class _Job:
    """The work to be metered: `train` memorizes the facts, `settle` does once what does not depend on them."""

    model: Any
    tokenizer: Any
    train: Callable[[], TuningRun]
    settle: Callable[[], None]


def _job(method: str, name: str, facts: Sequence[Fact], pool: Sequence[Fact], plan: CostPlan) -> _Job:
    if method == MOME:
        return _memory_experts(name, facts, pool, plan)
    backbone, settings = asked_backbone(name), plan.full if method == FULL else plan.lora
    model: Any = backbone.model
    if method == FULL:
        model.requires_grad_(True)
    else:
        model = attach_lora(backbone, plan.adapter, settings.seed)
    return _Job(model, backbone.tokenizer, lambda: tune(model, backbone.tokenizer, facts, settings), lambda: None)


def _memory_experts(name: str, facts: Sequence[Fact], pool: Sequence[Fact], plan: CostPlan) -> _Job:
    """The rejection threshold is set after training, which it does not change, so that it can be billed apart."""
    questions, others = _router_questions(pool, plan)
    backbone, _ = routed_backbone(asked_backbone(name), plan.mome, plan.router, questions, plan.memory.seed)
    model, tokenizer = backbone.model, backbone.tokenizer
    return _Job(
        model,
        tokenizer,
        lambda: memorize_facts(model, tokenizer, facts, plan.memory),
        lambda: set_null_key(model, tokenizer, others, plan.router.false_alarms or 0.0),
    )


def _router_questions(pool: Sequence[Fact], plan: CostPlan) -> tuple[list[Fact], list[str]]:
    train, calibration, _ = router_facts([fact.question for fact in pool], plan.memory.seed)
    most = plan.router_questions
    return train[:most], [fact.question for fact in calibration[: max(1, most // 4)]]


def measure_router(name: str, pool: Sequence[Fact], plan: CostPlan) -> dict[str, Any]:
    """Phase 1 as `measure_cost` bills it, never from a kept router: timed, then trained again and counted in full.

    `visits` are its pairs of wordings; `flops` are the counted ones.
    """
    found = {}
    for counting in (False, True):
        backbone = asked_backbone(name)
        model: Any = attach_mome(backbone, plan.mome, plan.memory.seed)
        questions, _ = _router_questions(pool, plan)
        with Meter(model, counting) as meter:
            train_router(model, backbone.tokenizer, questions, plan.router)
        found[counting] = meter
    timed, counted = found[False], found[True].counted
    return {
        **{"method": ROUTER, "backbone": name, "seed": plan.memory.seed, "facts": 0},
        **{"experts": plan.mome.num_experts, "visits": plan.router.steps * plan.router.batch_size},
        **{"seconds": timed.seconds, "cpu_seconds": timed.cpu_seconds, "flops": counted, "counted": counted},
    }


def late_over_early(passes: Sequence[Seen], end: float) -> float:
    """Median CPU time of a training step in the last third of the steps, over that in the first; NaN below 6 steps."""
    starts = [seen.cpu for seen in passes if seen.learns]
    steps = numpy.diff([*starts, end])
    third = len(steps) // 3
    return float(numpy.median(steps[-third:]) / numpy.median(steps[:third])) if third > 1 else float("nan")
