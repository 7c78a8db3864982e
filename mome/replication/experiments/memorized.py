"""The runs of memory experts behind the notebooks: both phases, ablations, and what the tuned model still knows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pandas
from tqdm.auto import tqdm

from mome.adapter.model import mome_model
from mome.facts.fact import Fact, split
from mome.files.environment import work_folder
from mome.lm.generation import exact, text_loss
from mome.lm.loading import Backbone, load_backbone
from mome.replication.experiments.pools import Memorized, identity
from mome.replication.pretraining.corpus import shipped_facts
from mome.train.attach import attach_mome, trained_router
from mome.train.experts import memorize_facts
from mome.train.joint import train_jointly
from mome.train.router import RouterReport, question_queries
from mome.train.settings import Count, MemorySettings, MomeSettings, RouterSettings, Settings

CALIBRATION_SHARE = 5


class Recipe(Settings):
    """Everything that decides a run of memory experts; `joint` trains router and experts together (an ablation).

    `router_questions` of the shipped facts train the router and set the null key.
    """

    mome: MomeSettings = MomeSettings()
    router: RouterSettings = RouterSettings()
    memory: MemorySettings = MemorySettings()
    joint: bool = False
    router_questions: Count = 5_000

    def but(self, **changes: Any) -> Recipe:
        """A copy with changes such as `mome={"top_k": 8}`."""
        values = self.model_dump()
        for part, change in changes.items():
            values[part] = {**values[part], **change} if isinstance(change, dict) else change
        return Recipe.model_validate(values)


@dataclass(frozen=True, slots=True)
class MomeMemorized(Memorized):
    """As `Memorized`, with what phase 1 reported."""

    report: RouterReport


def router_facts(tuned: Sequence[Fact], general: Sequence[Fact], seed: int, most: int) -> tuple[list[Fact], list[str]]:
    """Facts to train the router on, and questions to set the null key by: none is tuned or counted as general.

    Both are drawn from the shipped facts, known and unknown; a fifth is held back for the null key.
    """
    taken = {fact.question for fact in (*tuned, *general)}
    free = [fact for name in ("known", "unknown") for fact in shipped_facts(name) if fact.question not in taken]
    count = min(len(free), most)
    held_back = count // CALIBRATION_SHARE
    train, calibration = split(free, [count - held_back, held_back], seed)[:2]
    return list(train), [fact.question for fact in calibration]


def memorize_mome(
    name: str, facts: Sequence[Fact], recipe: Recipe, general: Sequence[Fact], avoid: Sequence[Fact] = ()
) -> MomeMemorized:
    """Memorize `facts` with memory experts on a fresh copy of the backbone `name`, going on from this run's checkpoint.

    The router never sees the facts' questions, those of `general`, nor those of `avoid` in phase 1, except under the
    objective "language", which trains on the facts. A router of the same settings and questions is trained once.
    """
    backbone = load_backbone(name)
    seed = recipe.memory.seed
    model: Any = attach_mome(backbone, recipe.mome, seed)
    train, calibration = router_facts([*facts, *avoid], general, seed, recipe.router_questions)
    if recipe.router.objective == "language":
        train = list(facts)
    report = trained_router(model, backbone.tokenizer, train, recipe.router, identity(backbone))
    tuned = Backbone(name, model, backbone.tokenizer)
    if recipe.joint:
        run: Any = train_jointly(model, backbone.tokenizer, facts, recipe.memory, repairs=recipe.memory.repairs)
        return MomeMemorized(tuned, run, list(facts), report)
    labels = {"backbone": identity(backbone), "mome": recipe.mome.model_dump(mode="json")}
    labels |= {"router": recipe.router.model_dump(mode="json"), "questions": _digest(train, calibration)}
    run = memorize_facts(
        model,
        backbone.tokenizer,
        facts,
        recipe.memory,
        others=calibration,
        false_alarms=recipe.router.false_alarms,
        checkpoint=_checkpoint(labels, facts, recipe.memory),
        labels=labels,
    )
    return MomeMemorized(tuned, run, list(facts), report)


def with_wordings(facts: Sequence[Fact], count: int) -> list[Fact]:
    """Each fact's first `count` wordings as facts of their own, for methods that tune one question at a time."""
    return [
        replace(fact, id=f"{fact.id}#{number}", question=text, phrasings=())
        for fact in facts
        for number, text in enumerate([fact.question, *fact.phrasings][:count])
    ]


def ablations(base: Recipe) -> dict[str, Recipe]:
    """The recipe as built, and with one thing taken away or changed at a time."""
    plain: dict[str, Any] = {"mome": {"snap": False}, "router": {"false_alarms": None}}
    drawn = {**plain, "router": {"false_alarms": None, "objective": "none", "spread": False}}
    rate = 2e-4  # the paper's one learning rate (appendix A)
    said = {**drawn, "router": {**drawn["router"], "objective": "language", "learning_rate": rate}}
    none_to_choose = {**plain, "mome": {"snap": False, "num_experts": base.mome.top_k}}
    return {
        "as built": base,
        "no null key": base.but(router={"false_alarms": None}),
        "no anchors, no null key": base.but(**plain),
        "phase 1 as the paper says": base.but(**said),
        "no phase 1": base.but(**drawn),
        "router not frozen": base.but(**said, joint=True),
        "k = 8": base.but(mome={"top_k": 8}),
        "k = 1": base.but(mome={"top_k": 1}),
        "N = k, nothing to choose": base.but(**none_to_choose),
    }


def ablation_table(
    name: str,
    facts: Sequence[Fact],
    recipes: dict[str, Recipe],
    general: Sequence[Fact],
    avoid: Sequence[Fact] = (),
    **labels: Any,
) -> pandas.DataFrame:
    """One row for each recipe: epochs to 0.05 nats, recall as tuned and in unseen wording, general abilities.

    Runs on parts of the same facts share one router where `avoid` names them all.
    """
    untouched = load_backbone(name)
    before = text_loss(untouched.model, untouched.tokenizer, general)
    rows = []
    for title, recipe in tqdm(recipes.items(), desc=f"{name}: ablations", unit="run", leave=False):
        done = memorize_mome(name, facts, recipe, general, avoid)
        numbers = memory_abilities(done, general, before)
        epochs = {
            "epochs": len(done.run.curve),
            "epochs_to_0.05": done.run.epochs_to(0.05),
            "seconds": done.run.seconds,
        }
        means = {measure: float(numpy.mean(values)) for measure, values in numbers.items()}
        rows.append({**labels, "backbone": name, "recipe": title, **epochs, **means})
    return pandas.DataFrame(rows)


def memory_abilities(done: Memorized, general: Sequence[Fact], before: Sequence[float]) -> dict[str, list[float]]:
    """Per fact: recall as tuned and in unseen wording; of `general` facts: exact answers and the rise of their loss.

    `before` is the untouched backbone's `text_loss` of `general` (nats/token).
    """
    model, tokenizer = done.backbone.model, done.backbone.tokenizer
    after = text_loss(model, tokenizer, general)
    return {
        "recall": [float(right) for right in exact(model, tokenizer, done.facts)],
        "paraphrase_recall": [float(right) for right in exact(model, tokenizer, done.facts, held_out=True)],
        "general_accuracy": [float(right) for right in exact(model, tokenizer, general)],
        "general_loss_drift": [late - early for late, early in zip(after, before, strict=True)],
    }


def expert_overlap(done: Memorized) -> dict[str, list[float]]:
    """Shares of a fact's experts that others pick by their keys alone: its unseen wording, and the next fact."""
    mome = mome_model(done.backbone.model)
    assert mome is not None
    wordings = {"own": [fact.question for fact in done.facts], "other": [fact.held_out[0] for fact in done.facts]}
    ids = {
        kind: mome.router.select(question_queries(done.backbone.model, done.backbone.tokenizer, texts))[0].tolist()
        for kind, texts in wordings.items()
    }
    shift = [*ids["own"][1:], ids["own"][0]]
    return {
        "paraphrase": [_share(own, other) for own, other in zip(ids["own"], ids["other"], strict=True)],
        "other": [_share(own, other) for own, other in zip(ids["own"], shift, strict=True)],
    }


def _share(own: list[int], other: list[int]) -> float:
    return len({*own} & {*other}) / len(own)


def _digest(train: Sequence[Fact], calibration: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([[fact.id for fact in train], list(calibration)]).encode()).hexdigest()[:16]


def _checkpoint(labels: dict[str, Any], facts: Sequence[Fact], memory: MemorySettings) -> Path:
    key = json.dumps([labels, [fact.id + fact.answer for fact in facts], memory.model_dump(mode="json")])
    return work_folder() / "memory" / hashlib.sha256(key.encode()).hexdigest()[:16]
