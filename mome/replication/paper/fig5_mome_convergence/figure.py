"""The figure of memory experts beside LoRA: convergence, and what each recipe costs and keeps."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mome.replication.experiments.real_model.memorizing import curves
from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
    STYLE,
    YELLOW,
    finished,
    interval_bars,
    loss_curve,
    seed_count,
)

METHODS = {
    "lora": (ORANGE, "-", "LoRA, rank 32"),
    "mome": (BLUE, "-", "MoME, fewer experts"),
    "mome_large": (BLACK, ":", "MoME, more experts"),
}
Lines = Mapping[str, tuple[str, str, str]]  # colour, line and title of each method
REAL_METHODS: Lines = {"lora": METHODS["lora"], "mome": (BLUE, "-", "memory experts")}
MEASURES = {
    "recall": (BLUE, "o", 9, "memorized facts recalled"),
    "general_accuracy": (RED, "D", 5, "general answers left"),
}
GATES = {
    "lora": (ORANGE, "LoRA, rank 32"),
    "lora_gated": (YELLOW, "LoRA behind the\nrejection threshold"),
    "mome": (BLUE, "memory\nexperts"),
}


def convergence(rows: pandas.DataFrame, ablated: pandas.DataFrame, lora: dict[str, float], threshold: float) -> Figure:
    """Training loss over epochs for real and random answers, and general accuracy against recall for each recipe.

    `rows` has the columns backbone, seed, answers, method, epoch, loss (nats/token); `ablated` recipe, recall,
    general_accuracy (shares); `lora` the latter two for LoRA. Dashed: near zero, and the paper's promise of both.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 3.9), width_ratios=(1, 1, 1.3))
        for axis, answers in zip(axes, ("real", "random"), strict=False):
            _curves(axis, rows[rows["answers"] == answers], threshold)
            axis.set_title(f"{answers} answers")
            axis.set_xlabel("epoch (visits to a fact)")
        axes[1].sharey(axes[0])
        axes[0].set_ylabel("training loss (nats/token)")
        axes[0].legend(loc="upper right", fontsize=8)
        _recipes(axes[2], ablated, lora)
    return finished(figure)


def _curves(axis: Axes, panel: pandas.DataFrame, threshold: float, methods: Lines = METHODS) -> None:
    for method, (colour, line, title) in methods.items():
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


def real_convergence(runs: pandas.DataFrame, metrics: Mapping[str, Metric], threshold: float) -> Figure:
    """A real model: losses of LoRA and of memory experts, and what each does to unrelated questions.

    `runs` are rows of `mome table memorizing`, `metrics` as `damage_metrics` names them. The third method shows what
    the rejection threshold gives by itself; the panel is left out where one was not measured. Bars are 95% intervals.
    """
    rows = curves(runs)
    with pyplot.rc_context(STYLE):
        gated = all(f"leak_{method}" in metrics for method in GATES)
        ratios = (1, 1, 1.3)[: 2 + gated]
        figure, axes = pyplot.subplots(1, len(ratios), figsize=(3.8 * sum(ratios), 4.2), width_ratios=ratios)
        for axis, answers in zip(axes, ("real", "random"), strict=False):
            _curves(axis, rows[rows["answers"] == answers], threshold, REAL_METHODS)
            axis.set_title(f"{runs['facts'].iloc[0]} {answers} answers")
            axis.set_xlabel("epoch (a fact is trained on once in each)")
        for axis in axes[:2]:
            axis.set_ylim(rows["loss"].min() / 1.5, rows["loss"].max() * 1.5)
        axes[0].set_ylabel("training loss (nats/token)")
        axes[0].legend(loc="upper right", fontsize=8)
        if gated:
            _gates(axes[2], metrics)
        figure.suptitle(_finding(runs))
    return finished(figure)


def _gates(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    for place, (method, (colour, _)) in enumerate(GATES.items()):
        for shift, measure, hatch in ((-0.2, "leak", ""), (0.2, "unrelated_unchanged", "///")):
            found = metrics[f"{measure}_{method}"]
            axis.bar(
                place + shift,
                100 * found.value,
                0.38,
                yerr=100 * interval_bars([found]),
                color=colour if not hatch else "white",
                edgecolor=colour,
                hatch=hatch,
            )
            axis.annotate(
                f"{100 * found.value:.1f}",
                (place + shift, 100 * found.value),
                (0, 6),
                ha="center",
                textcoords="offset points",
                fontsize=8,
            )
    handles = [
        Patch(facecolor=GREY, edgecolor=GREY, label="hold a random string"),
        Patch(facecolor="white", edgecolor=GREY, hatch="///", label="word for word as before"),
    ]
    axis.legend(handles=handles, loc="upper center", fontsize=8, ncols=2)
    axis.set_xticks(range(len(GATES)), [title for _, title in GATES.values()])
    n = metrics["leak_mome"].n
    axis.set(ylabel=f"answers to unrelated questions (%, n = {n})", ylim=(0, 125))


def _finding(runs: pandas.DataFrame) -> str:
    random = runs[runs["answers"] == "random"]
    needed = random.assign(needed=random["epochs_to_0.05"].fillna(random["epochs"])).groupby("method")["needed"].mean()
    seeds = seed_count(random.groupby("method")["seed"].nunique())
    return (
        f"{runs['backbone'].iloc[0]}: memory experts learn random answers in {needed['mome'] / needed['lora']:.2f} of "
        f"LoRA's epochs ({needed['mome']:.0f} and {needed['lora']:.0f}); {seeds}"
    )
