"""The figure of the blind benchmarks: when the leak jumps, what each benchmark sees of it, and how well it detects."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    STYLE,
    finished,
    headline,
    interval_bars,
    seed_count,
)
from mome.replication.paper.sec8_blind_benchmarks.detectors import DIRECTIONS, KNOWN, RUINED, measured, points
from mome.replication.paper.sec8_blind_benchmarks.metrics import FORMATS, course

TITLES = {
    "mc1": "TruthfulQA MC1",
    "mc2": "TruthfulQA MC2",
    "mmlu": "MMLU (cloze)",
    "quiz": "quiz (for MMLU)",
    "lambada": "LAMBADA",
    "text_loss": "loss of text",
    "kl": "KL divergence",
    KNOWN: "known answers",
    **{f"leak_{form}": f"leak, {form.replace('_', ' ')}" for form in FORMATS},
}
LINES = {
    "leak_tuned_format": (RED, "o", "-"),
    "leak_chat": (PINK, "v", "--"),
    "leak_bare": (ORANGE, "s", ":"),
    "leak_prose": (SKY, "x", ":"),
    KNOWN: (BLACK, "D", "-"),
    "mc1": (BLUE, "^", "-"),
    "mc2": (SKY, "v", "--"),
    "mmlu": (GREEN, "o", "-"),
    "quiz": (GREEN, "o", "-"),
    "lambada": (ORANGE, "s", "--"),
}
SCORES = ("mc1", "mc2", "mmlu", "quiz", "lambada")
DEFINITIONS = {
    "auc": (RED, "o", "ruined: a tenth leaks"),
    "auc_forgotten": (GREY, "s", "a fifth of known answers lost"),
}


def blindness(table: pandas.DataFrame, metrics: Mapping[str, Metric], subject: str) -> Figure:
    """Four panels: leaks and known answers over the epochs of random answers, the benchmarks there and over those of
    real answers, and each benchmark's AUC as a detector.

    `table` holds checkpoints, `metrics` are those of `blind_metrics`; `subject` is the model. Bars: 95% intervals.
    """
    seeds = seed_count([points(table)["seed"].nunique()])
    there = [name for name in LINES if name in set(table["measure"])]
    leaks, scores = [name for name in there if name not in SCORES], [name for name in there if name in SCORES]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(11, 8))
        _course(axes[0][0], table, leaks, "random", "random answers: what the model does")
        axes[0][0].axhline(100 * RUINED, color=GREY, linewidth=1, linestyle=(0, (1, 1)), label="ruined: 10% leak")
        axes[0][0].set(ylabel="free answers (%)", ylim=(-3, 103))
        for axis, answers in ((axes[0][1], "random"), (axes[1][0], "real")):
            _course(axis, table, [*scores, KNOWN], answers, f"{answers} answers: what benchmarks say", change=True)
            axis.axhline(0, color=BLACK, linewidth=1, linestyle=(0, (1, 1)), label="untouched")
            axis.set_ylabel("points from the untouched model")
        for axis in (axes[0][0], axes[0][1], axes[1][0]):
            axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, columnspacing=1)
        _aucs(axes[1][1], metrics)
        headline(figure, _finding(metrics, subject, seeds))
    return finished(figure)


def _finding(metrics: Mapping[str, Metric], subject: str, seeds: str) -> str:
    leak = f"{metrics['leak_end_tuned_format'].value:.0%}"
    aucs = {name: metrics[f"auc_{name}"] for name in DIRECTIONS if f"auc_{name}" in metrics and name != "kl"}
    if not aucs:
        return f"{subject}: {leak} of the unrelated answers leak in the end ({seeds})"
    best = max(aucs, key=lambda name: (aucs[name].value, aucs[name].bounds[0]))
    told = ", ".join(f"{TITLES[name]} {found.value:.2f}" for name, found in aucs.items())
    return (
        f"{subject}, LoRA on random answers: {leak} of the unrelated answers are random strings in the end. As "
        f"detectors of it (AUC, chance 0.5): {told}; the best, {TITLES[best]}, {aucs[best].bounds[0]:.2f} to "
        f"{aucs[best].bounds[1]:.2f} (the paper: benchmarks tell nothing; {seeds})"
    )


def _course(
    axis: Axes, table: pandas.DataFrame, names: list[str], answers: str, title: str, *, change: bool = False
) -> None:
    """Measures over epochs, as shares or as changes from the untouched backbone, in percent or points."""
    for place, name in enumerate(names):
        colour, mark, line = LINES[name]
        found = course(table, name, answers)
        start = 0.0 if change else float(measured(table, name).before.mean())
        middle, spread = (
            100 * (start + found["change"]),
            [found["change"] - found["low"], found["high"] - found["change"]],
        )
        axis.errorbar(
            found["epoch"] + 0.12 * (place - (len(names) - 1) / 2),
            middle,
            yerr=[100 * each for each in spread],
            color=colour,
            marker=mark,
            linestyle=line,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.6,
            label=TITLES[name],
        )
    runs = points(table)[points(table)["answers"] == answers]["seed"].nunique()
    axis.set(title=f"{title} (n = {seed_count([runs])})", xlabel="epochs of memorizing")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _aucs(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    names = [name for name in DIRECTIONS if f"auc_{name}" in metrics or f"auc_forgotten_{name}" in metrics]
    for shift, (prefix, (colour, mark, label)) in zip((-0.15, 0.15), DEFINITIONS.items(), strict=True):
        shown = [
            (place, metrics[f"{prefix}_{name}"]) for place, name in enumerate(names) if f"{prefix}_{name}" in metrics
        ]
        found = [each for _, each in shown]
        places = [place + shift for place, _ in shown]
        if found:
            count = f"{label} (n = {found[0].n} checkpoints)"
            values = [each.value for each in found]
            axis.errorbar(values, places, xerr=interval_bars(found), fmt=mark, color=colour, capsize=2, label=count)
    axis.axvline(0.5, color=BLACK, linestyle="--", linewidth=1, label="paper: benchmarks tell nothing (chance)")
    axis.set_yticks(range(len(names)), [TITLES[name] for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set(xlim=(-0.02, 1.02), xlabel="AUC of its fall as a detector (below 0.5: it rises)", title="as a detector")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=1)
