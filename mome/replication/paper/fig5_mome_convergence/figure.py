"""The figure of memory experts beside LoRA: convergence, and what each recipe costs and keeps."""

from __future__ import annotations

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.style import BLACK, BLUE, ORANGE, RED, STYLE, finished, loss_curve

METHODS = {
    "lora": (ORANGE, "-", "LoRA, rank 32"),
    "mome": (BLUE, "-", "MoME, fewer experts"),
    "mome_large": (BLACK, ":", "MoME, more experts"),
}
MEASURES = {
    "recall": (BLUE, "o", 9, "memorized facts recalled"),
    "general_accuracy": (RED, "D", 5, "general answers left"),
}


def convergence(
    curves: pandas.DataFrame, ablated: pandas.DataFrame, lora: dict[str, float], threshold: float
) -> Figure:
    """Training loss over epochs for real and random answers, and general accuracy against recall for each recipe.

    `curves` has the columns backbone, seed, answers, method, epoch, loss (nats/token); `ablated` recipe, recall,
    general_accuracy (shares); `lora` the latter two for LoRA. Dashed: near zero, and the paper's promise of both.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 3.9), width_ratios=(1, 1, 1.3))
        for axis, answers in zip(axes, ("real", "random"), strict=False):
            _curves(axis, curves[curves["answers"] == answers], threshold)
            axis.set_title(f"{answers} answers")
            axis.set_xlabel("epoch (visits to a fact)")
        axes[1].sharey(axes[0])
        axes[0].set_ylabel("training loss (nats/token)")
        axes[0].legend(loc="upper right", fontsize=8)
        _recipes(axes[2], ablated, lora)
    return finished(figure)


def _curves(axis: Axes, panel: pandas.DataFrame, threshold: float) -> None:
    for method, (colour, line, title) in METHODS.items():
        loss_curve(axis, panel[panel["method"] == method], colour, line, title)
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"paper: near zero ({threshold:g} drawn)")
    axis.set_yscale("log")


def _recipes(axis: Axes, ablated: pandas.DataFrame, lora: dict[str, float]) -> None:
    titles = [str(title) for title in ablated["recipe"].unique()]
    for measure, (colour, mark, size, label) in MEASURES.items():
        means = ablated.groupby("recipe", sort=False)[measure].mean()
        for place, title in enumerate(titles):
            single = ablated.loc[ablated["recipe"] == title, measure]
            axis.plot(single, [place] * len(single), ".", color=colour, markersize=3, alpha=0.7)
        axis.plot([*means, lora[measure]], range(len(titles) + 1), mark, color=colour, markersize=size, label=label)
    axis.axvline(1, color="black", linestyle="--", linewidth=1, label="paper: nothing lost")
    axis.set_yticks(range(len(titles) + 1), [*titles, "LoRA, rank 32"])
    axis.invert_yaxis()
    axis.set(xlim=(-0.05, 1.08), xlabel="share", title="recipes, random answers (small dots: single runs)")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 0.02), fontsize=8)
