"""The table of ablations behind figure 5: `mome table ablations TABLE.csv --seeds 3` measures it.

Each row is a run on random answers with one part of the method taken away or changed; notebook 06 reads the table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy
import pandas
from tqdm.auto import tqdm

from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.lm.losses import text_loss
from mome.replication.experiments.abilities import memory_abilities
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Memorized, Recipe
from mome.replication.experiments.pools import general_facts, select_facts, tuning_pool, with_answers
from mome.replication.notebook.backbones import asked_backbone

KEY = ["backbone", "seed", "recipe"]
EXPERTS, EPOCHS = 65_536, 60
MEASURES = ("recall", "paraphrase_recall", "general_accuracy", "general_loss_drift")
COLUMNS = ["seed", "backbone", "recipe", "epochs", "epochs_to_0.05", "seconds", *MEASURES]


def drawn_facts(name: str, facts: int, seed: int) -> list[Fact]:
    """`facts` shipped facts that the backbone `name` answers wrongly, with random answers."""
    return with_answers(select_facts(asked_backbone(name), tuning_pool("shipped"), facts, seed).facts, "random", seed)


def measured_rows(
    name: str, base: Recipe, drawn: list[Fact], facts: int, general: Sequence[Fact], only: list[str]
) -> pandas.DataFrame:
    """A row for each of the ablations `only` of the first `facts` of `drawn`: an `ablation_table`; no rows for none.

    The facts `general`, which the backbone knows, are asked before and after. The router sees neither them nor `drawn`,
    so that all runs that draw the same share one.

    Raises:
        ValueError: an ablation is unknown.
    """
    recipes, seed = ablations(base), base.memory.seed
    unknown = [title for title in only if title not in recipes]
    if unknown:
        raise ValueError(f"ablation {unknown[0]!r} is not one of {', '.join(recipes)}")
    chosen = {title: recipe for title, recipe in recipes.items() if title in only}
    if not chosen:
        return pandas.DataFrame(columns=COLUMNS)
    return ablation_table(name, drawn[:facts], chosen, general, avoid=drawn, seed=seed)


def table_rows(
    name: str, seed: int, only: list[str], facts: int, drawn: int, general: int
) -> Iterator[dict[Hashable, Any]]:
    """A row for each ablation of one seed, as soon as it is measured: `measured_rows` of the `drawn` facts."""
    base = Recipe().but(mome={"num_experts": EXPERTS}, router={"seed": seed})
    base = base.but(memory={"epochs": EPOCHS, "seed": seed})
    pool, asked = drawn_facts(name, drawn, seed), general_facts(general, seed, name)
    for title in only or ablations(base):
        yield from measured_rows(name, base, pool, facts, asked, [title]).to_dict("records")


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
    untouched = asked_backbone(name)
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
