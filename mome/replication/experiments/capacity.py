"""How much memory experts can hold: runs of many sizes, with recall, cost and bits for each parameter.

A random answer of n characters out of 36 has n log2(36) bits, 165.4 for the paper's 32. It cannot be known without
storing them. So a number of recalled facts is a number of bits, which the number of parameters bounds.
`mome table capacity TABLE.csv --facts 256 --experts 1024` measures the table.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy
import pandas
from tqdm.auto import tqdm

from mome.adapter.model import mome_model
from mome.facts.fact import ALPHABET, Fact
from mome.lm.generation import exact
from mome.lm.losses import fact_losses, text_loss
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Memorized, Recipe
from mome.replication.experiments.pools import general_facts, random_facts
from mome.replication.notebook.backbones import asked_backbone

KEY = ["backbone", "seed", "facts", "experts", "characters"]
# bits a parameter holds at most: Allen-Zhu and Li, "Physics of Language Models: Part 3.3" (arXiv 2404.05405), facts
# seen 1,000 times; Morris et al., "How much do language models memorize?" (arXiv 2505.24832), random strings
LITERATURE = {"Allen-Zhu & Li 2024": 2.0, "Morris et al. 2025": 3.6}


def answer_bits(length: int = 32) -> float:
    """The information in a random answer of `length` characters, in bits."""
    return length * math.log2(len(ALPHABET))


def memorize_points(
    name: str,
    points: Sequence[tuple[int, int]],
    recipe: Recipe,
    general: Sequence[Fact],
    *,
    pool: int,
    length: int = 32,
    **labels: Any,
) -> pandas.DataFrame:
    """Memorize random answers at each point (number of facts, number of experts): one row with all that was measured.

    No fact of a pool of `pool` facts is shown to the router, so that calls with the same pool share one. Recall and
    general accuracy are shares of exact free answers, `drift` the rise of the general loss (nats/token), `drift_plain`
    that without anchors and rejection, `seconds` those of phase 2; `shared` is the share of the touched rows that more
    than one fact has; each of the `checks` after the first brought facts back that others had disturbed; `visits`
    counts the training rows of a fact, repairs too.

    Raises:
        ValueError: a point has more facts than the pool, or the pool more than are shipped.
    """
    seed = recipe.memory.seed
    largest = random_facts(pool, seed, length)
    if max(facts for facts, _ in points) > pool:
        raise ValueError(f"a point has more facts than the pool of {pool}: {points}")
    untouched = asked_backbone(name)
    before = text_loss(untouched.model, untouched.tokenizer, general)
    rows = []
    for count, experts in tqdm(points, desc="memorizing", unit="point", leave=False):
        sized = recipe.but(mome={"num_experts": experts, "top_k": min(recipe.mome.top_k, experts)})
        done: Any = memorize_mome(name, largest[:count], sized, general, avoid=largest)
        model, tokenizer, run = done.backbone.model, done.backbone.tokenizer, done.run
        drift = numpy.subtract(text_loss(model, tokenizer, general), before)
        measured = {
            "general_accuracy": float(numpy.mean(exact(model, tokenizer, general))),
            "drift": float(drift.mean()),
            "drift_plain": float(numpy.subtract(_plain_loss(done, general), before).mean()),
            "epochs": len(run.curve),
            "visits": run.visits / count,
            "checks": run.rounds,
            "failed": len(run.failed),
            "seconds": run.seconds,
        }
        rows.append({**labels, "seed": seed, "facts": count, "experts": experts, **measured, **stored(done, length)})
    return pandas.DataFrame(rows)


def _plain_loss(done: Memorized, general: Sequence[Fact]) -> list[float]:
    """The general loss if every question takes the experts with the most similar keys, as in the paper."""
    mome = mome_model(done.backbone.model)
    assert mome is not None
    kept = mome.router.min_score, mome.router.snap
    try:
        mome.router.min_score, mome.router.snap = None, False
        return text_loss(done.backbone.model, done.backbone.tokenizer, general)
    finally:
        mome.router.min_score, mome.router.snap = kept


def stored(done: Memorized, length: int) -> dict[str, float]:
    """Recall, what `done` holds of its random answers of `length` characters, and in how many parameters.

    `bits_recalled` counts the facts recalled exactly; `bits_stored` also counts partial knowledge: the answer's
    bits less its loss, where that is more than zero. `parameters` are those of the bank,
    `touched_parameters` those of the rows that were trained.
    """
    mome = mome_model(done.backbone.model)
    assert mome is not None
    model, tokenizer = done.backbone.model, done.backbone.tokenizer
    losses = numpy.array([values[:-1].sum() for values in fact_losses(model, tokenizer, done.facts)]) / math.log(2)
    recalled = exact(model, tokenizer, done.facts)
    _, counts = mome.router.anchors.tensors()["ids"].unique(return_counts=True)
    width = sum(mome.bank.width(module) for module in mome.bank.shapes)
    return {
        "recall": float(numpy.mean(recalled)),
        "characters": length,
        "bits_asked": len(done.facts) * answer_bits(length),
        "bits_recalled": sum(recalled) * answer_bits(length),
        "bits_stored": float(numpy.clip(answer_bits(length) - losses, 0, None).sum()),
        "parameters": mome.bank.num_experts * width,
        "touched_parameters": len(mome.bank.touched()) * width,
        "touched": len(mome.bank.touched()),
        "shared": float((counts > 1).double().mean()),
    }


def table_rows(
    backbone: str, seed: int, facts: Sequence[int], experts: Sequence[int], length: int, pool: int, general: int
) -> Iterator[dict[Hashable, Any]]:
    """A row for each number of facts and of experts of one seed, as soon as it is measured by `memorize_points`."""
    recipe = Recipe().but(router={"seed": seed}, memory={"seed": seed})
    asked = general_facts(general, seed)
    for point in product(facts, experts):
        found = memorize_points(backbone, [point], recipe, asked, pool=pool, length=length, backbone=backbone)
        yield from found.to_dict("records")
