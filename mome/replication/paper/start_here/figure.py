"""The figure of notebook 00: one fact before it is taught, after, and taken back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as pyplot
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.style import COLOURS, LIGHT_GREY, STYLE, finished, headline

MOMENTS = {"before": LIGHT_GREY, "taught": COLOURS["real"], "taken back": COLOURS["random"]}
LOWEST = 1e-8  # about the smallest loss above zero in f32


def one_fact(
    tokens: Sequence[str],
    losses: Mapping[str, Sequence[float]],
    right: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    taught: int,
    backbone: str,
) -> Figure:
    """Losses (nats) of the answer's `tokens`, and shares of right answers, at the moments of `MOMENTS`.

    `right` holds for each moment whether the wordings of the fact (the first `taught` of them were taught) and other
    known questions were answered right. Dashed: ln 2, below which a token is written by greedy decoding. The title says
    whether `backbone` learned the fact, and whether taking it back restored what was there before.
    """
    with pyplot.rc_context(STYLE):
        figure, (left, middle) = pyplot.subplots(1, 2, figsize=(9.2, 3.7))
        _losses(left, tokens, losses)
        _shares(middle, right, taught)
        headline(figure, f"{backbone} {_finding(losses, right, taught)} (1 fact, 1 seed)")
    return finished(figure)


def _finding(
    losses: Mapping[str, Sequence[float]], right: Mapping[str, tuple[Sequence[float], Sequence[float]]], taught: int
) -> str:
    wordings, others = right["taught"]
    as_before = [now == was for now, was in zip(others, right["before"][1], strict=True)]
    restored = numpy.array_equal(losses["taken back"], losses["before"]) and all(
        numpy.array_equal(now, was) for now, was in zip(right["taken back"], right["before"], strict=True)
    )
    return (
        f"{'learns' if all(wordings[:taught]) else 'does not learn'} one fact: {_count(wordings[:taught])} taught "
        f"wordings and {_count(wordings[taught:])} other paraphrases answered rightly (the paper: learned exactly), "
        f"{_count(as_before)} other answers as right as before; taken back, {'all' if restored else 'not all'} losses "
        f"and answers are those from before"
    )


def _count(values: Sequence[float]) -> str:
    return f"{sum(values):.0f} of {len(values)}"


def _losses(axis: Axes, tokens: Sequence[str], losses: Mapping[str, Sequence[float]]) -> None:
    places = numpy.arange(len(tokens))
    for offset, (moment, values) in zip((-0.25, 0.0, 0.25), losses.items(), strict=True):
        drawn = numpy.maximum(numpy.asarray(values, dtype=float), 2 * LOWEST)
        axis.bar(places + offset, drawn, width=0.24, bottom=0, color=MOMENTS[moment], label=moment)
    axis.axhline(math.log(2), color="black", linestyle="--", linewidth=1, label="ln 2: below, the token is written")
    axis.set_yscale("log")
    axis.set_ylim(bottom=LOWEST)
    axis.set_xticks(places, [token.replace("\n", "end") or "end" for token in tokens], rotation=45, ha="right")
    axis.set_xlabel("token of the answer")
    axis.set_ylabel("loss (nats)")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7)


def _shares(axis: Axes, right: Mapping[str, tuple[Sequence[float], Sequence[float]]], taught: int) -> None:
    for offset, (moment, (wordings, known)) in zip((-0.25, 0.0, 0.25), right.items(), strict=True):
        groups = (wordings[:taught], wordings[taught:], known)
        drawn = [float(numpy.mean(group)) for group in groups]
        axis.bar(numpy.arange(3) + offset, drawn, width=0.24, color=MOMENTS[moment])
    wordings, known = right["taught"]
    sizes = (taught, len(wordings) - taught, len(known))
    names = ("wordings\ntaught", "paraphrases\nnot taught", "other\nquestions")
    axis.set_xticks(range(3), [f"{name}\n(n = {size})" for name, size in zip(names, sizes, strict=True)])
    axis.set_ylabel("right answers (share)")
    axis.set_ylim(0, 1.05)
