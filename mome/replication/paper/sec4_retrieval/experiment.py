"""All methods measured in the same way: a row for each method, number of facts, seed and backbone.

`mome table retrieval TABLE.csv --facts 1000 --method mome --seeds 3` measures the rows that the table lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas
from tqdm.auto import tqdm

from mome.replication.experiments.material import Material, gather
from mome.replication.paper.sec4_retrieval.measure import measure_method
from mome.replication.paper.sec4_retrieval.workshop import METHODS, RetrievalPlan, Workshop, installed_methods

KEY = ["facts", "method", "backbone", "seed"]


def method_rows(
    name: str,
    material: Material,
    plan: RetrievalPlan,
    methods: Sequence[str],
    seed: int,
    asked: int = 500,
    timed: int = 40,
) -> Iterator[dict[str, Any]]:
    """Measure each of `methods` on `material`: one row each (`measure_method`), behind the columns of `KEY`.

    Raises:
        ValueError: an unknown method; the message lists the known ones.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError(f"method {unknown[0]!r} is not one of {', '.join(METHODS)}")
    count = len(material.facts)
    workshop = Workshop(name, material, plan.sized(count).seeded(seed))
    for method in tqdm(methods, desc=f"{count:,} facts, seed {seed}", unit="method", leave=False):
        key = dict(zip(KEY, (count, method, name, seed), strict=True))
        yield {**key, **measure_method(workshop, method, asked, timed)}


def table_rows(
    path: Path | None, backbone: str, sizes: Sequence[int], methods: Sequence[str] | None, seeds: int
) -> Iterator[dict[str, Any]]:
    """The rows that the table at `path` lacks, of each number of facts and seed; every row where it is None.

    `methods` are all that are installed where none are given.

    Raises:
        ValueError: an unknown method.
    """
    for size in sizes:
        for seed in range(seeds):
            there = set() if path is None else _measured(path, size, backbone, seed)
            missing = [method for method in methods or installed_methods() if method not in there]
            if missing:
                yield from method_rows(backbone, gather(size, seed), RetrievalPlan(), missing, seed)


def _measured(path: Path, facts: int, backbone: str, seed: int) -> set[str]:
    if not path.exists():
        return set()
    table = pandas.read_csv(path)
    same = (table["facts"] == facts) & (table["backbone"] == backbone) & (table["seed"] == seed)
    return set(table.loc[same, "method"])
