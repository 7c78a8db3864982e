"""Which layer the router should read and which layers to adapt, on a backbone of any depth: `mome table layers`.

Each cell memorizes the same random answers. The router's layers are compared with the default layers adapted, and the
adapted layers with the default layer read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
import pandas

from mome.adapter.anchors import least_score
from mome.adapter.config import MomeConfig
from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.lm.decoder import decoder_layers
from mome.lm.loading import Backbone
from mome.replication.experiments.abilities import recall
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Recipe
from mome.replication.experiments.pools import general_facts, random_facts
from mome.replication.experiments.real_model.recognition import PROMISED, Seen
from mome.replication.notebook.backbones import asked_backbone

QUESTIONS, ASKED = 500, 250  # shipped facts that train the router; those asked in held-out wordings


@dataclass(frozen=True, slots=True)
class Cell:
    """One run: the router reads `router_layer`, the last `adapted` layers get experts, `facts` facts are memorized."""

    backbone: str
    router_layer: int
    adapted: int
    facts: int
    seed: int


KEY = list(Cell.__dataclass_fields__)


def cells(
    backbone: str, router_layers: Sequence[int], adapted: Sequence[int], facts: int, seeds: Sequence[int]
) -> list[Cell]:
    """The cells of each seed in turn: every router's layer, then every number of adapted layers.

    Raises:
        ValueError: the backbone does not have a layer, or one to adapt would lie below the one that the router reads.
    """
    depth = len(decoder_layers(asked_backbone(backbone).model))
    layer, usual = MomeConfig().read_layer(depth), MomeConfig().adapted_layers(depth) or []
    pairs = [(read, len(usual)) for read in router_layers] + [(layer, count) for count in adapted]
    for read, count in pairs:
        MomeConfig(router_layer=read, layers_to_transform=list(range(depth - count, depth))).adapted_layers(depth)
    return [Cell(backbone, read, count, facts, seed) for seed in seeds for read, count in dict.fromkeys(pairs)]


def table_rows(
    found: Path | None, wanted: Sequence[Cell], questions: int = QUESTIONS, asked: int = ASKED
) -> Iterator[dict[str, Any]]:
    """The row of each wanted cell that the table `found` does not have, as soon as `run_row` has measured it."""
    there = pandas.read_csv(found) if found and found.exists() else pandas.DataFrame(columns=KEY)
    measured = {tuple(row) for row in there[KEY].itertuples(index=False)}
    for cell in wanted:
        if tuple(asdict(cell).values()) not in measured:
            yield run_row(cell, questions, asked)


def run_row(cell: Cell, questions: int, asked: int) -> dict[str, Any]:
    """Memorize random answers as the cell says, and measure.

    `questions` shipped facts train the router, none of them among the `asked` that are asked in held-out wordings.
    `recall` and `recall_held_out` are shares of exact free answers; `seconds` are those of the experts' training;
    `numbers_per_fact` the trained parameters over the facts.
    """
    depth = len(decoder_layers(asked_backbone(cell.backbone).model))
    chosen = {"router_layer": cell.router_layer, "layers_to_transform": list(range(depth - cell.adapted, depth))}
    recipe = Recipe(router_questions=questions).but(mome=chosen, router={"seed": cell.seed}, memory={"seed": cell.seed})
    facts, known = random_facts(cell.facts, cell.seed), general_facts(2 * asked, cell.seed)
    done: Any = memorize_mome(cell.backbone, facts, recipe, known)
    mome = mome_model(done.backbone.model)
    assert mome is not None
    width = sum(mome.bank.width(module) for module in mome.bank.shapes)
    return {
        **asdict(cell),
        "recall": float(numpy.mean(recall(done))),
        "recall_held_out": float(numpy.mean(recall(done, held_out=True))),
        "epochs": len(done.run.curve),
        "failed": len(done.run.failed),
        "seconds": done.run.seconds,
        "router_seconds": done.report.seconds,
        "numbers_per_fact": len(mome.bank.touched()) * width / cell.facts,
        **recognized(done.backbone, known[:asked], known[asked:]),
        "router_questions": questions,
        "asked": asked,
    }


def recognized(backbone: Backbone, facts: Sequence[Fact], absent: Sequence[Fact]) -> dict[str, float]:
    """The share of `facts` that the router recognizes in a held-out wording among all of them, by rate of `PROMISED`.

    The threshold is the one that lets this share of the questions of `absent` pass. Nothing is memorized for it.
    """
    seen = Seen(backbone, facts)
    strangers = seen.scores([fact.question for fact in absent])
    return {f"recognized_{rate:g}": float(seen.recognized(least_score(strangers, rate)).mean()) for rate in PROMISED}
