"""From the table of figure 6 to excesses over the reference."""

from __future__ import annotations

import pandas

from mome.lm.statistics import Interval, interval
from mome.replication.paper.fig6_memory_tuning.experiment import MODELS, TEXTS

NEAR_ZERO = 0.05
TOLERANCE = 0.05


def excesses(models: pandas.DataFrame, against: str | None = None) -> dict[str, list[list[float]]]:
    """How much higher the eval loss of each model's facts lies than that of another model: lists of facts, one a run.

    Args:
        models: as `measure_models` gives them for each run, with columns answers, backbone and seed.
        against: the other model; None: the one of the lowest mean eval loss in the run, memory-tuned ones apart.
    """
    found: dict[str, list[list[float]]] = {}
    for _, run in models[models["text"] == "eval"].groupby(["answers", "backbone", "seed"], sort=False):
        wide = run.pivot(index="fact", columns="model", values="loss")
        best = against or str(wide[[*MODELS[:4]]].mean().idxmin())
        for title in wide:
            found.setdefault(str(title), []).append((wide[title] - wide[best]).tolist())
    return found


def excess_intervals(models: pandas.DataFrame, against: str | None = None) -> dict[str, Interval]:
    """Mean and 95% interval of `excesses` for each model; of width zero where all facts have the same excess."""
    found = {}
    for title, runs in excesses(models, against).items():
        values = [value for run in runs for value in run]
        # zeros of a loss are no shares, for which `interval` would take them
        same = min(values) == max(values)
        found[title] = Interval(values[0], values[0], values[0], len(values)) if same else interval(runs)
    return found


def qualities(models: pandas.DataFrame) -> pandas.DataFrame:
    """For each kind of answers and each model, the two parts of the claim, as means over runs.

    Columns: answers, model, key, other, eval (nats/token); `excess` of the eval loss over the best model that is not
    memory-tuned; `low_key`: key is below `NEAR_ZERO`; `best_elsewhere`: excess is at most `TOLERANCE`.
    """
    rows = []
    for answers, part in models.groupby("answers", sort=False):
        means = part.groupby(["model", "text", "backbone", "seed"])["loss"].mean().groupby(["model", "text"]).mean()
        over = excess_intervals(part)
        for title in MODELS:
            losses = {text: float(means[title, text]) for text in TEXTS}
            excess = over[title].mean
            parts = {"low_key": losses["key"] < NEAR_ZERO, "best_elsewhere": excess <= TOLERANCE}
            rows.append({"answers": answers, "model": title, **losses, "excess": excess, **parts})
    return pandas.DataFrame(rows)
