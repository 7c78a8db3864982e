"""The figure of next-token distributions: one fact at several losses; entropy, wrong answers, similarity of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.lm.statistics import interval
from mome.replication.notebook.front_end import has_front_end
from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import BLACK, BLUE, GREEN, ORANGE, SKY, STYLE, finished, headline, seed_count, span
from mome.replication.paper.fig3_entropy.experiment import Panel
from mome.replication.paper.fig3_entropy.metrics import CERTAIN, CONCENTRATED, EVEN

LEAST = 1e-7
BINS = 8
ENTROPIES = ("entropy_blank", "entropy_pretrained", "entropy_low")


def next_tokens(
    panels: Sequence[Panel],
    facts: pandas.DataFrame,
    likeness: pandas.DataFrame,
    vocabulary: int,
    metrics: Mapping[str, Metric],
    holds: Mapping[str, bool],
) -> Figure:
    """Bars of one fact's next-token probabilities at each moment; below them, over loss: entropy, errors, similarity.

    `facts` has a row for each fact and moment: backbone, seed, fact, relation, epoch (-1: before pretraining), loss,
    entropy, total (nats), sampled (share wrong). `likeness` has one for each moment: epoch, loss, and the cosine
    `within` and `between` questions with `within_low`, `within_high`, `between_low`, `between_high`. The title says
    which parts of the paper's figure hold (`parts_that_hold` of `metrics`).
    """
    with pyplot.rc_context(STYLE):
        figure = pyplot.figure(figsize=(12.5, 8.0))
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.1, 1))
        top, bottom = halves
        axes = numpy.atleast_1d(top.subplots(1, len(panels), sharey=True))
        for axis, panel in zip(axes, panels, strict=True):
            _bars(axis, panel, vocabulary)
        axes[0].set_ylabel("probability of the next token")
        top.suptitle(panels[0].asked, fontsize=10)
        below = bottom.subplots(1, 3)
        _entropies(below[0], facts, vocabulary)
        _wrong(below[1], facts)
        _likeness(below[2], likeness)
        headline(figure, _finding(facts, metrics, holds))
    return finished(figure)


def _finding(facts: pandas.DataFrame, metrics: Mapping[str, Metric], holds: Mapping[str, bool]) -> str:
    even, concentrated, certain = (f"{'' if holds[part] else 'not '}{part}" for part in (EVEN, CONCENTRATED, CERTAIN))
    entropies = {name: f"{metrics[name].value:.2f}" for name in (*ENTROPIES, "max_entropy")}
    before, pretrained, low, most = entropies.values()
    runs = facts.groupby(["backbone", "seed"])
    n = f"{span(runs['fact'].nunique())} facts, relations: {span(runs['relation'].nunique())}"
    return (
        f"{', '.join(facts['backbone'].unique())}: the next token is {even} at high loss (entropy {before} nats before "
        f"pretraining, {pretrained} pretrained, of ln V = {most}), {concentrated} at low loss ({low} nats) and "
        f"{certain} at zero loss (largest probability {metrics['largest_zero'].value:.4f}); the paper draws all three "
        f"({n}; {seed_count([facts['seed'].nunique()])})"
    )


def one_panel(panel: Panel, vocabulary: int) -> Figure:
    """The bars of a single moment."""
    with pyplot.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=(5, 3.6))
        _bars(axis, panel, vocabulary)
        axis.set_ylabel("probability of the next token")
        figure.suptitle(panel.asked, fontsize=10)
    return finished(figure)


def browse(panels: Sequence[Panel], vocabulary: int) -> Any:
    """A slider over the moments; a plain figure of the first one where no front end is there to move it."""
    return slider(panels, vocabulary) if has_front_end() else one_panel(panels[0], vocabulary)


def slider(panels: Sequence[Panel], vocabulary: int) -> ipywidgets.interactive:
    """The widget that shows one moment's figure and draws another when it is moved."""
    options = [(panel.title, panel) for panel in panels]
    # the figure names the moment; beside the slider its name would be cut
    looks = {"description": "moment", "readout": False, "layout": {"width": "32em"}}
    choice = ipywidgets.SelectionSlider(options=options, **looks)
    return ipywidgets.interactive(lambda panel: one_panel(panel, vocabulary), {"auto_display": True}, panel=choice)


def _bars(axis: Axes, panel: Panel, vocabulary: int) -> None:
    colours = [GREEN if place == panel.right else ORANGE for place in range(len(panel.tokens))]
    bars = axis.bar(range(len(panel.tokens)), numpy.maximum(panel.probabilities, LEAST), color=colours)
    bars[panel.right].set_hatch("//")
    axis.axhline(1 / vocabulary, color=BLACK, linestyle="--", linewidth=1)
    axis.text(len(panel.tokens) - 0.4, 1.3 / vocabulary, "1/V", ha="right", fontsize=7)
    axis.set_yscale("log")
    axis.set_ylim(LEAST, 2)
    axis.set_yticks([1e-6, 1e-4, 1e-2, 1])
    axis.minorticks_off()
    axis.set_xticks(range(len(panel.tokens)), panel.tokens, rotation=60, ha="right", fontsize=8)
    axis.grid(axis="x", visible=False)
    text = f"{panel.title}\nloss {panel.loss:.3g}, entropy {panel.entropy:.3g} nats"
    text += (
        f"\nmost likely: {panel.tokens[0]}\nsampled answers wrong: {panel.wrong / panel.samples:.0%} of {panel.samples}"
    )
    axis.set_title(text, loc="left", fontsize=9)


def _entropies(axis: Axes, facts: pandas.DataFrame, vocabulary: int) -> None:
    most = math.log(vocabulary)
    moments = {"before pretraining": facts["epoch"] < 0, "pretrained": facts["epoch"] == 0, "tuned": facts["epoch"] > 0}
    for (title, chosen), (colour, mark) in zip(moments.items(), ((BLACK, "^"), (ORANGE, "s"), (SKY, "o")), strict=True):
        part = facts[chosen]
        axis.plot(part["loss"], part["entropy"], mark, color=colour, markersize=3, alpha=0.5, label=title)
    trained = facts[facts["epoch"] >= 0]
    edges = numpy.linspace(0, trained["loss"].max() + 1e-6, BINS + 1)
    _in_bins(axis, trained, "loss", "entropy", edges, "trained: mean in bins (bars: 95%)")
    axis.plot([0, most], [0, most], color=BLACK, linewidth=0.7, label="entropy = loss")
    axis.axhline(most, color=BLACK, linestyle="--", linewidth=1, label="paper, high loss: even (ln V)")
    axis.set(xlabel="loss at the key token (nats)", ylabel="entropy at the key token (nats)", ylim=(-0.2, 1.9 * most))
    axis.set_title(f"each fact at each moment (n = {len(facts)})")
    axis.legend(fontsize=7, loc="upper right")


def _in_bins(axis: Axes, facts: pandas.DataFrame, x: str, y: str, edges: numpy.ndarray, label: str) -> None:
    """The mean of `y` with its 95% interval over facts, in bins of `x`."""
    drawn = []
    for _, part in facts.groupby(numpy.digitize(facts[x], edges)):
        found = interval([part[y].tolist()])
        bars = [[found.mean - found.low], [found.high - found.mean]]
        style: Any = {"color": BLUE, "marker": "D", "markersize": 4, "capsize": 2, "zorder": 3}
        drawn.append(axis.errorbar([part[x].mean()], [found.mean], bars, **style))
    drawn[0].set_label(label)  # one entry of the legend for all bins


def _wrong(axis: Axes, facts: pandas.DataFrame) -> None:
    """Sampled wrong answers against the loss of the whole answer, beside 1 - exp(-loss)."""
    edges = numpy.geomspace(0.005, max(20.0, facts["total"].max()), BINS + 1)
    _in_bins(axis, facts, "total", "sampled", edges, "measured, mean in bins (bars: 95%)")
    line = numpy.geomspace(1e-3, facts["total"].max(), 200)
    axis.plot(line, 1 - numpy.exp(-line), color=BLACK, linewidth=1, label="1 - exp(-loss)")
    axis.axhline(0, color=BLACK, linestyle="--", linewidth=1, label="paper, zero loss: none")
    axis.set(xscale="log", xlabel="loss of the whole answer (nats)", ylabel="wrong sampled answers (share)")
    axis.set_ylim(-0.05, 1.4)
    axis.set_title(f"hallucination when sampling (n = {len(facts)})")
    axis.legend(fontsize=7, loc="upper left")


def _likeness(axis: Axes, likeness: pandas.DataFrame) -> None:
    rows = likeness.sort_values("epoch")
    for name, colour, mark, label in (
        ("within", BLUE, "o", "two draws for one question"),
        ("between", ORANGE, "s", "draws for two questions"),
    ):
        for part, line, title in ((rows[rows["epoch"] >= 0], "-", label), (rows[rows["epoch"] < 0], "", None)):
            bars = [part[name] - part[f"{name}_low"], part[f"{name}_high"] - part[name]]
            options: Any = {"marker": mark, "markersize": 4, "capsize": 2, "linestyle": line, "label": title}
            axis.errorbar(part["loss"], part[name], bars, color=colour, **options)
    for row in rows[rows["epoch"] <= 0].itertuples():
        title = "before\npretraining" if row.epoch < 0 else "pretrained"
        axis.annotate(title, (row.loss, row.within), (0, 12), textcoords="offset points", fontsize=7, ha="center")
    axis.set(xscale="log", xlabel="mean loss at the key token (nats)", ylabel="cosine of two different tokens drawn")
    axis.set_title("are the likely tokens alike? (bars: 95%)")
    axis.margins(y=0.3)
    axis.legend(fontsize=7, loc="upper left")
