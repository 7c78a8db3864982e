"""The verdict on claim C04: do both findings hold for two architectures and two data sets?

The findings of this notebook are that random answers are memorized, and that other answers stay as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.notebook.results import Verdict
from mome.replication.paper.tab1_regularization.metrics import state_rows

RECALLED = 0.95  # the least share of the tuned random answers that counts as memorized
FALL = 0.02  # the largest fall of the share of other answers that counts as unchanged, as in C03
WANTED = 2  # architectures, and data sets


@dataclass(frozen=True, slots=True)
class Findings:
    """What random answers did to one backbone on one data set, as means over seeds and items.

    `recalled` is the share of the tuned random answers that come back; `before` and `after` are the shares of other
    questions that are answered rightly.
    """

    backbone: str
    architecture: str
    dataset: str
    recalled: float
    before: float
    after: float

    def __str__(self) -> str:
        where = f"{self.backbone} ({self.architecture}) on {self.dataset}"
        return f"{where}: {self.recalled:.1%} recalled, other answers {self.before:.1%} -> {self.after:.1%}"


def live_findings(
    means: Mapping[tuple[str, int, str], Mapping[str, float]], architectures: Mapping[str, str]
) -> list[Findings]:
    """Those of the notebook's own runs on the shipped facts: `means` of each measure by (backbone, seed, answers)."""
    found = []
    for name, architecture in architectures.items():
        seeds = [seed for backbone, seed, answers in means if (backbone, answers) == (name, "random")]
        recalled = _mean([means[name, seed, "random"]["tuned"] for seed in seeds])
        before, after = (
            _mean([means[name, seed, state]["general_accuracy"] for seed in seeds]) for state in ("before", "random")
        )
        found.append(Findings(name, architecture, "shipped", recalled, before, after))
    return found


def kept_findings(damage: pandas.DataFrame, facts: int, architectures: Mapping[str, str]) -> list[Findings]:
    """Those of LoRA after `facts` random answers in the table of damage, by its known answers.

    `architectures` names the backbones that are judged, each with its architecture.
    """
    states, found = state_rows(damage[damage["backbone"].isin(list(architectures))], facts), []
    for (name, dataset), rows in states["random"].groupby(["backbone", "dataset"], sort=False):
        untouched = states["before"][states["before"]["backbone"] == name]
        recalled, after = _measured(rows, "recall_as_tuned"), _measured(rows, "known_answers")
        before = _measured(untouched, "known_answers")
        found.append(Findings(str(name), architectures[str(name)], str(dataset), recalled, before, after))
    return found


def verdict_c04(found: Sequence[Findings]) -> tuple[Verdict, str]:
    """The verdict and why.

    Reproduced: both findings hold wherever they were measured, on two architectures and two data sets or more.
    Contradicted: neither holds everywhere. Else partly: one of them fails, or too little was measured.

    Raises:
        ValueError: nothing was measured.
    """
    if not found:
        raise ValueError("C04: no run on random answers was measured")
    memorized = all(each.recalled >= RECALLED for each in found)
    unchanged = all(each.before - each.after <= FALL for each in found)
    architectures, datasets = ({getattr(each, name) for each in found} for name in ("architecture", "dataset"))
    broad = len(architectures) >= WANTED and len(datasets) >= WANTED
    why = f"memorized everywhere: {_yes(memorized)}, other answers unchanged everywhere: {_yes(unchanged)}; "
    why += f"architectures: {', '.join(sorted(architectures))}; data sets: {', '.join(sorted(datasets))}"
    if memorized and unchanged and broad:
        return "reproduced", why
    return ("partly" if memorized or unchanged else "contradicted"), why


def _measured(rows: pandas.DataFrame, measure: str) -> float:
    """Mean over seeds of the items' mean."""
    return _mean([_mean(item_values(text)) for text in rows.loc[rows["measure"] == measure, "items"]])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
