"""The figure of memory experts beside LoRA: convergence, and what each recipe costs and keeps."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mome.replication.experiments.real_model.memorizing import curves
from mome.replication.ledger.forgetting import SAID, giver
from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PINK,
    RED,
    STYLE,
    finished,
    headline,
    interval_bars,
    loss_curve,
    seed_count,
    span,
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
    "lora_gated": (PINK, "LoRA behind the\nrejection threshold"),
    "mome": (BLUE, "memory\nexperts"),
}


Shares = Mapping[str, float]  # recall and general_accuracy


def convergence(
    rows: pandas.DataFrame,
    ablated: pandas.DataFrame,
    kept: Mapping[str, Shares],
    threshold: float,
    facts: int,
    general: int,
) -> Figure:
    """Training loss over epochs for real and random answers, and general accuracy against recall for each recipe.

    `rows` has the columns backbone, seed, answers, method, epoch, loss (nats/token), of so many `facts`; `ablated`
    recipe, recall, general_accuracy (shares); `kept` the latter two for "lora" and "mome" after random answers, of so
    many `general` questions a run. Dashed: near zero, and the paper's promise of both.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 3.9), width_ratios=(1, 1, 1.3))
        for axis, answers in zip(axes, ("real", "random"), strict=False):
            _curves(axis, rows[rows["answers"] == answers], threshold)
            axis.set_title(f"{facts} {answers} answers")
            axis.set_xlabel("epoch (a fact is trained on once in each)")
        axes[1].sharey(axes[0])
        axes[0].set_ylabel("training loss (nats/token)")
        axes[0].legend(loc="upper right", fontsize=8)
        _recipes(axes[2], ablated, kept["lora"])
        headline(figure, f"{_paces(rows, threshold)}; {_left(kept)} (n = {general} questions a run)")
    return finished(figure)


def _paces(rows: pandas.DataFrame, threshold: float) -> str:
    """In how many epochs either method memorizes random answers, on average over its runs."""
    random = rows[rows["answers"] == "random"]
    said = {}
    for method in ("mome", "lora"):
        wide = random[random["method"] == method].pivot(index="epoch", columns=["backbone", "seed"], values="loss")
        below = wide <= threshold
        reached = f"in {below.idxmax().mean():.3g} epochs"
        said[method] = reached if below.any().all() else f"not in {wide.index.max()} epochs"
    level = f"random answers fall below {threshold:g} nats/token"
    seeds = seed_count([random["seed"].nunique()])
    return f"{level} {said['mome']} with memory experts, {said['lora']} with LoRA ({seeds})"


def _left(kept: Mapping[str, Shares]) -> str:
    """The shares of general answers that both methods leave."""
    ours, theirs = (kept[method]["general_accuracy"] for method in ("mome", "lora"))
    return f"of the general answers memory experts leave {ours:.1%}, LoRA {theirs:.1%}"


def _curves(axis: Axes, panel: pandas.DataFrame, threshold: float, methods: Lines = METHODS) -> None:
    for method, (colour, line, title) in methods.items():
        loss_curve(axis, panel[panel["method"] == method], colour, line, title)
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"paper: near zero ({threshold:g} drawn)")
    axis.set_yscale("log")


def _recipes(axis: Axes, ablated: pandas.DataFrame, lora: Shares) -> None:
    titles = [str(title) for title in ablated["recipe"].unique()]
    for measure, (colour, mark, size, label) in MEASURES.items():
        means = ablated.groupby("recipe", sort=False)[measure].mean()
        for place, title in enumerate(titles):
            single = ablated.loc[ablated["recipe"] == title, measure]
            axis.plot(single, [place] * len(single), ".", color=colour, markersize=3, alpha=0.7)
        axis.plot([*means, lora[measure]], range(len(titles) + 1), mark, color=colour, markersize=size, label=label)
    axis.axvline(1, color="black", linestyle="--", linewidth=1, label="paper: nothing lost")
    shown = [title.replace("null key", "rejection threshold") for title in titles]  # the tables keep the older name
    axis.set_yticks(range(len(titles) + 1), [*shown, "LoRA, rank 32"])
    axis.invert_yaxis()
    axis.set(xlim=(-0.05, 1.08), xlabel="share (small dots: single runs)", title="recipes, random answers")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 0.02), fontsize=8)


def real_convergence(runs: pandas.DataFrame, metrics: Mapping[str, Metric], threshold: float) -> Figure:
    """A real model: losses of LoRA and of memory experts, and what each does to unrelated questions.

    `runs` are rows of `mome table memorizing`, `metrics` as `metrics.damage_metrics`, `epoch_ratios` and `gate_metrics`
    name them. The third method, LoRA behind the rejection threshold, shows what the threshold gives by itself: its
    losses are LoRA's. Bars are 95% intervals. What was not measured is drawn as such.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(1, 3, figsize=(12.5, 4.4), width_ratios=(1, 1, 1.3))
        for axis, answers in zip(axes, ("real", "random"), strict=False):
            _real_curves(axis, runs[runs["answers"] == answers], threshold)
            axis.set_title(f"{span(runs['facts'])} {answers} answers" if len(runs) else f"{answers} answers")
            axis.set_xlabel("epoch (a fact is trained on once in each)")
            axis.legend(loc="upper right", fontsize=8)
            if len(runs):  # the same limits in both, with room for the legend
                losses = curves(runs)["loss"]
                axis.set_ylim(losses.min() / 1.5, losses.max() * 8)
        axes[0].set_ylabel("training loss (nats/token)")
        _gates(axes[2], metrics)
        names = ", ".join(runs["backbone"].unique()) or "real model"
        figure.suptitle(f"{names}: {_pace(metrics)};\n{_kept(metrics)}", fontsize=9.5)
    return finished(figure)


def _real_curves(axis: Axes, runs: pandas.DataFrame, threshold: float) -> None:
    for method, (colour, line, title) in REAL_METHODS.items():
        chosen = runs[runs["method"] == method]
        if len(chosen):
            loss_curve(axis, curves(chosen), colour, line, title)
        else:
            axis.plot([], [], line, color=colour, label=f"{title}: not measured")
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"paper: near zero ({threshold:g} drawn)")
    axis.set_yscale("log")


def _gates(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    for place, (method, (colour, _)) in enumerate(GATES.items()):
        for shift, measure, hatch in ((-0.2, "leak", ""), (0.2, "unrelated_unchanged", "///")):
            found = metrics.get(f"{measure}_{method}")
            if found is None:
                axis.annotate("not measured", (place + shift, 2), rotation=90, ha="center", va="bottom", fontsize=8)
                continue
            height, bars = 100 * found.value, 100 * interval_bars([found])
            face = "white" if hatch else colour
            axis.bar(place + shift, height, 0.38, yerr=bars, color=face, edgecolor=colour, hatch=hatch, capsize=2)
            top = (place + shift, height + bars[1, 0])
            axis.annotate(f"{height:.1f}", top, (0, 3), ha="center", textcoords="offset points", fontsize=8)
    handles = [
        Patch(facecolor=GREY, edgecolor=GREY, label="hold a random string"),
        Patch(facecolor="white", edgecolor=GREY, hatch="///", label="word for word as before"),
    ]
    paper = "paper, LoRA: the first 3 of 6 sample rows right before and after"
    axis.legend(handles=handles, title=paper, loc="upper center", fontsize=8, title_fontsize=8, ncols=2)
    axis.set_xticks(range(len(GATES)), [title for _, title in GATES.values()])
    counts = span(metrics[name].n for name in (f"leak_{method}" for method in GATES) if name in metrics)
    axis.set(ylabel="answers to unrelated questions (%)", ylim=(0, 135), xlim=(-0.5, len(GATES) - 0.5))
    axis.set_yticks(range(0, 101, 20))
    axis.set_title(f"after random answers (n = {counts} questions, all seeds)")


def _pace(metrics: Mapping[str, Metric]) -> str:
    """How long memory experts take beside LoRA, from the seeds that both have."""
    ratio = metrics.get("epochs_ratio_random")
    if ratio is None:
        return "how fast LoRA or memory experts learn random answers was not measured"
    end = "" if ratio.ci95 is None else f", {ratio.ci95[0]:.2f} to {ratio.ci95[1]:.2f}"
    best = metrics.get("epochs_ratio_random_best_rates")
    end += ")" + ("" if best is None else f", at both methods' best rates in {best.value:.2f}")
    ours, theirs = (metrics[f"{method}_epochs_to_0.05_random"].value for method in ("mome", "lora"))
    said = f"memory experts learn random answers in {ratio.value:.2f} of LoRA's epochs at the paper's rate"
    return f"{said} ({ours:.0f} and {theirs:.0f}; {seed_count([ratio.n])}{end}"


def _kept(metrics: Mapping[str, Metric]) -> str:
    """What the rejection threshold and the experts give to unrelated answers."""
    missing = [method for method in GATES if f"unrelated_unchanged_{method}" not in metrics]
    if missing:
        names = " and ".join(GATES[method][1].replace("\n", " ") for method in missing)
        return f"what {names} leave of unrelated answers was not measured"
    alone, gated, experts = (metrics[f"unrelated_unchanged_{method}"].value for method in GATES)
    shares = f"LoRA {alone:.1%}, LoRA behind the threshold {gated:.1%}, experts {experts:.1%}"
    said = SAID[giver(metrics)]
    return f"unrelated answers that stay: {shares}.\n{said[0].upper()}{said[1:]}"
