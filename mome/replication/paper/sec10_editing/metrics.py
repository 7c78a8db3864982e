"""From the table of edits to the metrics of the editing field, with their intervals over edits and seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy
import pandas

from mome.replication.notebook.results import Metric, metric
from mome.replication.paper.sec10_editing.measures import MEASURES


def edit_metrics(table: pandas.DataFrame, sizes: Sequence[int]) -> dict[str, Metric]:
    """`edit_{measure}_{edits}_{method}` for each number of edits in `sizes`, and `edit_seconds_{method}`.

    Shares come with the interval of `mome.lm.statistics.interval` over runs (seeds) and what was asked in each; what
    was asked of several edits in common, as the general questions after edits made alone, counts each time. Seconds are
    the mean over runs of the median edit among the most that were made in turn. What a method has no number of is
    left out.
    """
    found: dict[str, Metric] = {}
    for method, rows in table.groupby("method", sort=False):
        for size, measured in _of_sizes(rows, sizes):
            for measure in MEASURES:
                runs = outcomes(measured, measure)
                if runs:
                    found[f"edit_{measure}_{size}_{method}"] = metric(runs, "share")
        longest = rows[rows["edits"] == rows["edits"].max()]
        found[f"edit_seconds_{method}"] = metric([[value] for value in longest["seconds"]], "s")
    return found


def outcomes(rows: pandas.DataFrame, measure: str) -> list[list[float]]:
    """The outcomes 1 and 0 that a measure's share and number stand for, in any order, of each run that has some."""
    counted = rows[rows[f"{measure}_n"] > 0]
    numbers = counted[f"{measure}_n"].astype(int)
    right = numpy.rint(counted[measure] * numbers).astype(int)
    return [[1.0] * good + [0.0] * (count - good) for good, count in zip(right, numbers, strict=True)]


def _of_sizes(rows: pandas.DataFrame, sizes: Sequence[int]) -> Iterator[tuple[int, pandas.DataFrame]]:
    for size in sizes:
        measured = rows[rows["edits"] == size]
        if len(measured):
            yield size, measured
