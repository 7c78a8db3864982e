"""Every plot, in one style: colour-blind safe, units on the axes, the spread over seeds, the paper's value dashed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from mome.replication.notebook.results import Destination, write_atomically

# Okabe and Ito's palette, readable with every common form of colour blindness
COLOURS = {"real": "#0072B2", "random": "#D55E00", "shuffled": "#009E73"}
BACKBONES = ("#D55E00", "#CC79A7", "#E69F00")
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
STYLE: Any = {
    "figure.dpi": 120,
    "savefig.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "text.parse_math": False,  # a text of a fact may hold dollar signs; what is maths says so (parse_math=True)
}
NOT_DRAWN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]")  # control characters but line feeds


def finished(figure: Figure) -> Figure:
    """The figure, closed for pyplot; every figure that is drawn in `STYLE` ends here, since its texts may be data.

    Characters that cannot be drawn are written as their escapes. The labels that a scale makes are maths (powers of
    ten), those that were given are not.
    """
    for text in figure.findobj(Text):
        if NOT_DRAWN.search(text.get_text()):
            text.set_text(legible(text.get_text()))
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            _finish_labels(axis)
    pyplot.close(figure)
    return figure


def _finish_labels(axis: Axis) -> None:
    """Labels are made when a figure is drawn, by a function where they were given."""
    given = axis.get_major_formatter()
    if named := isinstance(given, FuncFormatter):
        axis.set_major_formatter(FuncFormatter(lambda value, place: legible(given(value, place))))
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        for label in (tick.label1, tick.label2):
            label.set_parse_math(not named)


def legible(text: str) -> str:
    """The text with escapes, such as "\\x1b", for what a font has no sign for and matplotlib cannot pass over."""
    return NOT_DRAWN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def save_figure(figure: Figure, destination: Destination) -> None:
    """Save PNG and PDF where `destination` says, each all or nothing."""
    for suffix in ("png", "pdf"):
        content = io.BytesIO()
        figure.savefig(content, format=suffix, metadata={"Software": None} if suffix == "png" else None)
        write_atomically(destination.figure(suffix), content.getvalue())


def span(numbers: Iterable[int]) -> str:
    """Numbers as text: the one they all are, as "1,000", else the least and the most, as "119 to 400"; "0" for none."""
    found = sorted(set(numbers)) or [0]
    return f"{found[0]:,}" + (f" to {found[-1]:,}" if len(found) > 1 else "")


def seed_count(numbers: Iterable[int]) -> str:
    """How many seeds something rests on, as "1 seed", "3 seeds" or "1 to 3 seeds"."""
    text = span(numbers)
    return f"{text} seed" + ("" if text == "1" else "s")


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
