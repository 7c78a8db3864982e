"""A performance goal: what is measured, the bound that must be kept, the one that is aimed at, and its table row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas

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

    def row(self, tables: Tables, not_measured: str) -> dict[str, Any]:
        """What, must, aim, measured, met ("no", "must" or "aim"), and the commit that was measured."""
        sign = "<=" if self.at_most else ">="
        bounds = {"must": f"{sign} {self.must:g}{self.unit}", "aim": f"{sign} {self.aim:g}{self.unit}"}
        table = tables.get(self.table)
        value = math.nan if table is None else self.measure(table)
        if table is None or math.isnan(value):
            return {"what": self.what, **bounds, "measured": not_measured, "met": not_measured, "measured_at": ""}
        met = "aim" if self._reaches(value, self.aim) else "must" if self._reaches(value, self.must) else "no"
        found = {"measured": f"{value:.3g}{self.unit}", "met": met, "measured_at": table["commit"].iloc[0]}
        return {"what": self.what, **bounds, **found}

    def _reaches(self, value: float, bound: float) -> bool:
        return value <= bound if self.at_most else value >= bound


def chosen(table: pandas.DataFrame, column: str, **labels: Any) -> pandas.Series:
    """The column in the rows that have these labels, without those that were not measured."""
    for name, value in labels.items():
        table = table[table[name] == value]
    return table[column].dropna()


def one(values: pandas.Series) -> float:
    """The only value; NaN if there is none, or more."""
    return float(values.iloc[0]) if len(values) == 1 else math.nan
