"""One style for every figure: colour-blind safe, units on the axes, the range over seeds, texts as they are."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

from mome.files.atomic import write_atomically
from mome.replication.notebook.results import Destination, Metric

# Okabe and Ito's palette, readable with every common form of colour blindness, and two greys
BLUE = "#0072B2"
SKY = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
ORANGE = "#E69F00"
RED = "#D55E00"
PINK = "#CC79A7"
BLACK = "#000000"
GREY = "#777777"
LIGHT_GREY = "#999999"
COLOURS = {"real": BLUE, "random": RED, "shuffled": GREEN}
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


def headline(figure: Figure, finding: str) -> None:
    """Write the finding above the figure, in as few lines of equal length as its width allows."""
    widest = round(11 * figure.get_figwidth())  # about 12 characters an inch
    fewest = len(wrap(finding, widest))
    lines = next(found for width in range(1, widest + 1) if len(found := wrap(finding, width)) <= fewest)
    figure.suptitle("\n".join(lines))


def interval_bars(metrics: Sequence[Metric]) -> numpy.ndarray:
    """How far the 95% intervals reach below and above their values [2, metrics]: the bars of `Axes.errorbar`."""
    values = numpy.array([found.value for found in metrics])
    return numpy.abs(numpy.array([found.bounds for found in metrics]).reshape(-1, 2).T - values)


def loss_curve(axis: Axes, curves: pandas.DataFrame, colour: str, line: str, title: str) -> None:
    """Losses over epochs: thin lines for the runs, a thick one for their mean; a run that stopped keeps its last loss.

    `curves` has the columns backbone, seed, epoch, loss. The legend says how many runs there are.
    """
    wide = curves.pivot(index="epoch", columns=["backbone", "seed"], values="loss")
    for run in wide:
        axis.plot(wide.index, wide[run], color=colour, linewidth=0.7, alpha=0.5)
    mean = wide.ffill().mean(axis=1)
    axis.plot(mean.index, mean, line, color=colour, linewidth=2, label=f"{title} (n = {wide.shape[1]})")


def span(numbers: Iterable[int]) -> str:
    """Numbers as text: the one they all are, as "1,000", else the least and the most, as "119 to 400"; "0" for none."""
    found = sorted(set(numbers)) or [0]
    return f"{found[0]:,}" + (f" to {found[-1]:,}" if len(found) > 1 else "")


def seed_count(numbers: Iterable[int]) -> str:
    """The number of seeds as a text: "1 seed", "3 seeds" or "1 to 3 seeds"."""
    text = span(numbers)
    return f"{text} seed" + ("" if text == "1" else "s")
