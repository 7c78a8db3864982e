"""Edits made alone and one after another, by every method, as a table that a run goes on from.

`mome table editing TABLE.csv --method mome --edits 1000 --seeds 3` measures the table.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas
from tqdm.auto import tqdm

from mome.facts.shipped import shipped_facts
from mome.replication.experiments.pools import answered_facts, judge_of
from mome.replication.paper.sec10_editing.contenders import EditingPlan, contender
from mome.replication.paper.sec10_editing.measures import EditingMethod, Judge, sequential_edits, single_edits
from mome.replication.paper.sec10_editing.stream import Stream, draw_stream

KEY = ["method", "backbone", "seed", "edits"]
SIZES = (1, 10, 100, 1_000)


def edit_rows(
    made: EditingMethod, stream: Stream, singles: int, sizes: Sequence[int], right: Judge = operator.eq
) -> Iterator[dict[str, Any]]:
    """Edit by one method: a row for edits made alone (`edits` 1), and one after each number of edits in `sizes`.

    The first `singles` edits are made alone; `right` judges answers that no edit taught. Columns: `edits`, the measures
    with their numbers (`_n`), as in `measures`; seconds of an edit (median), `seconds_p95`, `cpu_seconds`, and
    `refused` edits.
    """
    counts, times = single_edits(made, stream, singles, right=right)
    yield {"edits": 1, **counts.as_row(), **times.as_row()}
    wanted = [size for size in sizes if 1 < size <= len(stream.edits)]
    for size, counts, times in sequential_edits(made, stream, wanted, right):
        yield {"edits": size, **counts.as_row(), **times.as_row()}


def sizes_up_to(edits: int) -> list[int]:
    """The numbers of edits after which a run of so many is measured."""
    return [*(size for size in SIZES if size < edits), edits]


def missing(path: Path, method: str, backbone: str, seed: int, edits: int) -> bool:
    """Whether the table lacks some row of this method's run with so many edits."""
    if not path.exists():
        return True
    table = pandas.read_csv(path)
    same = (table["method"] == method) & (table["backbone"] == backbone) & (table["seed"] == seed)
    return not {*sizes_up_to(edits)} <= set(table.loc[same, "edits"])


def table_rows(
    path: Path | None, backbone: str, methods: Sequence[str], edits: int, singles: int, seeds: int
) -> Iterator[dict[str, Any]]:
    """The rows of each run, by seed and method, that the table at `path` lacks; of every run where it is None.

    Raises:
        ValueError: an unknown method, or too few facts for so many edits.
    """
    every = [(seed, method) for seed in range(seeds) for method in methods]
    runs = [(seed, method) for seed, method in every if path is None or missing(path, method, backbone, seed, edits)]
    known = answered_facts(backbone) if runs else []
    for seed, method in tqdm(runs, desc="editing", unit="run"):
        stream = draw_stream(known, shipped_facts("unknown"), edits, seed)
        made = contender(method, backbone, stream, EditingPlan().seeded(seed))
        labels = {"method": method, "backbone": backbone, "seed": seed}
        # a list: the table has all rows of a run or none
        rows = edit_rows(made, stream, singles, sizes_up_to(edits), judge_of(backbone))
        yield from [{**labels, **row} for row in rows]
