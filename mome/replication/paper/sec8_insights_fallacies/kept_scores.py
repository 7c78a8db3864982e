"""The scores of a real model before and after memorizing, from the kept table of damage.

A live part can ask a real model only a few questions. The table has the paper's own test, MMLU (as cloze), of the same
three kinds of model, item by item.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.notebook.results import shared_table

SCORES = {"quiz_accuracy": "mmlu", "general_accuracy": "known_answers_all", "general_loss": "text_loss"}
METHODS = {"backbone": "before", "lora": "lora", "mome": "mome"}
RATES = {"before": 0.0, "lora": 2e-4, "mome": 5e-3}  # the paper's; the one chosen on a development seed
FACTS, ANSWERS = 64, "random"

Runs = Sequence[Sequence[float]]


def kept_scores(backbone: str) -> dict[tuple[str, str], list[list[float]]]:
    """The items' values of each run, by model and measure; none unless the table has all of them of this backbone.

    `quiz_accuracy` is of MMLU as cloze, `general_accuracy` the share of known questions that are answered rightly under
    all three prompts, `general_loss` that of text (nats/token). LoRA and memory experts hold `FACTS` random answers.
    """
    path = shared_table("damage")
    if not path.is_file():
        return {}
    table = pandas.read_csv(path, dtype={"items": str})
    table = table[table["backbone"] == backbone]
    found = {}
    for (model, method), (measure, name) in ((pair, score) for pair in METHODS.items() for score in SCORES.items()):
        rows = table[(table["method"] == method) & (table["measure"] == name)]
        if method != METHODS["backbone"]:
            rows = rows[(rows["facts"] == FACTS) & (rows["answers"] == ANSWERS)]
        rows = rows[rows["learning_rate"] == RATES[method]].sort_values("seed")
        if len(rows):
            found[model, measure] = [item_values(text) for text in rows["items"]]
    return found if len(found) == len(METHODS) * len(SCORES) else {}


def paired(before: Runs, after: Runs) -> tuple[Runs, Runs]:
    """The runs before, each beside its run after; one untouched model stands beside all of them.

    Raises:
        ValueError: there are several runs before, and another number after.
    """
    if len(before) == 1:
        return [before[0]] * len(after), after
    if len(before) != len(after):
        raise ValueError(f"{len(before)} runs before and {len(after)} after cannot be paired")
    return before, after
