"""The figure of section 4: how often each cause alone makes a model hallucinate, temperature, and the loss behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import BLACK, BLUE, LIGHT_GREY, ORANGE, RED, SKY, STYLE, finished, interval_bars
from mome.replication.paper.sec4_explanations.conditions import (
    ABSTAINING,
    CONTROL,
    DECODERS,
    FAMILIES,
    HIGH,
    MOME,
    REMEDIES,
    ZERO,
)

MODELS = {
    HIGH: (RED, "^", "LoRA, stopped at a high loss"),
    ZERO: (ORANGE, "D", "LoRA, near-zero loss"),
    MOME: (BLUE, "o", "MoME"),
    ABSTAINING: (SKY, "s", 'MoME, may say "I don\'t know"'),
}
LABELS = {
    CONTROL: "none (control)",
    "missing": "fact missing from training",
    "conflict_even": "two sources, 50/50",
    "conflict_uneven": "two sources, 90/10",
    "outdated": "trained on the old value only",
    "skew": "another answer in 90% of the rows",
    "temperature_0_5": "sampling, temperature 0.5",
    "temperature_1": "sampling, temperature 1",
    "temperature_1_5": "sampling, temperature 1.5",
    "top_p_0_9": "sampling, top-p 0.9",
    "distractors": "three other answers in front",
    "padding": "long polite prefix",
    "repeats": "every word twice",
    "conflict_dated": "two sources, date in the question",
    "updated": "old value, then the new one",
}
PLACES = (CONTROL, *(cause for causes in FAMILIES.values() for cause in causes), *REMEDIES)
OFFSETS = dict(zip(MODELS, (-0.27, -0.09, 0.09, 0.27), strict=True))


def explanations(metrics: Mapping[str, Metric], table: pandas.DataFrame) -> Figure:
    """Three panels. `metrics` are `hallucination_{cause}_{model}` with their 95% intervals; missing ones are left out.

    `table` has the columns cause, model, asked_loss (nats/answer) of `experiment`.
    """
    with pyplot.rc_context(STYLE):
        figure = pyplot.figure(figsize=(11, 7.2))
        grid = figure.add_gridspec(2, 2, width_ratios=(1.35, 1))
        _causes(figure.add_subplot(grid[:, 0]), metrics)
        _temperatures(figure.add_subplot(grid[0, 1]), metrics)
        _losses(figure.add_subplot(grid[1, 1]), metrics, table)
    return finished(figure)


def _causes(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    """A line for each cause, from the control at the top to the remedies, with all models' rates and intervals."""
    for model, (colour, mark, label) in MODELS.items():
        named = [(place, metrics.get(f"hallucination_{cause}_{model}")) for place, cause in enumerate(PLACES)]
        shown = [(place + OFFSETS[model], found) for place, found in named if found is not None]
        style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5, "linestyle": "none", "capsize": 2}
        values, bars = [found.value for _, found in shown], interval_bars([found for _, found in shown])
        axis.errorbar(values, [place for place, _ in shown], xerr=bars, label=label, **style)
    axis.axvline(0, color=BLACK, linestyle="--", linewidth=1, label="paper: no cause suffices at zero loss", zorder=0)
    edge = 0.5
    for causes in ((CONTROL,), *FAMILIES.values()):
        axis.axhline(edge, color=LIGHT_GREY, linewidth=0.6)
        edge += len(causes) if causes != (CONTROL,) else 0
    axis.axhline(edge, color=LIGHT_GREY, linewidth=0.6)
    axis.set_yticks(range(len(PLACES)), [LABELS[cause] for cause in PLACES])
    axis.set_ylim(len(PLACES) - 0.4, -0.6)
    axis.set_xlim(-0.04, 1.04)
    axis.grid(axis="y", visible=False)
    counts = {found.n for name, found in metrics.items() if name.startswith("hallucination_")}
    axis.set_xlabel(f"hallucinated answers (share, 95% interval; n = {', '.join(map(str, sorted(counts)))} facts)")
    axis.legend(loc="upper center", bbox_to_anchor=(0.3, -0.07), ncols=2, fontsize=7.5)


def _temperatures(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    """Hallucination against the temperature, all tokens allowed; temperature 0 is the control."""
    heat = {0.0: CONTROL} | {temperature: cause for cause, (temperature, top_p) in DECODERS.items() if top_p == 1}
    for model, (colour, mark, label) in MODELS.items():
        named = [(degree, metrics.get(f"hallucination_{cause}_{model}")) for degree, cause in sorted(heat.items())]
        shown = [(degree, found) for degree, found in named if found is not None and model != ABSTAINING]
        if shown:
            values, bars = [found.value for _, found in shown], interval_bars([found for _, found in shown])
            places = [degree + OFFSETS[model] / 10 for degree, _ in shown]
            axis.errorbar(places, values, bars, color=colour, marker=mark, markersize=5, capsize=2, label=label)
    axis.axhline(0, color=BLACK, linestyle="--", linewidth=1, zorder=0)
    axis.set_ylim(-0.04, 1.04)
    axis.set_xticks(sorted(heat))
    axis.set_xlabel("temperature")
    axis.set_ylabel("hallucinated answers (share)")
    axis.set_title("decoder sampling")


def _losses(axis: Axes, metrics: Mapping[str, Metric], table: pandas.DataFrame) -> None:
    """Each cause and model: hallucination against the mean loss of the right answer where it was asked."""
    for (cause, model), rows in table.groupby(["cause", "model"]):
        found = metrics.get(f"hallucination_{cause}_{model}")
        if found is not None and model in MODELS and model != ABSTAINING:
            colour, mark, _ = MODELS[model]
            axis.plot(rows["asked_loss"].mean(), found.value, mark, color=colour, markersize=5)
    grid = numpy.geomspace(1e-3, 60, 200)
    axis.plot(grid, 1 - numpy.exp(-grid), color=BLACK, linewidth=1, label="1 - exp(-loss):\nsampling at\ntemperature 1")
    axis.axvline(numpy.log(2), color=BLACK, linestyle=":", linewidth=1, label="ln 2 nats")
    axis.set_xscale("log")
    axis.set_ylim(-0.04, 1.04)
    axis.set_xlabel("mean loss of the right answer as asked (nats)")
    axis.set_ylabel("hallucinated answers (share)")
    axis.set_title("whatever the cause: the loss of the answer")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 0.9), fontsize=7.5)
