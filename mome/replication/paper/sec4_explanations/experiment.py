"""Section 4 as experiments: each proposed cause of hallucination alone, at high and at near-zero training loss.

LoRA memory tuning is stopped at a high and at a near-zero loss, memory experts at their target, on the same facts. All
questions are answered by free generation. `mome table explanations TABLE.csv --seeds 3` measures the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from tqdm.auto import tqdm

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.files.records import Count, Positive, Settings
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import select_facts
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.paper.sec4_explanations.answers import measure_answers
from mome.replication.paper.sec4_explanations.conditions import (
    CONDITIONS,
    HIGH,
    MOME,
    ZERO,
    Condition,
    conditions,
    loss_floor,
    rows_per_question,
)
from mome.train.experts import MemoryRun, memorize_facts
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import TuningRun, tune

MODELS = (HIGH, ZERO, MOME)
KEY = ["backbone", "seed", "cause", "model"]


class ExplanationsPlan(Settings):
    """How the models of section 4's experiments are trained; all of it is our choice.

    `facts` are tuned and as many stay missing. LoRA stops at a mean loss of `high_loss` or `zero_loss` (nats/token, an
    epoch's own, before its updates; less is left after them). The learning rate is a quarter of that of the other
    notebooks, so that an epoch is a small step at the high stop. Rows in conflict have no near-zero stop: each question
    is trained on `conflict_visits` times, then half as often at a tenth and a hundredth of the learning rate. `samples`
    answers are drawn for a question at a temperature.
    """

    facts: Count = 64
    samples: Count = 8
    high_loss: Positive = 2.0
    zero_loss: Positive = 0.01
    conflict_visits: Count = 100
    tuning: TuningSettings = TuningSettings(learning_rate=5e-4)
    adapter: LoraSettings = LoraSettings()
    recipe: Recipe = Recipe().but(router={"steps": 200}, router_questions=3_000)


@dataclass(frozen=True, slots=True)
class Trained:
    """A model tuned under a condition, with the run of its last stage."""

    backbone: Backbone
    run: TuningRun


def explanation_rows(
    name: str, plan: ExplanationsPlan, chosen: Sequence[str] = CONDITIONS, models: Sequence[str] = MODELS
) -> Iterator[dict[str, Any]]:
    """Train each model under each condition on the backbone `name`, and ask: a row for each cause (`measure_answers`).

    Raises:
        ValueError: an unknown condition or model, or too few facts are shipped.
    """
    for kind, names, valid in (("condition", chosen, CONDITIONS), ("model", models, MODELS)):
        if unknown := [each for each in names if each not in valid]:
            raise ValueError(f"{kind} {unknown[0]!r} is not one of {', '.join(valid)}")
    seed, pool = plan.tuning.seed, shipped_facts("unknown")
    if 2 * plan.facts > len(pool):
        raise ValueError(f"{plan.facts} facts and as many missing ones: only {len(pool)} are shipped")
    facts = select_facts(asked_backbone(name), pool, 2 * plan.facts, seed).facts
    found = conditions(facts[: plan.facts], facts[plan.facts :], pool, plan.samples, seed)
    originals = {fact.id: fact for fact in pool}
    used = {row.id.rpartition("#")[0] for row in found["skew"].stages[0]} & originals.keys()
    avoid = [*facts, *(originals[identity] for identity in sorted(used))]
    for condition in tqdm([found[each] for each in chosen], desc=f"{name}: causes", unit="condition", leave=False):
        for model in models:
            trained = train_mome(name, condition, plan, avoid) if model == MOME else train(name, condition, plan, model)
            labels = {"backbone": name, "seed": seed, "model": model, **training_report(trained, condition)}
            for asked in condition.asked:
                yield from (
                    {**labels, **row} for row in measure_answers(trained.backbone, asked, condition.count, model, seed)
                )


def train(name: str, condition: Condition, plan: ExplanationsPlan, level: str) -> Trained:
    """Tune a fresh LoRA on the rows of each stage, down to the `level` ("high" or "zero") of training loss."""
    stop = plan.high_loss if level == HIGH else plan.zero_loss
    rows = condition.stages[0]
    settings = plan.tuning.but(stop_loss=stop)
    conflict = level == ZERO and loss_floor(rows) > 0
    if conflict:
        settings = plan.tuning.but(epochs=_conflict_epochs(rows, plan), stop_loss=None)
    done = memorize(name, rows, settings, plan.adapter)
    model, tokenizer, run = done.backbone.model, done.backbone.tokenizer, done.run
    later = [(stage, settings) for stage in condition.stages[1:]]
    if conflict:
        epochs = max(1, settings.epochs // 2)
        rates = [settings.learning_rate / 10, settings.learning_rate / 100]
        later = [(rows, settings.but(epochs=epochs, learning_rate=rate)) for rate in rates]
    for stage, changed in later:
        run = tune(model, tokenizer, stage, changed)
    return Trained(done.backbone, run)


def train_mome(name: str, condition: Condition, plan: ExplanationsPlan, avoid: Sequence[Fact]) -> Trained:
    """Memorize the rows of each stage with memory experts; rows in conflict for a bounded number of epochs only.

    The router is trained without the facts to `avoid`, the same ones in all conditions.
    """
    recipe, rows = plan.recipe, condition.stages[0]
    if loss_floor(rows) > 0:
        bounded = {"epochs": min(recipe.memory.epochs, _conflict_epochs(rows, plan)), "repairs": 0}
        recipe = recipe.but(memory=bounded)
    done = memorize_mome(name, rows, recipe, [], avoid)
    run: TuningRun = done.run
    for stage in condition.stages[1:]:
        run = memorize_facts(done.backbone.model, done.backbone.tokenizer, stage, recipe.memory)
    return Trained(done.backbone, run)


def training_report(trained: Trained, condition: Condition) -> dict[str, Any]:
    """Where training of the last stage ended.

    Columns: trained_loss (mean over the rows, nats/answer, measured after training), floor (the least possible, same
    unit), tokens (mean of an answer, end of sequence included), epochs, seconds, rows, failed (rows that memory
    experts report as not memorized).
    """
    rows = condition.stages[-1]
    losses = fact_losses(trained.backbone.model, trained.backbone.tokenizer, rows)
    return {
        "trained_loss": float(numpy.mean([tokens.sum() for tokens in losses])),
        "floor": loss_floor(rows),
        "tokens": float(numpy.mean([len(tokens) for tokens in losses])),
        "epochs": len(trained.run.curve),
        "seconds": trained.run.seconds,
        "rows": len(rows),
        "failed": len(trained.run.failed) if isinstance(trained.run, MemoryRun) else 0,
    }


def _conflict_epochs(rows: Sequence[Fact], plan: ExplanationsPlan) -> int:
    return min(plan.tuning.epochs, max(1, plan.conflict_visits // rows_per_question(rows)))
