"""The metrics of table 1 on a real language model, from the table of damage."""

from __future__ import annotations

import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.notebook.results import Metric, metric

FORMATS = ("tuned_format", "chat", "bare", "prose")
UNITS = {"text_loss": "nats/token", "kl": "nats/token"}  # the others are shares of items
STATES = ("before", "random", "real")


def state_rows(damage: pandas.DataFrame, facts: int) -> dict[str, pandas.DataFrame]:
    """The rows of the untouched backbone, and of LoRA after `facts` random and real answers, by state."""
    lora = damage[(damage["method"] == "lora") & (damage["facts"] == facts)]
    found = {"before": damage[damage["method"] == "before"]}
    return found | {answers: lora[lora["answers"] == answers] for answers in STATES[1:]}


def damage_metrics(damage: pandas.DataFrame, facts: int) -> dict[str, Metric]:
    """`<measure>_<state>` for each measure and state, and `leak_<state>_<format>`; means over seeds and items."""
    metrics = {}
    for state, rows in state_rows(damage, facts).items():
        for measure, group in rows.groupby("measure", sort=False):
            name = named(str(measure), state)
            if name:
                values = [item_values(text) for text in group["items"]]
                metrics[name] = metric(values, UNITS.get(str(measure), "share"))
    return metrics


def named(measure: str, state: str) -> str:
    """The metric's name; empty for measures that are not reported."""
    if measure in {f"leak_{form}" for form in FORMATS}:
        return f"leak_{state}_{measure.removeprefix('leak_')}"
    if measure in ("known_answers", "mc1", "mc2", "mmlu", "lambada", *UNITS):
        return f"{measure}_{state}"
    return ""
