"""The figure of pretraining loss: predictions of the laws, the shipped backbones' curves, and what these recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from mome.replication.notebook.style import BLACK, BLUE, GREEN, ORANGE, PINK, STYLE, finished
from mome.replication.paper.fig2_pretraining_loss.experiment import CurveFit, Law, RecallFit, share_interval

LINES = ((BLUE, "-"), (GREEN, "-."), (PINK, ":"))
MARKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))
FITS = {"power law": "-.", "exponential": "-"}


def pretraining_loss(
    laws: Mapping[str, Law],
    size: float,
    tokens: Sequence[float],
    paper: float,
    curves: Mapping[str, pandas.DataFrame],
    fits: Mapping[tuple[str, str], CurveFit],
    recalls: Mapping[str, RecallFit],
    tuned: pandas.DataFrame,
    fitted: int,
) -> Figure:
    """Four panels: the laws for a model of `size`; own curves with `fits` to the first `fitted` epochs; recall.

    `tokens` are where the paper's run may have ended, `paper` is its loss (nats/token). `curves` are those of
    `pretraining_curve` by backbone, with `recalls`; `fits` go by (backbone, form). `tuned`: epoch, recalled, probed
    of memory tuning.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(11.5, 8))
        _laws(axes[0][0], laws, size, tokens, paper)
        _curves(axes[0][1], curves, fits, fitted)
        _recall_by_epoch(axes[1][0], curves, tuned)
        _recall_by_loss(axes[1][1], curves, recalls, paper)
    return finished(figure)


def _laws(axis: Axes, laws: Mapping[str, Law], size: float, tokens: Sequence[float], paper: float) -> None:
    line = numpy.geomspace(1e10, 1e15, 200)
    for (name, law), (colour, style) in zip(laws.items(), LINES, strict=False):
        axis.plot(line, law.loss(size, line), style, color=colour, linewidth=2, label=name)
        axis.plot(tokens, [law.loss(size, each) for each in tokens], "o", color=colour, markersize=5)
        axis.axhline(law.loss(size, numpy.inf), color=colour, linestyle=style, linewidth=0.7, alpha=0.6)
    axis.axhline(paper, color=BLACK, linestyle="--", linewidth=1, label=f"paper: {paper:g} nats")
    axis.plot(tokens, [paper] * len(tokens), "D", color=BLACK, markersize=5)
    axis.annotate(
        "where the paper's run may end", (tokens[-1], paper), (8, -12), textcoords="offset points", fontsize=8
    )
    axis.set(xscale="log", xlabel="different tokens D", ylabel="loss (nats/token)", ylim=(1.6, 3.0))
    axis.set_title(f"{size / 1e9:g}B parameters by the laws (thin: D without end)")
    axis.legend(fontsize=8)


def _curves(axis: Axes, curves: Mapping[str, pandas.DataFrame], fits: Mapping, fitted: int) -> None:
    for (name, curve), (colour, mark) in zip(curves.items(), MARKS, strict=False):
        axis.plot(curve["tokens"], curve["loss"], mark, color=colour, markersize=4, mfc="none", label=name)
        for form, style in FITS.items():
            line = numpy.linspace(curve["tokens"].iloc[0], curve["tokens"].iloc[-1], 200)
            label = f"{form}, fitted to epochs 1 to {fitted}" if name == next(iter(curves)) else None
            axis.plot(line, fits[name, form].loss(line), style, color=colour, linewidth=1, label=label)
    edge = next(iter(curves.values())).query("epoch == @fitted")["tokens"].iloc[0]
    axis.axvline(edge, color=BLACK, linestyle=":", linewidth=1, label="end of the fitted part")
    axis.set(xscale="log", yscale="log", xlabel="tokens read (an epoch is 275,000)", ylabel="loss (nats/answer token)")
    _plain_ticks(axis.yaxis, [0.1, 0.2, 0.5, 1, 2, 5])
    axis.set_title("our backbones: the same text, 40 times")
    axis.legend(fontsize=7, loc="lower left")


def _plain_ticks(axis: Axis, values: Sequence[float]) -> None:
    axis.set_ticks(values, [f"{value:g}" for value in values])
    axis.set_minor_locator(NullLocator())


def _shares(
    axis: Axes, x: pandas.Series, rows: pandas.DataFrame, colour: str, mark: str, label: str, line: str
) -> None:
    """Shares recalled with their Wilson intervals."""
    share = rows["recalled"] / rows["probed"]
    limits = numpy.array([share_interval(int(row.recalled), int(row.probed)) for row in rows.itertuples()])
    bars = numpy.maximum([share - limits[:, 0], limits[:, 1] - share], 0)
    axis.errorbar(
        x, share, bars, color=colour, marker=mark, markersize=4, capsize=2, linestyle=line, linewidth=1, label=label
    )


def _recall_by_epoch(axis: Axes, curves: Mapping[str, pandas.DataFrame], tuned: pandas.DataFrame) -> None:
    for (name, curve), (colour, mark) in zip(curves.items(), MARKS, strict=False):
        rows = curve.dropna(subset="recalled")
        _shares(axis, rows["epoch"], rows, colour, mark, f"{name}, pretraining (n = {rows['probed'].iloc[0]})", "-")
    of = f"n = {tuned['probed'].iloc[0]}"
    _shares(axis, tuned["epoch"], tuned, GREEN, "^", f"memory tuning with LoRA ({of})", "-")
    axis.axvline(1, color=BLACK, linestyle=":", linewidth=1, label="the usual recipe: 1 epoch")
    axis.axvline(100, color=BLACK, linestyle="--", linewidth=1, label="paper: 100 epochs")
    axis.set(xscale="log", xlabel="epochs", ylabel="facts recalled word for word (share)", ylim=(-0.03, 1.05))
    axis.set_xticks([1, 2, 4, 10, 20, 40, 100], ["1", "2", "4", "10", "20", "40", "100"])
    axis.minorticks_off()
    axis.set_title("one epoch is not enough (bars: 95%)")
    axis.legend(fontsize=7, loc="center", bbox_to_anchor=(0.72, 0.4))


def _recall_by_loss(
    axis: Axes, curves: Mapping[str, pandas.DataFrame], recalls: Mapping[str, RecallFit], paper: float
) -> None:
    for (name, curve), (colour, mark) in zip(curves.items(), MARKS, strict=False):
        rows = curve.dropna(subset="recalled")
        _shares(axis, rows["loss"], rows, colour, mark, name, "")
        line = numpy.geomspace(rows["loss"].min(), rows["loss"].max(), 200)
        axis.plot(line, recalls[name].share(line), color=colour, linewidth=1, label=f"{name}, logistic fit in ln(loss)")
    axis.axvline(paper, color=BLACK, linestyle="--", linewidth=1, label=f"paper: pretraining ends at {paper:g}")
    axis.axvline(numpy.log(2), color=BLACK, linestyle=":", linewidth=1, label="ln 2")
    axis.set(xscale="log", xlabel="mean loss of the epoch (nats/answer token)", ylabel="facts recalled (share)")
    axis.set_ylim(-0.03, 1.05)
    _plain_ticks(axis.xaxis, [0.1, 0.2, 0.5, 1, 2, 4])
    axis.set_title("recall against the mean loss (bars: 95%)")
    axis.legend(fontsize=7, loc="lower left")
