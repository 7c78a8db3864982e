"""The runs of memory experts behind the notebooks: both phases of training, kept from one notebook to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mome.facts.fact import Fact
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.lm.decoder import decoder_layers
from mome.lm.loading import identity
from mome.replication.experiments.plan import Memorized, Recipe
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import routed_backbone, router_facts, trained_memory
from mome.train.joint import train_jointly
from mome.train.router import RouterReport
from mome.train.settings import MemorySettings


@dataclass(frozen=True, slots=True)
class MomeMemorized(Memorized):
    """As `Memorized`, with what phase 1 reported."""

    report: RouterReport


def memorize_mome(
    name: str, facts: Sequence[Fact], recipe: Recipe, general: Sequence[Fact], avoid: Sequence[Fact] = ()
) -> MomeMemorized:
    """Memorize `facts` with memory experts on a fresh copy of the backbone `name`, going on from this run's checkpoint.

    The router never sees the facts' questions, those of `general`, nor those of `avoid` in phase 1, except under the
    objective "language", which trains on the facts. A router of the same settings and questions is trained once.
    """
    backbone, seed = asked_backbone(name), recipe.memory.seed
    avoided = [fact.question for fact in (*facts, *avoid, *general)]
    train, calibration, _ = router_facts(avoided, seed, recipe.router_questions)
    others = [fact.question for fact in calibration]
    if recipe.router.objective == "language":
        train = list(facts)
    if recipe.joint:
        routed, report = routed_backbone(backbone, recipe.mome, recipe.router, train, seed)
        run = train_jointly(routed.model, routed.tokenizer, facts, recipe.memory, repairs=recipe.memory.repairs)
        return MomeMemorized(routed, run, list(facts), report)
    labels = {"backbone": identity(backbone), "mome": recipe.mome.label(len(decoder_layers(backbone.model)))}
    labels |= {"router": recipe.router.model_dump(mode="json"), "questions": _digest(train, others)}
    done = trained_memory(
        backbone,
        facts,
        recipe.mome,
        recipe.router,
        recipe.memory,
        learn_from=train,
        others=others,
        checkpoint=_checkpoint(labels, facts, recipe.memory),
        labels=labels,
    )
    return MomeMemorized(done.backbone, done.run, list(facts), done.report)


def _digest(train: Sequence[Fact], calibration: Sequence[str]) -> str:
    return text_sha256(json.dumps([[fact.id for fact in train], list(calibration)]), 16)


def _checkpoint(labels: dict[str, Any], facts: Sequence[Fact], memory: MemorySettings) -> Path:
    key = json.dumps([labels, [fact.id + fact.answer for fact in facts], memory.model_dump(mode="json")])
    return work_folder() / "memory" / text_sha256(key, 16)
