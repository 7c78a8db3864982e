"""The figure of table 1."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.style import COLOURS, ORANGE, PINK, RED, STYLE, finished

BACKBONES = (RED, PINK, ORANGE)
MEASURES = {
    "general_accuracy": "general accuracy (share)",
    "quiz_accuracy": "quiz accuracy (share)",
    "general_loss": "general loss (nats/token)",
}
KINDS = {
    "learning rate": "learning rate",
    "rank": "LoRA rank",
    "layers": "adapted top layers",
    "stop loss": "training loss at the stop (nats/token)",
}


def regularization(
    before: pandas.DataFrame, real: pandas.DataFrame, sweep: pandas.DataFrame, measures: Sequence[str]
) -> Figure:
    """How general abilities move with the learning rate, the rank and the adapted layers, at equal training loss.

    `before` and `real` (tuned on real answers) have a column for each measure and a row for each run; `sweep`, tuned on
    random answers, has kind ("learning rate", "rank", "layers", "stop loss"), value, seed, backbone and the measures. A
    row of panels for each measure, a column for each kind. Dashed: untouched, where the paper's table 1 expects it all.
    """
    kinds = sweep["kind"].unique()
    with pyplot.rc_context(STYLE):
        size = (3.1 * len(kinds) + 0.5, 2.3 * len(measures) + 0.5)
        figure, axes = pyplot.subplots(len(measures), len(kinds), figsize=size, sharey="row", squeeze=False)
        for row, measure in zip(axes, measures, strict=True):
            for axis, kind in zip(row, kinds, strict=True):
                _sweep_panel(axis, sweep[sweep["kind"] == kind], measure)
                axis.axhline(
                    before[measure].mean(), color="black", linestyle="--", linewidth=1, label="paper: unchanged"
                )
                axis.axhline(
                    real[measure].mean(), color=COLOURS["real"], linestyle=":", label="tuned on real answers (base run)"
                )
            row[0].set_ylabel(MEASURES[measure])
        for axis, kind in zip(axes[-1], kinds, strict=True):
            axis.set_xlabel(KINDS[kind])
        axes[0][-1].legend(loc="upper left", bbox_to_anchor=(0, 0.88), fontsize=7)
    return finished(figure)


def _sweep_panel(axis: Axes, panel: pandas.DataFrame, measure: str) -> None:
    """Mean over seeds for each backbone, bars from the lowest to the highest seed; ticks at the values themselves."""
    for place, backbone in enumerate(panel["backbone"].unique()):
        grouped = panel[panel["backbone"] == backbone].groupby("value")[measure]
        mean, low, high = grouped.mean(), grouped.min(), grouped.max()
        axis.errorbar(
            mean.index,
            mean,
            yerr=[mean - low, high - mean],
            marker="os^"[place % 3],
            markersize=4,
            capsize=2,
            color=BACKBONES[place % 3],
            label=f"{backbone}, random answers (n = {int(grouped.size().max())}, bar: range)",
        )
    axis.set_xscale("log")
    ticks = sorted(panel["value"].unique())
    axis.set_xticks(ticks, [f"{value:g}" for value in ticks])
    axis.minorticks_off()
