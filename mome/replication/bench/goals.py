"""The performance goals on one GPU (an H200), compared with the tables of the GPU suite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas

from mome.replication.bench.tables import EXPERTS, FLAT, GATHERED, MEMORY, TOKEN

NOT_MEASURED = "not measured on a GPU yet"
LARGE = 2**20
MILLION = 1_000_000
# between other layers of a training step, a module finds the cache full of something else
GRAPH = {"mode": "graph", "cache": "cold"}

Tables = dict[str, pandas.DataFrame]


@dataclass(frozen=True, slots=True)
class Goal:
    """`measure` gives a number in `unit` from a table, NaN if it is not there; `at_most`: whether small is good."""

    what: str
    table: str
    must: float
    aim: float
    at_most: bool
    unit: str
    measure: Callable[[pandas.DataFrame], float]

    def row(self, tables: Tables) -> dict[str, Any]:
        """What, must, aim, measured, met ("no", "must" or "aim"), and the commit that was measured."""
        sign = "<=" if self.at_most else ">="
        bounds = {"must": f"{sign} {self.must:g}{self.unit}", "aim": f"{sign} {self.aim:g}{self.unit}"}
        table = tables.get(self.table)
        value = math.nan if table is None else self.measure(table)
        if table is None or math.isnan(value):
            return {"what": self.what, **bounds, "measured": NOT_MEASURED, "met": NOT_MEASURED, "measured_at": ""}
        met = "aim" if self._reaches(value, self.aim) else "must" if self._reaches(value, self.must) else "no"
        found = {"measured": f"{value:.3g}{self.unit}", "met": met, "measured_at": table["commit"].iloc[0]}
        return {"what": self.what, **bounds, **found}

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


def summary_rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each goal, from those of the tables gpu_*.csv of the folder that are there."""
    names = {goal.table for goal in GOALS}
    there = {name: path for name in names if (path := folder / f"gpu_{name}.csv").is_file()}
    tables = {name: pandas.read_csv(path) for name, path in there.items()}
    return [goal.row(tables) for goal in GOALS]


def _chosen(table: pandas.DataFrame, column: str, **labels: Any) -> pandas.Series:
    """The column in the rows that have these labels, without those that were not measured."""
    for name, value in labels.items():
        table = table[table[name] == value]
    return table[column].dropna()


def _one(values: pandas.Series) -> float:
    return float(values.iloc[0]) if len(values) == 1 else math.nan


def _flatness(cache: str, table: pandas.DataFrame) -> float:
    """Slowest over fastest of N = 2^10 to 2^20, less one, in percent; the worst of both optimizers and bases."""
    ours = table[(table["contender"] == EXPERTS) & (table["mode"] == "graph") & (table["cache"] == cache)]
    medians = ours[ours["experts"] <= LARGE].groupby(["optimizer", "base"])["median_us"]
    return float(100 * (medians.max() / medians.min() - 1).max())


def _over_lora(table: pandas.DataFrame) -> float:
    lora = table[table["contender"].str.fullmatch(r"PEFT LoRA .*, bfloat16")]
    return 1 / _one(_chosen(lora, "over_ours", base="frozen linear", experts=LARGE, **GRAPH))


def _share(table: pandas.DataFrame) -> float:
    labels = {"contender": EXPERTS, "optimizer": "adafactor", "base": "given", "experts": LARGE}
    return _one(_chosen(table, "copy_percent", **labels, **GRAPH))


def _gather_over_ours(table: pandas.DataFrame) -> float:
    return float(_chosen(table, "over_ours", contender=GATHERED, base="given", experts=LARGE, **GRAPH).min())


def _flat_share(table: pandas.DataFrame) -> float:
    return _one(_chosen(table, "copy_percent", contender=FLAT, experts=MILLION, queries=8, **GRAPH))


def _added(table: pandas.DataFrame) -> float:
    return 100 * (_one(_chosen(table, "over_bare", stage=TOKEN, contender=MEMORY)) - 1)


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
