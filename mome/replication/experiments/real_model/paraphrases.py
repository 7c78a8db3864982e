"""Random answers asked in wordings that nobody tuned: `mome table paraphrases` measures it.

The facts are those of which data/measures has a wording written by hand. Memory experts memorize a random answer for
each in three wordings. Then the facts are asked as tuned, in the shipped held-out wording, in the one by hand, and in
other prompt formats. A held-out wording has a template that other facts of the relation were trained on, by the router
at least; in the rows "template_withheld" one template of each relation is kept from everything that is trained or
calibrated. The router checks names (`least_names`; rows with 0 are older ones, without the check).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact, randomize
from mome.facts.shipped import shipped_facts
from mome.facts.templates import without_template
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.replication.damage.recall import recalled
from mome.replication.damage.sets import wordings_by_hand
from mome.replication.experiments.real_model.damaged import as_text
from mome.replication.experiments.real_model.memorizing import LEAST_NAMES
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.tables import rows_of
from mome.train.attach import TrainedMemory, router_facts, trained_memory
from mome.train.settings import AUGMENTED, MemorySettings, RouterSettings

KEY = ["backbone", "facts", "training", "seed", "least_names", "wording"]
TEXTS = ("items",)
TRAININGS = ("shipped", "template_withheld")
WORDINGS = 3  # tuned wordings of each fact


def table_rows(found: Path | None, name: str, count: int, training: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of wording: the share of facts whose exact answer comes back, fact by fact in `items`.

    Nothing is measured where the table `found` has rows of this run.

    Raises:
        ValueError: an unknown training, or fewer facts have a wording by hand.
    """
    facts = asked_facts(count, training, seed)
    if (name, count, training, seed, LEAST_NAMES) in rows_of(found, KEY[:-1]):
        return
    done = memorized(name, facts, training, seed)
    labels = dict(zip(KEY, (name, count, training, seed, LEAST_NAMES), strict=False))
    costs = {"epochs": len(done.run.curve), "seconds": done.run.seconds, "router_seconds": done.report.seconds}
    table = recalled(done.backbone.model, done.backbone.tokenizer, facts)
    for wording, part in table.groupby("wording", sort=False):
        shares = {"exact": part["exact"].mean(), "contained": part["right"].mean(), "n": len(part)}
        yield {**labels, "wording": wording, **shares, **costs, "items": as_text(part["exact"])}


def asked_facts(count: int, training: str, seed: int) -> list[Fact]:
    """The first `count` facts that have a wording by hand, with random answers."""
    if training not in TRAININGS:
        raise ValueError(f"training {training!r} is not one of {', '.join(TRAININGS)}")
    shipped = {fact.id: fact for fact in shipped_facts("unknown")}
    facts = [shipped[identity] for identity in dict.fromkeys(item.fact for item in wordings_by_hand())]
    if count > len(facts):
        raise ValueError(f"{count} facts: only {len(facts)} have a wording by hand")
    return randomize(_trained(facts[:count], training, seed), seed)


def memorized(name: str, facts: Sequence[Fact], training: str, seed: int) -> TrainedMemory:
    """Memory experts on the facts, their router trained on other shipped facts."""
    taken = [wording for fact in facts for wording in fact.all_wordings()]
    learn_from, calibration, _ = router_facts(taken, seed)
    others = [fact.question for fact in _trained(calibration, training, seed)]
    memory = MemorySettings(wordings=WORDINGS, seed=seed).but(**AUGMENTED)
    # the check of names decides nothing about training: runs with and without it are the same
    key = text_sha256(repr((name, [fact.id for fact in facts], training, memory)), 16)
    return trained_memory(
        asked_backbone(name),
        facts,
        MomeConfig(least_names=LEAST_NAMES),
        RouterSettings(seed=seed),
        memory,
        learn_from=_trained(learn_from, training, seed),
        others=others,
        checkpoint=work_folder() / "memory" / f"paraphrases-{key}",
        labels={"training": training, "backbone": name},
    )


def _trained(facts: Sequence[Fact], training: str, seed: int) -> list[Fact]:
    return without_template(facts, seed) if training == TRAININGS[1] else list(facts)
