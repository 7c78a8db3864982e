"""The performance goals on two CPU cores, compared with the tables of the CPU suite and with committed results.

Ratios are taken within one run, where both were timed in turns. The longest runs are no part of the suite: they are
those of notebooks 08 and 09, and the row names the commit at which they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas

from mome.replication.bench.goals.goal import Goal, chosen, one
from mome.replication.bench.tables import FLAT, GATHERED, MEMORY, PRODUCT, TOKEN, TUNING
from mome.replication.notebook.results import read_result, result_path

NOT_MEASURED = "not measured yet"
MILLION = 1_000_000
SUITE = ("module_step", "lookup", "end_to_end")
METRICS = "metrics"
BILL, METHODS = "08_sec1_cost", "09_sec4_retrieval"


def summary_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each goal, from those of the tables cpu_*.csv of the folder that are there, and committed results."""
    paths = {name: folder / f"cpu_{name}.csv" for name in SUITE}
    tables = {name: pandas.read_csv(path) for name, path in paths.items() if path.is_file()}
    return [goal.row({**tables, METRICS: _metrics([BILL, METHODS])}, NOT_MEASURED) for goal in GOALS]


def _metrics(stems: Sequence[str]) -> pandas.DataFrame:
    """Notebook, metric, value and commit of the committed results at the profile tiny."""
    results = [read_result(path) for stem in stems if (path := result_path("tiny", stem)).is_file()]
    rows = [
        {"notebook": result.notebook, "metric": name, "value": metric.value, "commit": result.environment.commit}
        for result in results
        for name, metric in result.metrics.items()
    ]
    return pandas.DataFrame(rows, columns=["notebook", "metric", "value", "commit"])


def _over(rival: str, table: pandas.DataFrame) -> float:
    """Our step's time over that of a rival: the worst of all optimizers, bases and numbers of experts."""
    slowest = chosen(table[table["contender"].str.startswith(rival)], "over_ours").min()
    return float(1 / slowest)


def _step_over_lora(backbone: str, table: pandas.DataFrame) -> float:
    labels = {"backbone": backbone, "stage": TUNING, "contender": MEMORY, "optimizer": "adam"}
    return one(chosen(table, "over_lora", **labels))


def _flat_over_faiss(table: pandas.DataFrame) -> float:
    return _search(FLAT, table) / _search("faiss flat", table)


def _product_key_ms(table: pandas.DataFrame) -> float:
    return _search(PRODUCT, table) / 1e3


def _search(contender: str, table: pandas.DataFrame) -> float:
    """Microseconds to find 32 of a million keys for one question."""
    return one(chosen(table, "median_us", contender=contender, experts=MILLION, queries=1, k=32))


def _token_over_bare(backbone: str, table: pandas.DataFrame) -> float:
    return one(chosen(table, "over_bare", backbone=backbone, stage=TOKEN, contender=MEMORY))


def _metric(stem: str, name: str, table: pandas.DataFrame) -> float:
    return one(chosen(table, "value", notebook=stem, metric=name))


def _seconds_over_lora(table: pandas.DataFrame) -> float:
    return _metric(BILL, "all_cpu_seconds_mome_1000", table) / _metric(BILL, "all_cpu_seconds_lora_1000", table)


def _kilobytes(table: pandas.DataFrame) -> float:
    return _metric(METHODS, "bytes_per_fact_mome", table) / 1e3


def _nowhere(table: pandas.DataFrame) -> float:
    """For what no command measures yet."""
    return math.nan


def _goals(table: str, *goals: tuple[str, float, float, str, Callable[[pandas.DataFrame], float]]) -> list[Goal]:
    return [Goal(what, table, must, aim, True, unit, measure) for what, must, aim, unit, measure in goals]


SPARSE = "nn.Embedding(sparse=True)"
SMOLLM2 = "smollm2-135m"
GOALS = (
    *_goals(
        "module_step",
        ("module step (forward, backward, update) over gather + bmm in torch", 1, 0.7, "x", partial(_over, GATHERED)),
        ("the same over PEFT LoRA r=32", 1, 0.7, "x", partial(_over, "PEFT LoRA")),
        ("the same over embedding(sparse) + SparseAdam", 0.8, 0.5, "x", partial(_over, SPARSE)),
    ),
    *_goals(
        "end_to_end",
        ("phase-2 step on SmolLM2 over LoRA r=32, all linear", 0.2, 0.12, "x", partial(_step_over_lora, SMOLLM2)),
        ("a token of generate with memory over the bare SmolLM2", 1.03, 1.01, "x", partial(_token_over_bare, SMOLLM2)),
        ("the same, tiny-llama", 1.03, 1.01, "x", partial(_token_over_bare, "tiny-llama")),
    ),
    *_goals(
        "lookup",
        ("flat lookup of 32 in 1M over faiss flat, same keys", 1.2, 1, "x", _flat_over_faiss),
        ("product-key lookup of 32 in 1M", 0.5, 0.2, " ms", _product_key_ms),
    ),
    *_goals(
        METRICS,
        ("CPU seconds to 1,000 random facts, tiny-llama, over LoRA", 0.08, 0.05, "x", _seconds_over_lora),
        ("10,000 facts, tiny-llama", 300, 150, " CPU s", partial(_metric, METHODS, "build_cpu_seconds_mome_10000")),
        ("100,000 facts, tiny-llama, recall >= 99.9%, <= 6 GiB", 60, 30, " min", _nowhere),
        ("step at N = 1e8 (mapped) over N = 1e6", 1.1, 1.02, "x", _nowhere),
        ("kilobytes a fact at 100% recall, tiny-llama", 30, 8, " kB", _kilobytes),
    ),
)
