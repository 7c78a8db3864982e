"""What notebook 04 concludes: how similar the likely tokens are, and which parts of the paper's figure 3 hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas

from mome.replication.notebook.results import Metric
from mome.replication.paper.fig3_entropy.experiment import mean_likeness

EVEN, CONCENTRATED, CERTAIN = "even", "concentrated on similar tokens", "certain"


def likeness_table(facts: pandas.DataFrame) -> pandas.DataFrame:
    """The similarity of the likely tokens at each moment, as means over facts with 95% intervals.

    `facts` has a row for each fact and moment: moment, epoch, loss (nats), and `differ`, `within`, `between` of
    `draw_likeness`. A row of the result holds moment, epoch, mean loss, and the cosines `within` one question,
    `between` two, and `excess` (their difference), each with `_low` and `_high`.
    """
    rows: list[dict[str, Any]] = []
    for moment, part in facts.groupby("moment", sort=False):
        row = {"moment": moment, "epoch": part["epoch"].max(), "loss": part["loss"].mean()}
        for name in ("within", "between", "excess"):
            cosines = part["within"] - part["between"] if name == "excess" else part[name]
            found = mean_likeness(cosines.tolist(), part["differ"].tolist())
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))
        rows.append(row)
    return pandas.DataFrame(rows)


def parts_that_hold(means: pandas.DataFrame, metrics: Mapping[str, Metric]) -> dict[str, bool]:
    """Whether the next token's distribution is even at high, concentrated at low, and certain at zero loss.

    `means` has a row for each moment: mean `loss` and `entropy` at the key token (nats). `metrics` are those of the
    notebook. Even: at every moment whose loss is at least half of ln V the entropy is, too. Concentrated on similar
    tokens: at low loss the entropy is below half of ln V, two draws for one question resemble each other more than
    draws for two questions, and more of the probability lies on tokens of such answers than chance gives (both 95%
    intervals above). Certain: at the end the largest probability is at least 0.99, and 99% of the answers are right.
    """
    half = metrics["max_entropy"].value / 2
    high = means[means["loss"] >= half]
    alike = metrics["likeness_excess_low"].bounds[0] > 0
    kindred = metrics["kind_low"].bounds[0] > metrics["kind_by_chance"].value
    certain = metrics["largest_zero"].value >= 0.99 and metrics["right_zero"].value >= 0.99
    return {
        EVEN: bool(len(high)) and bool((high["entropy"] >= half).all()),
        CONCENTRATED: metrics["entropy_low"].value < half and alike and kindred,
        CERTAIN: certain,
    }
