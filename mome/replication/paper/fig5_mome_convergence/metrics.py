"""The metrics of figure 5 on a real language model, from the tables of its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product

import numpy
import pandas

from mome.lm.statistics import share_interval
from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.experiments.real_model.memorizing import NEAR_ZERO, numbers
from mome.replication.notebook.results import Metric, metric

LEAST_RECALL = 0.98
ASKED = {"held_out": "other_wordings", "by_hand": "handwritten"}
GATES = ("lora", "lora_gated", "mome")
CHECKED = {"lora": "lora", "lora_gated_names": "lora_gated", "mome_names": "mome"}  # method of the table -> of `GATES`
UNCHECKED = {"lora_gated": "lora_gated", "mome": "mome"}
NO_NAMES = "_no_names"  # ends the names of metrics of routers that do not check names
SCOPES = ("truthfulqa", "mmlu", "lambada", "small_talk")
FREE = {"leak": "leak_tuned_format", "unrelated_unchanged": "unchanged_tuned_format"}  # of unrelated free answers
STEPS = {"gate": ("lora", "lora_gated"), "experts": ("lora_gated", "mome")}  # what each changes: from, to


def run_metrics(runs: pandas.DataFrame) -> dict[str, Metric]:
    """Final loss, recall, epochs to 0.05 nats/token and seconds of each method on real and on random answers.

    Seconds are those of runs on a CPU; the column `accelerator` names another device, where the table has it.
    """
    metrics: dict[str, Metric] = {}
    on_cpu = runs[runs["accelerator"].fillna("none") == "none"] if "accelerator" in runs else runs
    for (method, answers), group in runs.groupby(["method", "answers"], sort=False):
        end = f"{method}_{{}}_{answers}"
        metrics[end.format("final_loss")] = metric([numbers(text).tolist() for text in group["last"]], "nats/token")
        _add(metrics, end.format("recall"), [_digits(text) for text in group["recalled"]], "share")
        metrics[end.format("epochs_to_0.05")] = metric(_single(_needed(group)), "epochs")
        timed = on_cpu[(on_cpu["method"] == method) & (on_cpu["answers"] == answers)]
        _add(metrics, end.format("seconds"), _single(timed["seconds"]), "s")
    if "router_seconds" in on_cpu:
        _add(metrics, "router_training_seconds", _single(on_cpu["router_seconds"].dropna()), "s")
    return metrics


def epoch_ratios(runs: pandas.DataFrame) -> dict[str, Metric]:
    """`epochs_ratio_<answers>`: epochs to 0.05 nats/token of memory experts over those of LoRA, seed by seed.

    Only seeds that both methods have count. A run that never got there counts with all its epochs.
    """
    metrics: dict[str, Metric] = {}
    for answers, group in runs.assign(needed=_needed(runs)).groupby("answers", sort=False):
        epochs = group.pivot_table(index="seed", columns="method", values="needed", aggfunc="min")
        if {"lora", "mome"} <= set(epochs):
            _add(metrics, f"epochs_ratio_{answers}", _single((epochs["mome"] / epochs["lora"]).dropna()), "ratio")
    return metrics


def runs_that_fit(runs: pandas.DataFrame) -> dict[str, Metric]:
    """`mome_runs_that_fit`: the share of memory experts' runs, on real and on random answers, that fit.

    A run fits if it ends at or below 0.05 nats/token and recalls at least 98%.
    """
    experts = runs[(runs["method"] == "mome") & runs["answers"].isin(["real", "random"])]
    fits = (experts["final_loss"] <= NEAR_ZERO) & (experts["recall"] >= LEAST_RECALL)
    found: dict[str, Metric] = {}
    _add(found, "mome_runs_that_fit", _single(fits.astype(float)), "share")
    return found


def best_rate_ratios(tried: pandas.DataFrame) -> dict[str, Metric]:
    """`epochs_ratio_<answers>_best_rates`: as `epoch_ratios`, each method at the rate at which it is fastest.

    Only seeds on which both methods were tried at as many rates, at least two, count.
    """
    counts = tried.groupby(["answers", "seed", "method"])["learning_rate"].nunique().unstack()
    if not {"lora", "mome"} <= set(counts):
        return {}
    fair = counts[(counts["lora"] == counts["mome"]) & (counts["lora"] > 1)].index
    chosen = tried[[key in fair for key in zip(tried["answers"], tried["seed"], strict=True)]]
    return {f"{name}_best_rates": found for name, found in epoch_ratios(chosen).items()}


def damage_metrics(damage: pandas.DataFrame, facts: int, answers: str = "random") -> dict[str, Metric]:
    """What memorizing does to everything else: with LoRA, with LoRA behind the rejection threshold, with experts.

    `leak_<method>` and `unrelated_unchanged_<method>` are of free answers in the tuned format. What the table does not
    have is left out. Names of other than random answers end in `_<answers>`.
    """
    after = damage[(damage["answers"] == answers) & (damage["facts"] == facts)]
    rows = {method: after[after["method"] == method] for method in GATES}
    found: dict[str, Metric] = {}
    for method, name in product(GATES, FREE):
        _add(found, f"{name}_{method}", _items(rows[method], FREE[name]), "share")
    for name in ("lambada", "mmlu", "text"):
        _add(found, f"same_bits_{name}_mome", _items(rows["mome"], f"same_bits_{name}"), "share")
    for name in SCOPES if answers == "random" else ():  # the router reads questions alone
        _add(found, f"out_of_scope_{name}", _items(rows["mome"], f"out_of_scope_{name}"), "share")
    untouched = damage[damage["method"] == "before"]
    for method in ("lora", "mome"):
        accuracy, loss = (_change(untouched, rows[method], name) for name in ("known_answers", "text_loss"))
        _add(found, f"general_accuracy_drift_{method}", accuracy, "share")
        _add(found, f"general_loss_drift_{method}", loss, "nats/token")
    return found if answers == "random" else {f"{name}_{answers}": value for name, value in found.items()}


def relabelled(damage: pandas.DataFrame, methods: Mapping[str, str]) -> pandas.DataFrame:
    """The rows of the untouched backbone, and those whose method is in `methods`, called as it says."""
    names = {"before": "before", **methods}
    rows = damage[damage["method"].isin(names)]
    return rows.assign(method=rows["method"].map(names))


def unchecked_metrics(damage: pandas.DataFrame, facts: int) -> dict[str, Metric]:
    """`damage_metrics` after random answers where the router does not check names; their names end in `NO_NAMES`."""
    found = damage_metrics(relabelled(damage, UNCHECKED), facts)
    return {f"{name}{NO_NAMES}": value for name, value in found.items()}


def gate_metrics(damage: pandas.DataFrame, facts: int) -> dict[str, Metric]:
    """What the rejection threshold gives and what the experts give, after random answers, paired by seed and item.

    `<measure>_by_gate` is LoRA behind the threshold minus LoRA alone, `<measure>_by_experts` memory experts minus LoRA
    behind the threshold; the measures are `leak` and `unrelated_unchanged`. Where no item differs, the interval is the
    exact one of the share of items that differ, in both directions.
    """
    after = damage[(damage["answers"] == "random") & (damage["facts"] == facts)]
    found: dict[str, Metric] = {}
    for (giver, (first, second)), name in product(STEPS.items(), FREE):
        kept = after[after["measure"] == FREE[name]].set_index(["method", "seed"])["items"]
        seeds = sorted({seed for method, seed in kept.index if method == first and (second, seed) in kept.index})
        pairs = [(kept[first, seed], kept[second, seed]) for seed in seeds]
        _add(found, f"{name}_by_{giver}", [_differences(*pair) for pair in pairs], "share")
    return {name: _both_ways(value) for name, value in found.items()}


def wording_metrics(paraphrases: pandas.DataFrame) -> dict[str, Metric]:
    """Recall of random answers in wordings that were not tuned; what the table does not have is left out."""
    found: dict[str, Metric] = {}
    parts = {f"{name}_recall_mome": ("shipped", asked) for asked, name in ASKED.items()}
    for name, (training, wording) in {
        **parts,
        "template_withheld_recall_mome": ("template_withheld", "held_out"),
    }.items():
        rows = paraphrases[(paraphrases["training"] == training) & (paraphrases["wording"] == wording)]
        for end, part in (("", rows["least_names"] > 0), (NO_NAMES, rows["least_names"] == 0)):
            _add(found, f"{name}{end}", [item_values(text) for text in rows.loc[part, "items"]], "share")
    return found


def recognition_metrics(recognition: pandas.DataFrame, facts: int, promised: float) -> dict[str, Metric]:
    """Paraphrases recognized and absent facts taken, among `facts` stored ones at a `promised` false-positive rate."""
    rows = recognition[(recognition["facts"] == facts) & (recognition["promised"] == promised)]
    found: dict[str, Metric] = {}
    for name, count in {"recognized": "n_recognized", "absent_taken": "n_absent"}.items():
        values = [_share(share, n) for share, n in zip(rows[name], rows[count], strict=True)]
        _add(found, f"{name}_{facts}", values, "share")
    return found


def _add(found: dict[str, Metric], name: str, values: list[list[float]], unit: str) -> None:
    """A metric of these values for each run; none where there is no run."""
    if not values:
        return
    if any(len(run) > 1 for run in values) and {value for run in values for value in run} <= {0.0, 1.0}:
        share = share_interval(values)
        found[name] = Metric(value=share.mean, unit=unit, n=share.n, ci95=(share.low, share.high), runs=len(values))
    else:
        found[name] = metric(values, unit)


def _needed(runs: pandas.DataFrame) -> pandas.Series:
    """Epochs to 0.05 nats/token; all epochs of a run that never got there."""
    return runs["epochs_to_0.05"].fillna(runs["epochs"])


def _items(rows: pandas.DataFrame, measure: str) -> list[list[float]]:
    return [item_values(text) for text in rows.loc[rows["measure"] == measure, "items"]]


def _change(untouched: pandas.DataFrame, rows: pandas.DataFrame, measure: str) -> list[list[float]]:
    """The change of a measure from the untouched backbone for each seed, item by item; none without the backbone's."""
    before = untouched.loc[untouched["measure"] == measure, "items"]
    after = rows.loc[rows["measure"] == measure, "items"]
    return [_differences(before.iloc[0], text) for text in after] if len(before) else []


def _differences(before: str, after: str) -> list[float]:
    return (numpy.array(item_values(after)) - numpy.array(item_values(before))).tolist()


def _both_ways(found: Metric) -> Metric:
    """A difference of exactly 0, with its interval on both sides of 0."""
    if found.value != 0 or found.ci95 is None:
        return found
    width = max(abs(end) for end in found.ci95)
    return found.model_copy(update={"ci95": (-width, width)})


def _share(share: float, count: int) -> list[float]:
    """So many items, of which this share is 1."""
    right, count = round(share * count), int(count)
    return [1.0] * right + [0.0] * (count - right)


def _digits(text: str) -> list[float]:
    return [float(digit) for digit in text]


def _single(values: Iterable[float]) -> list[list[float]]:
    return [[float(value)] for value in values]
