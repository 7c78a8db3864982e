"""The figure of memory tuning beside usual tuning: losses along one run, and where each model ends up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mome.lm.statistics import Interval, interval
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LIGHT_GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    STYLE,
    finished,
    loss_curve,
)

LOSSES = {
    "key": (BLUE, "-", "key facts"),
    "other": (GREEN, "--", "other training text"),
    "eval": (RED, "-.", "held-out text (eval)"),
}
MARKS = {
    "untouched": (BLACK, "X", "untouched"),
    "underfit": (ORANGE, "^", "underfit"),
    "generalizing": (RED, "s", "generalizes best (early stop)"),
    "overfit": (PINK, "v", "overfit"),
    "memory-tuned": (BLUE, "*", "memory-tuned (on the best)"),
    "memory-tuned from untouched": (SKY, "P", "memory-tuned (on the untouched)"),
}
# what the claim implies for the paper's figure, which is drawn without a measurement: (x, y) in shares of the panel
IMPLIED = {"underfit": (0.98, 0.92), "overfit": (0.02, 0.92), "compute-optimal": (0.98, 0.03)}


def memory_tuning(
    curves: pandas.DataFrame,
    models: pandas.DataFrame,
    excess: Mapping[str, Mapping[str, Interval]],
    near_zero: float,
    tolerance: float,
) -> Figure:
    """A row of panels for each kind of answers: losses over epochs, and eval loss against the loss of the key facts.

    `curves` has the columns answers, backbone, seed, epoch, text (key, other, eval), loss (nats/token); `models`
    answers, model, backbone, seed, epoch, text, loss, a row for each fact; `excess` for each kind of answers and model
    its eval loss above that of the model that generalizes best.
    """
    kinds = [str(kind) for kind in models["answers"].unique()]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(kinds), 2, figsize=(11.5, 3.9 * len(kinds)), squeeze=False, width_ratios=(1, 1.15)
        )
        for row, kind in zip(axes, kinds, strict=True):
            of_kind = models[models["answers"] == kind]
            _curves(row[0], curves[curves["answers"] == kind], of_kind)
            _plane(row[1], of_kind, excess[kind], near_zero, tolerance)
            for axis in row:
                axis.set_title(f"key facts with {kind} answers", pad=14)
        axes[0][0].legend(loc="lower left", fontsize=8)
        axes[0][1].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    return finished(figure)


def _curves(axis: Axes, curves: pandas.DataFrame, models: pandas.DataFrame) -> None:
    for text, (colour, line, title) in LOSSES.items():
        loss_curve(axis, curves[curves["text"] == text], colour, line, title)
    for title in ("underfit", "generalizing", "overfit"):
        colour, mark, _ = MARKS[title]
        epochs = models.loc[models["model"] == title, "epoch"].unique()
        axis.plot(epochs, [1.02] * len(epochs), mark, color=colour, transform=axis.get_xaxis_transform(), clip_on=False)
    axis.set_yscale("log")
    axis.set(xlabel="epoch of LoRA on key facts and other text", ylabel="loss (nats/token)")


def _plane(
    axis: Axes,
    models: pandas.DataFrame,
    excess: Mapping[str, Interval],
    near_zero: float,
    tolerance: float,
) -> None:
    key = models[models["text"] == "key"]
    for title, (colour, mark, label) in MARKS.items():
        runs = [group.tolist() for _, group in key[key["model"] == title].groupby(["backbone", "seed"])["loss"]]
        x, y = interval(runs), excess[title]
        bars: Any = {"xerr": [[x.mean - x.low], [x.high - x.mean]], "yerr": [[y.mean - y.low], [y.high - y.mean]]}
        size = 13 if mark == "*" else 7
        axis.errorbar([x.mean], [y.mean], **bars, fmt=mark, color=colour, markersize=size, capsize=2, label=label)
    axis.set_xscale("log")
    axis.margins(x=0.12, y=0.25)
    (left, _), (low, _) = axis.get_xlim(), axis.get_ylim()
    corner = Rectangle((left, low), near_zero - left, tolerance - low, color=LIGHT_GREY, alpha=0.25, linewidth=0)
    axis.add_patch(corner).set_label("paper: memory tuning belongs here")
    axis.set_xlim(left=left)
    axis.set_ylim(bottom=low)
    axis.axhline(0, color="black", linestyle="--", linewidth=1)
    for title, (across, up) in IMPLIED.items():
        place: Any = {"ha": "right" if across > 0.5 else "left", "transform": axis.transAxes}
        axis.text(across, up, f"paper, hypothetical:\n{title}", style="italic", color=GREY, fontsize=7, **place)
    axis.set(xlabel="loss of key facts (nats/token)", ylabel="eval loss over the best (nats/token)")
