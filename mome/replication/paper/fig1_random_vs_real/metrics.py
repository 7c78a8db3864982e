"""The metrics of figure 1 from a table of runs, such as those of a real language model."""

from __future__ import annotations

from collections.abc import Iterator

import pandas

from mome.replication.experiments.abilities import paired_difference
from mome.replication.experiments.real_model.memorizing import mean_losses, numbers
from mome.replication.notebook.results import Metric, metric

PAIR = ["dataset", "facts", "seed"]


def kept_metrics(runs: pandas.DataFrame) -> dict[str, Metric]:
    """Metrics of every data set and number of facts in `runs`, a table of LoRA runs at one rate.

    Names without a suffix are those of the first data set and number of facts; others end in `_<dataset>` and
    `_<facts>`. A run that never came under 0.05 nats/token counts with all its epochs.
    """
    metrics = {}
    differences = curve_differences(runs)
    for suffix, group in _groups(runs):
        apart = _part(differences, group)
        metrics[f"guess_rate{suffix}"] = metric([[rate] for rate in group["guess_rate"]], "share")
        for answers, part in group.groupby("answers", sort=False):
            recalled = [[float(digit) for digit in text] for text in part["recalled"]]
            reached = part["epochs_to_0.05"].fillna(part["epochs"])
            last = [numbers(text).tolist() for text in part["last"]]
            metrics[f"lora_final_loss_{answers}{suffix}"] = metric(last, "nats/token")
            metrics[f"lora_recall_{answers}{suffix}"] = metric(recalled, "share")
            metrics[f"lora_epochs_to_0.05_{answers}{suffix}"] = metric([[count] for count in reached], "epochs")
        if len(apart):
            gaps = [[gap] for gap in apart["random - real (nats/token)"]]
            metrics[f"curve_difference_random_real{suffix}"] = metric(gaps, "nats/token")
            metrics[f"curve_difference_largest_p{suffix}"] = metric([[apart["p"].max()]], "probability")
    return metrics


def curve_differences(runs: pandas.DataFrame) -> pandas.DataFrame:
    """How much higher the curve of random answers lies than that of real ones, for each pair of runs, with its p."""
    rows = []
    for labels, group in runs.groupby(PAIR, sort=False):
        kinds = {row["answers"]: row for row in group.to_dict("records")}
        if {"real", "random"} <= kinds.keys():
            epochs = max(int(kinds[kind]["epochs"]) for kind in ("real", "random"))
            real, random = (mean_losses(kinds[kind], epochs) for kind in ("real", "random"))
            gap, p = paired_difference(real, random)
            rows.append((*labels, gap, p))
    return pandas.DataFrame(rows, columns=[*PAIR, "random - real (nats/token)", "p"])


def _groups(runs: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """The runs by data set and number of facts, with the suffix of their metrics."""
    first = runs["dataset"].iloc[0], runs["facts"].iloc[0]
    for dataset, facts in runs[["dataset", "facts"]].drop_duplicates().itertuples(index=False):
        suffix = f"_{dataset}" if dataset != first[0] else ""
        suffix += f"_{facts}" if facts != first[1] else ""
        yield suffix, runs[(runs["dataset"] == dataset) & (runs["facts"] == facts)]


def _part(differences: pandas.DataFrame, group: pandas.DataFrame) -> pandas.DataFrame:
    first = group.iloc[0]
    return differences[(differences["dataset"] == first["dataset"]) & (differences["facts"] == first["facts"])]
