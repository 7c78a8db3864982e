"""The performance goals on one GPU (an H200), compared with the tables of the GPU suite."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas

from mome.replication.bench.goals.goal import Goal, chosen, one
from mome.replication.bench.tables import EXPERTS, FLAT, GATHERED, MEMORY, TOKEN

NOT_MEASURED = "not measured on a GPU yet"
LARGE = 2**20
MILLION = 1_000_000
# between other layers of a training step, a module finds the cache full of something else
GRAPH = {"mode": "graph", "cache": "cold"}


def summary_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each goal, from those of the tables gpu_*.csv of the folder that are there."""
    names = {goal.table for goal in GOALS}
    there = {name: path for name in names if (path := folder / f"gpu_{name}.csv").is_file()}
    tables = {name: pandas.read_csv(path) for name, path in there.items()}
    return [goal.row(tables, NOT_MEASURED) for goal in GOALS]


def _flatness(cache: str, table: pandas.DataFrame) -> float:
    """Slowest over fastest of N = 2^10 to 2^20, less one, in percent; the worst of both optimizers and bases."""
    ours = table[(table["contender"] == EXPERTS) & (table["mode"] == "graph") & (table["cache"] == cache)]
    medians = ours[ours["experts"] <= LARGE].groupby(["optimizer", "base"])["median_us"]
    return float(100 * (medians.max() / medians.min() - 1).max())


def _over_lora(table: pandas.DataFrame) -> float:
    lora = table[table["contender"].str.fullmatch(r"PEFT LoRA .*, bfloat16")]
    return 1 / one(chosen(lora, "over_ours", base="frozen linear", experts=LARGE, **GRAPH))


def _share(table: pandas.DataFrame) -> float:
    labels = {"contender": EXPERTS, "optimizer": "adafactor", "base": "given", "experts": LARGE}
    return one(chosen(table, "copy_percent", **labels, **GRAPH))


def _gather_over_ours(table: pandas.DataFrame) -> float:
    return float(chosen(table, "over_ours", contender=GATHERED, base="given", experts=LARGE, **GRAPH).min())


def _flat_share(table: pandas.DataFrame) -> float:
    return one(chosen(table, "copy_percent", contender=FLAT, experts=MILLION, queries=8, **GRAPH))


def _added(table: pandas.DataFrame) -> float:
    return 100 * (one(chosen(table, "over_bare", stage=TOKEN, contender=MEMORY)) - 1)


STEP = "module_step"
GOALS = (
    Goal("step time over N (1k to 1M), CUDA graph, cold L2", STEP, 5, 2, True, " %", partial(_flatness, "cold")),
    Goal("step time over N (1k to 1M), CUDA graph, warm L2", STEP, 5, 2, True, " %", partial(_flatness, "warm")),
    Goal("step against PEFT LoRA bf16, same module with its frozen linear", STEP, 1, 0.7, True, "x", _over_lora),
    Goal("forward+backward+update, share of measured copy bandwidth", STEP, 40, 65, False, " %", _share),
    Goal("topk_flat at N=1M, Q=8, share of copy bandwidth", "lookup", 70, 85, False, " %", _flat_share),
    Goal("gather+bmm in torch over ours", STEP, 2, 4, False, "x", _gather_over_ours),
    Goal("per-token latency added to generate at N=1M", "end_to_end", 3, 1, True, " %", _added),
)
