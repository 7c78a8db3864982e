"""LoRA tuned in three wordings of each fact and asked a fourth: `mome table lora-wordings TABLE.csv --seeds 3`.

A run takes half a minute, so notebook 06 takes what it gave from the table, where the table has that very run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pandas

from mome.facts.fact import Fact, with_wordings
from mome.lm.losses import text_loss
from mome.replication.experiments.abilities import memory_abilities
from mome.replication.experiments.lora import memorize, run_key
from mome.replication.experiments.plan import Memorized
from mome.replication.experiments.pools import general_facts, select_facts, tuning_pool, with_answers
from mome.replication.notebook.backbones import asked_backbone
from mome.train.settings import LoraSettings, TuningSettings

KEY = ["run", "fact"]
TEXTS = {"run": str}  # 16 hexadecimal digits, which may look like a number
WORDINGS = 3  # of a fact's four that are tuned; the last is asked
# the parameters of notebook 06, so that it finds its runs in the table
TUNING = TuningSettings(epochs=100, learning_rate=0.002, stop_loss=0.01)
BY_FACT = ("recall", "paraphrase_recall")  # the other two are of the general facts: the table has a run's mean of each


def lora_abilities(
    name: str,
    told: Sequence[Fact],
    tuning: TuningSettings,
    general: Sequence[Fact],
    before: Sequence[float],
    table: Path | None = None,
) -> dict[str, list[float]]:
    """The `memory_abilities` of a LoRA tuned on the facts `told`, or what `table` has of the same run.

    A run is the same if backbone, facts, answers and settings are (`run_key`). Of the `general` facts the table has
    the run's means alone. `before` is the untouched backbone's loss of these (nats/token).
    """
    worded = with_wordings(told, WORDINGS)
    kept = (
        pandas.read_csv(table, dtype=TEXTS) if table is not None and table.exists() else pandas.DataFrame(columns=KEY)
    )
    rows = kept[kept["run"] == run_key(asked_backbone(name), worded, tuning, LoraSettings())]
    if len(rows):
        return {measure: rows[measure].tolist() for measure in (*BY_FACT, "general_accuracy", "general_loss_drift")}
    done = memorize(name, worded, tuning, LoraSettings())
    return memory_abilities(Memorized(done.backbone, done.run, facts=list(told)), general, before)


def table_rows(name: str, seed: int, answers: str, facts: int, drawn: int, general: int) -> Iterator[dict[str, Any]]:
    """A row for each of the first `facts` of the `drawn` facts, once LoRA was tuned on them."""
    backbone, asked = asked_backbone(name), general_facts(general, seed, name)
    pool = select_facts(backbone, tuning_pool("shipped"), drawn, seed).facts
    told, tuning = with_answers(pool[:facts], answers, seed), TUNING.model_copy(update={"seed": seed})
    before = text_loss(backbone.model, backbone.tokenizer, asked)
    found = lora_abilities(name, told, tuning, asked, before)
    run = run_key(backbone, with_wordings(told, WORDINGS), tuning, LoraSettings())
    means = {measure: float(numpy.mean(found[measure])) for measure in found if measure not in BY_FACT}
    for place, fact in enumerate(told):
        labels = {"run": run, "backbone": name, "seed": seed, "answers": answers, "fact": fact.id}
        yield {**labels, **{measure: found[measure][place] for measure in BY_FACT}, **means}
