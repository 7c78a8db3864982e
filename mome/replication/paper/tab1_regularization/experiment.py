"""The runs of table 1: variations of one setting, as rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas
from tqdm.auto import tqdm

from mome.facts.fact import Fact
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.replication.experiments.abilities import general_abilities, recall
from mome.replication.experiments.lora import memorize
from mome.train.settings import LoraSettings, TuningSettings


@dataclass(frozen=True, slots=True)
class Variation:
    """One change to the base settings of a sweep: its `kind`, the changed `value`, and the settings that follow."""

    kind: str
    value: float
    tuning: TuningSettings
    lora: LoraSettings


def variations(
    tuning: TuningSettings,
    lora: LoraSettings,
    depth: int,
    *,
    learning_rates: Sequence[float],
    ranks: Sequence[int],
    top_layers: Sequence[int],
    stop_losses: Sequence[float],
) -> list[Variation]:
    """The base settings with one value changed at a time, each kind opened by the base settings themselves.

    `depth` is the backbone's number of layers; `top_layers` counts how many of the last ones are adapted.
    """
    adapted = [Variation("layers", count, tuning, lora.but(layers=_top(count, depth))) for count in top_layers]
    return [
        Variation("learning rate", tuning.learning_rate, tuning, lora),
        *(Variation("learning rate", value, tuning.but(learning_rate=value), lora) for value in learning_rates),
        Variation("rank", lora.rank, tuning, lora),
        *(Variation("rank", value, tuning, lora.but(rank=value)) for value in ranks),
        Variation("layers", depth, tuning, lora),
        *adapted,
        Variation("stop loss", tuning.stop_loss or 0.0, tuning, lora),
        *(Variation("stop loss", value, tuning.but(stop_loss=value), lora) for value in stop_losses),
    ]


def sweep_table(
    name: str, facts: Sequence[Fact], changes: Sequence[Variation], general: Sequence[Fact], **labels: Any
) -> pandas.DataFrame:
    """Tune the backbone `name` under each variation: one row with its epochs, training loss, recall, general abilities.

    Variations that come to the same settings are run and measured once, and a value listed twice gives one row.
    """
    measured: dict[str, dict[str, float]] = {}
    rows = []
    for change in tqdm(changes, desc=f"{name}: sweep", unit="run", leave=False):
        key = change.tuning.model_dump_json() + change.lora.model_dump_json()
        if key not in measured:
            done = memorize(name, facts, change.tuning, change.lora)
            numbers = {"recall": recall(done)} | general_abilities(done.backbone, general)
            measured[key] = {"epochs": len(done.run.curve), "training_loss": float(done.run.curve[-1])}
            measured[key] |= {measure: float(numpy.mean(found)) for measure, found in numbers.items()}
        rows.append({**labels, "backbone": name, "kind": change.kind, "value": change.value, **measured[key]})
    return pandas.DataFrame(rows).drop_duplicates(["kind", "value"], ignore_index=True)


def answer_table(models: dict[str, Backbone], groups: dict[str, Sequence[Fact]]) -> pandas.DataFrame:
    """Greedy answers side by side: one row a fact with its group, question, each model's answer and the gold answer."""
    facts = [(group, fact) for group, members in groups.items() for fact in members]
    table = pandas.DataFrame({"facts": [group for group, _ in facts], "question": [fact.question for _, fact in facts]})
    for title, backbone in models.items():
        table[title] = greedy_answers(backbone.model, backbone.tokenizer, table["question"].tolist())
    return table.assign(gold=[fact.answer for _, fact in facts])


def _top(count: int, depth: int) -> list[int]:
    if count > depth:
        raise ValueError(f"top_layers: {count} layers were asked for, but the backbone has {depth}")
    return list(range(depth - count, depth))
