"""The bars of the project for the real model, and which of its metrics meet them.

They were written before the damage done by memory experts and by LoRA behind the rejection threshold was measured. A
number is judged by its 95% interval over seeds and items, not by its mean; without an interval (one run) nothing is
decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas

from mome.replication.ledger.comparing import side
from mome.replication.ledger.forgetting import KEPT, SAID, giver
from mome.replication.notebook.results import Metric

Metrics = Mapping[str, Metric]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a metric must reach: `at_least` (or else at most) `value`."""

    metric: str
    value: float
    at_least: bool = True

    def outcome(self, metrics: Metrics) -> str:
        """ "met" or "missed" where the whole interval lies on that side of the bar, else "not decided"."""
        found = metrics.get(self.metric)
        if found is None:
            return "not measured"
        where = side(found, self.value)
        if not where:
            return "not decided"
        return "met" if where == "at" or (where == "above") == self.at_least else "missed"


BARS = (
    Bar("epochs_ratio_random", 0.4, at_least=False),
    Bar("unrelated_unchanged_mome", KEPT),
    *(Bar(f"same_bits_{name}_mome", 0.99) for name in ("lambada", "mmlu", "text")),
    Bar("other_wordings_recall_mome", 0.95),
    Bar("recognized_10000", 0.95),
    Bar("absent_taken_10000", 0.01, at_least=False),
    *(Bar(f"out_of_scope_{name}", 0.005, at_least=False) for name in ("truthfulqa", "mmlu", "lambada", "small_talk")),
)
REPORTED = (
    "epochs_ratio_random_best_rates",
    "template_withheld_recall_mome",
    "handwritten_recall_mome",
    *(f"{measure}_by_{name}" for measure in ("leak", "unrelated_unchanged") for name in ("gate", "experts")),
)


def bar_table(metrics: Metrics) -> pandas.DataFrame:
    """A row for each bar: what the metric must be, value with interval, n, outcome; then metrics without a bar."""
    rows = {}
    for bar in BARS:
        sign = "at least" if bar.at_least else "at most"
        rows[bar.metric] = {"must": f"{sign} {bar.value:g}", "outcome": bar.outcome(metrics)}
    rows |= {name: {"must": "", "outcome": "" if name in metrics else "not measured"} for name in REPORTED}
    for name, row in rows.items():
        found = metrics.get(name)
        row |= {"measured": "", "n": ""} if found is None else {"measured": valued(found), "n": f"{found.n:,}"}
    return pandas.DataFrame(rows).T[["must", "measured", "n", "outcome"]]


def who_keeps(metrics: Metrics) -> str:
    """In words: do threshold or experts keep unrelated answers as they were?"""
    return SAID[giver(metrics)]


def valued(found: Metric, form: str = "{:.3g}") -> str:
    """The value, with its interval where there is one."""
    value = form.format(found.value)
    return value if found.ci95 is None else f"{value} ({' to '.join(form.format(end) for end in found.ci95)})"
