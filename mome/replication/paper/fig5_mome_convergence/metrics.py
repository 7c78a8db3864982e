"""The metrics of figure 5 on a real language model, from the tables of its runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy
import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.experiments.real_model.memorizing import numbers
from mome.replication.notebook.results import Metric, metric

ASKED = {"held_out": "other_wordings", "by_hand": "handwritten"}
GATES = ("lora", "lora_gated", "mome")
SCOPES = ("truthfulqa", "mmlu", "lambada", "small_talk")


def run_metrics(runs: pandas.DataFrame) -> dict[str, Metric]:
    """Final loss, recall, epochs to 0.05 nats/token and seconds of each method on real and on random answers."""
    metrics = {}
    for (method, answers), group in runs.groupby(["method", "answers"], sort=False):
        end = f"{method}_{{}}_{answers}"
        reached = group["epochs_to_0.05"].fillna(group["epochs"])
        metrics[end.format("final_loss")] = metric([numbers(text).tolist() for text in group["last"]], "nats/token")
        metrics[end.format("recall")] = metric([_digits(text) for text in group["recalled"]], "share")
        metrics[end.format("epochs_to_0.05")] = metric(_single(reached), "epochs")
        metrics[end.format("seconds")] = metric(_single(group["seconds"]), "s")
    return metrics


def damage_metrics(damage: pandas.DataFrame, facts: int) -> dict[str, Metric]:
    """What random answers do to everything else: with LoRA, with LoRA behind the rejection threshold, with experts.

    `leak_<method>` and `unrelated_unchanged_<method>` are of free answers in the tuned format. Methods that the table
    does not have are left out.
    """
    after = damage[(damage["answers"] == "random") & (damage["facts"] == facts)]
    found = {}
    measured = set(after["method"])
    for method in (name for name in GATES if name in measured):
        rows = after[after["method"] == method]
        found[f"leak_{method}"] = _measured(rows, "leak_tuned_format")
        found[f"unrelated_unchanged_{method}"] = _measured(rows, "unchanged_tuned_format")
    if "mome" in measured:
        experts = after[after["method"] == "mome"]
        names = [f"same_bits_{name}" for name in ("lambada", "mmlu", "text")]
        found |= {f"{name}_mome": _measured(experts, name) for name in names}
        found |= {f"out_of_scope_{name}": _measured(experts, f"out_of_scope_{name}") for name in SCOPES}
    for method in ("lora", "mome"):
        if method not in measured:
            continue
        rows = after[after["method"] == method]
        found[f"general_accuracy_drift_{method}"] = _change(damage, rows, "known_answers", "share")
        found[f"general_loss_drift_{method}"] = _change(damage, rows, "text_loss", "nats/token")
    return found


def wording_metrics(paraphrases: pandas.DataFrame) -> dict[str, Metric]:
    """Recall of random answers in wordings that were not tuned."""
    shipped = paraphrases[paraphrases["training"] == "shipped"]
    withheld = paraphrases[paraphrases["training"] == "template_withheld"]
    found = {f"{name}_recall_mome": _items(shipped[shipped["wording"] == asked]) for asked, name in ASKED.items()}
    return found | {"template_withheld_recall_mome": _items(withheld[withheld["wording"] == "held_out"])}


def recognition_metrics(recognition: pandas.DataFrame, facts: int, promised: float) -> dict[str, Metric]:
    """Paraphrases recognized and absent facts taken, among `facts` stored ones at a `promised` false-positive rate."""
    rows = recognition[(recognition["facts"] == facts) & (recognition["promised"] == promised)]
    columns = {"recognized": "n_recognized", "absent_taken": "n_absent"}
    return {
        f"{name}_{facts}": metric([_share(share, n) for share, n in zip(rows[name], rows[count], strict=True)], "share")
        for name, count in columns.items()
    }


def _measured(rows: pandas.DataFrame, measure: str) -> Metric:
    return _items(rows[rows["measure"] == measure])


def _items(rows: pandas.DataFrame) -> Metric:
    return metric([item_values(text) for text in rows["items"]], "share")


def _change(damage: pandas.DataFrame, rows: pandas.DataFrame, measure: str, unit: str) -> Metric:
    """The mean change of a measure from the untouched backbone, paired by item."""
    untouched = damage[(damage["method"] == "before") & (damage["measure"] == measure)]["items"].iloc[0]
    before = numpy.array(item_values(untouched))
    after = rows[rows["measure"] == measure]["items"]
    return metric([(numpy.array(item_values(text)) - before).tolist() for text in after], unit)


def _share(share: float, count: int) -> list[float]:
    """So many items, of which this share is 1."""
    right, count = round(share * count), int(count)
    return [1.0] * right + [0.0] * (count - right)


def _digits(text: str) -> list[float]:
    return [float(digit) for digit in text]


def _single(values: Iterable[float]) -> list[list[float]]:
    return [[float(value)] for value in values]
