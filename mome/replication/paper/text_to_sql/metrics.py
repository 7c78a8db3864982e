"""From the table of outcomes to accuracies."""

from __future__ import annotations

from pathlib import Path

import pandas

from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.text_to_sql.database import PHRASINGS

RIGHT, WRONG = "1", "0"


def read_table(path: Path) -> pandas.DataFrame:
    """A table that `main` wrote; outcomes stay text."""
    return pandas.read_csv(path, dtype={"outcomes": str})


def accuracy_metrics(table: pandas.DataFrame) -> dict[str, Metric]:
    """`execution_accuracy_{system}`, on unseen phrasings; of the other splits with the suffix `_{split}`.

    Each is the mean over questions and runs (backbones and seeds), with its 95% bootstrap interval.
    """
    found = {}
    for (system, split), rows in table.groupby(["system", "split"], sort=False):
        suffix = "" if split == PHRASINGS else f"_{split}"
        runs = [[float(mark == RIGHT) for mark in outcomes] for outcomes in rows["outcomes"]]
        found[f"execution_accuracy_{system}{suffix}"] = metric(runs, "share")
    return found
