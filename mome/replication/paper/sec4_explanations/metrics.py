"""From the table of `experiment` to rates with intervals, and which causes suffice for hallucinations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
import pandas

from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec4_explanations.conditions import (
    ABSTAINING,
    CAUSES,
    CONTROL,
    FAMILIES,
    HIGH,
    MOME,
    REMEDIES,
    ZERO,
)

MODELS = (HIGH, ZERO, MOME, ABSTAINING)
CONFLICTS = ("conflict_even", "conflict_uneven")
TRAINED = (CONTROL, *CONFLICTS, "conflict_dated", "outdated", "updated", "skew")  # one cause for each training


def rates(table: pandas.DataFrame, cause: str, model: str) -> list[list[float]]:
    """For each run (backbone and seed) the share of each fact's answers that are hallucinated."""
    rows = table[(table["cause"] == cause) & (table["model"] == model)]
    return [_shares(row) for row in rows.to_dict("records")]


def share_wrong(row: Mapping[str, Any]) -> float:
    """The share of a row's answers that are hallucinated."""
    return float(numpy.mean(_shares(row)))


def explanation_metrics(table: pandas.DataFrame) -> dict[str, Metric]:
    """`hallucination_{cause}_{model}` as shares of answers, with 95% intervals over runs and facts.

    Beside them, for rows in conflict, `excess_{cause}_{model}`: the loss above its floor (nats/answer); and for memory
    experts `failed_{cause}`, the share of the rows reported as not memorized, and `recognised_{cause}`.
    """
    found = {}
    for cause in CAUSES:
        for model in MODELS:
            if runs := rates(table, cause, model):
                found[f"hallucination_{cause}_{model}"] = metric(runs, "share")
    for (cause, model), rows in table.groupby(["cause", "model"]):
        if cause in CONFLICTS and model in (HIGH, ZERO, MOME):
            excess = (rows["trained_loss"] - rows["floor"]).tolist()
            found[f"excess_{cause}_{model}"] = metric([[value] for value in excess], "nats/answer")
        if model == MOME:
            if cause in TRAINED:
                failed = (rows["failed"] / rows["rows"]).tolist()
                found[f"failed_{cause}"] = metric([[value] for value in failed], "share")
            found[f"recognised_{cause}"] = metric([[value] for value in rows["recognised"]], "share")
    return found


def exceeds(one: Metric, other: Metric) -> bool:
    """Whether the whole interval of `one` lies above that of `other`."""
    return one.bounds[0] > other.bounds[1]


def suffices(metrics: Mapping[str, Metric], cause: str, model: str = ZERO) -> bool:
    """Whether the cause alone makes `model` hallucinate more often than the control does (intervals apart)."""
    return exceeds(metrics[f"hallucination_{cause}_{model}"], metrics[f"hallucination_{CONTROL}_{model}"])


def cause_table(metrics: Mapping[str, Metric], table: pandas.DataFrame) -> pandas.DataFrame:
    """A row for each cause that was measured: rates of the models, loss of the right answer where asked, what follows.

    `asked_loss` is that of LoRA at near-zero training loss (mean nats/answer); `rival` is the share of its answers
    that are the wrong one training offered. `outcome`: "suffices", "vanishes" (it does not, and the high loss
    hallucinates more) or "neither".
    """
    rows = []
    for family, causes in {CONTROL: (CONTROL,), **FAMILIES, "remedy": REMEDIES}.items():
        for cause in causes:
            found = {model: metrics.get(f"hallucination_{cause}_{model}") for model in MODELS}
            zero, high = found[ZERO], found[HIGH]
            if zero is None or high is None:
                continue
            alone = suffices(metrics, cause)
            outcome = "suffices" if alone else "vanishes" if exceeds(high, zero) else "neither"
            at_zero = table[(table["cause"] == cause) & (table["model"] == ZERO)]
            numbers = {model: each.value for model, each in found.items() if each is not None}
            means = {name: at_zero[name].mean() for name in ("asked_loss", "certain", "rival")}
            rows.append({"family": family, "cause": cause, **numbers, **means, "outcome": outcome})
    return pandas.DataFrame(rows)


def sufficient_families(metrics: Mapping[str, Metric], model: str = ZERO) -> dict[str, bool]:
    """For each family of causes with measured members, whether one of them suffices."""
    measured = {
        family: [cause for cause in causes if f"hallucination_{cause}_{model}" in metrics]
        for family, causes in FAMILIES.items()
    }
    return {
        family: any(suffices(metrics, cause, model) for cause in causes)
        for family, causes in measured.items()
        if causes
    }


def _shares(row: Mapping[str, Any]) -> list[float]:
    return [int(count) / int(row["times"]) for count in str(row["wrong"]).split()]
