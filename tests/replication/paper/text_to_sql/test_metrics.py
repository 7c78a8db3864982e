"""Accuracies are shares over all questions and runs, and the figure shows every one."""

from __future__ import annotations

import pandas

from mome.replication.paper.text_to_sql import metrics as text_to_sql_metrics
from mome.replication.paper.text_to_sql.database import PHRASINGS, SPLITS
from mome.replication.paper.text_to_sql.figure import execution_accuracy
from mome.replication.paper.text_to_sql.systems import SYSTEMS


def made_up_table() -> pandas.DataFrame:
    rows = [
        {"system": system, "split": split, "backbone": "b", "seed": seed, "outcomes": "1" * right + "0" * (8 - right)}
        for system, right in zip(SYSTEMS, (0, 1, 6, 5, 4, 7, 3, 8), strict=True)
        for split in SPLITS
        for seed in (0, 1)
    ]
    return pandas.DataFrame(rows)


def test_metrics_are_shares_over_all_questions_and_runs():
    metrics = text_to_sql_metrics.accuracy_metrics(made_up_table())
    assert len(metrics) == len(SYSTEMS) * len(SPLITS)
    assert metrics["execution_accuracy_rag"].value == 5 / 8
    assert metrics["execution_accuracy_mome_rag_shapes"].value == 1
    assert all(found.n == 16 and found.unit == "share" for found in metrics.values())
    assert f"execution_accuracy_mome_{PHRASINGS}" not in metrics


def test_the_figure_marks_every_metric():
    metrics = text_to_sql_metrics.accuracy_metrics(made_up_table())
    figure = execution_accuracy(metrics, (0.947, 0.5))
    (axis,) = figure.axes
    drawn = sorted(float(y) for line in axis.containers for y in line[0].get_ydata())
    assert drawn == sorted(found.value for found in metrics.values())
    assert len(axis.get_xticklabels()) == len(SYSTEMS)
