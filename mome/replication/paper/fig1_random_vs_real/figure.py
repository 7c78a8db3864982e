"""Figure 1: losses while random and real answers are memorized."""

from __future__ import annotations

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.style import COLOURS, STYLE, finished, seed_count


def loss_curves(curves: pandas.DataFrame, threshold: float) -> Figure:
    """Training loss over epochs, a panel for each backbone (columns) and data set (rows).

    `curves` has the columns backbone, dataset, answers, seed, epoch, loss (nats/token). Thick: mean over seeds; thin:
    one seed each, a dot where it stopped. The dashed line is the level that counts as memorized in the paper's sense.
    """
    datasets, backbones = curves["dataset"].unique(), curves["backbone"].unique()
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(datasets),
            len(backbones),
            figsize=(4.2 * len(backbones) + 0.6, 2.9 * len(datasets) + 0.4),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for row, dataset in zip(axes, datasets, strict=True):
            for axis, backbone in zip(row, backbones, strict=True):
                panel = curves[(curves["dataset"] == dataset) & (curves["backbone"] == backbone)]
                _curves_panel(axis, panel, threshold)
                axis.set_title(f"{backbone}, {dataset} facts")
            row[0].set_ylabel("training loss (nats/token)")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        axes[0][0].legend(loc="upper right")
    return finished(figure)


def _curves_panel(axis: Axes, panel: pandas.DataFrame, threshold: float) -> None:
    for answers in panel["answers"].unique():
        of_answers = panel[panel["answers"] == answers]
        wide = of_answers.pivot(index="epoch", columns="seed", values="loss")
        for seed in wide:
            single = wide[seed].dropna()
            axis.plot(single.index, single, color=COLOURS[answers], linewidth=0.7, alpha=0.6)
            axis.plot(single.index[-1], single.iloc[-1], ".", color=COLOURS[answers], markersize=4)
        mean = wide.ffill().mean(axis=1)
        label = f"{answers} answers (n = {seed_count([wide.shape[1]])})"
        axis.plot(mean.index, mean, color=COLOURS[answers], linewidth=2, label=label)
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"paper: near zero ({threshold:g} drawn)")
    axis.set_yscale("log")
