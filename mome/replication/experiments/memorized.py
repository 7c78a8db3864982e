"""The runs of memory experts behind the notebooks: both phases of training, kept from one notebook to the next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.lm.loading import Backbone, identity, load_backbone
from mome.replication.experiments.plan import Memorized, Recipe
from mome.train.attach import attach_mome, trained_router
from mome.train.experts import memorize_facts
from mome.train.joint import train_jointly
from mome.train.router import RouterReport
from mome.train.settings import MemorySettings

CALIBRATION_SHARE = 5


@dataclass(frozen=True, slots=True)
class MomeMemorized(Memorized):
    """As `Memorized`, with what phase 1 reported."""

    report: RouterReport


def router_facts(tuned: Sequence[Fact], general: Sequence[Fact], seed: int, most: int) -> tuple[list[Fact], list[str]]:
    """Facts to train the router, and questions to set the rejection threshold: none is tuned or counted as general.

    Both are drawn from the shipped facts, known and unknown; a fifth is held back for the rejection threshold.
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
    labels = {"backbone": identity(backbone), "mome": recipe.mome.label()}
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


def _digest(train: Sequence[Fact], calibration: Sequence[str]) -> str:
    return text_sha256(json.dumps([[fact.id for fact in train], list(calibration)]), 16)


def _checkpoint(labels: dict[str, Any], facts: Sequence[Fact], memory: MemorySettings) -> Path:
    key = json.dumps([labels, [fact.id + fact.answer for fact in facts], memory.model_dump(mode="json")])
    return work_folder() / "memory" / text_sha256(key, 16)
