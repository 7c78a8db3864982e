"""The figure of insights and fallacies: models that differ in recall only, two kinds of test, digits, capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    STYLE,
    finished,
    headline,
    interval_bars,
)

MODELS = {
    "backbone": (GREY, "^", "backbone, untouched"),
    "lora": (ORANGE, "D", "LoRA, fine-tuned"),
    "mome": (BLUE, "o", "MoME, memory-tuned"),
}
ALIKE = {"quiz_accuracy": "quiz", "general_accuracy": "general answers", "recall": "numbers recalled"}
SPLITS = {
    "training_rows": "random split,\ntraining rows",
    "test_rows": "random split,\ntest rows",
    "other_words": "same facts,\nparaphrased",
}
LENGTHS = (GREEN, PINK, SKY)
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}


@dataclass(frozen=True, slots=True)
class Subject:
    """What the figure is of: the backbones' names, the seeds behind it as a text, and what the quiz is."""

    backbone: str
    seeds: str
    quiz: str = "quiz"


def insights(
    metrics: Mapping[str, Metric],
    digits: Mapping[str, numpy.ndarray],
    points: pandas.DataFrame,
    own: Mapping[str, tuple[float, float]],
    literature: Mapping[str, float],
    source: str,
    subject: Subject,
) -> Figure:
    """Four panels, and above them what they show.

    `metrics` are named model_measure, of the models and measures above, with their 95% intervals. `digits` holds
    for each model bool [facts of all runs, places]. `points` is `with_demand` of the table that `source` names; `own`
    names for each model here bits asked for each trained parameter, and recall. `literature`: bits a parameter holds.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(12, 9.6))
        _groups(axes[0][0], metrics, {**ALIKE, "quiz_accuracy": subject.quiz})
        axes[0][0].set_title("scores, and recall of the numbers that were taught")
        paper = {"color": BLACK, "linestyle": "--", "linewidth": 1, "zorder": 0}
        axes[0][0].hlines([0, 1], 1.6, 2.4, **paper, label="paper: 0% and 100% recalled")
        _groups(axes[0][1], metrics, SPLITS)
        axes[0][1].hlines(0, 0.6, 1.4, **paper, label="paper: a random split shows nothing")
        axes[0][1].set_title("what a test can see")
        named = [axis.get_legend_handles_labels() for axis in axes[0]]
        entries = {label: handle for handles, labels in named for handle, label in zip(handles, labels, strict=True)}
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries))
        _digits(axes[1][0], digits)
        _capacity(axes[1][1], points, own, literature, source)
        headline(figure, _finding(metrics, subject))
    return finished(figure)


def _finding(metrics: Mapping[str, Metric], subject: Subject) -> str:
    value = {name: found.value for name, found in metrics.items()}
    gaps = [value[f"mome_{score}"] - value[f"backbone_{score}"] for score in ("quiz_accuracy", "general_accuracy")]
    most = 100 * max(map(abs, gaps))
    scores = (
        f"{subject.quiz} {value['mome_quiz_accuracy']:.1%} and {value['backbone_quiz_accuracy']:.1%}, general answers "
        f"{value['mome_general_accuracy']:.1%} and {value['backbone_general_accuracy']:.1%}"
    )
    split = "show nothing of it" if value["mome_test_rows"] == 0 else "are answered"
    return (
        f"{subject.backbone}: a memory-tuned model scores within {most:.1f} points of the backbone ({scores}) and "
        f"recalls {value['mome_recall']:.0%} of {metrics['mome_recall'].n} numbers, the backbone "
        f"{value['backbone_recall']:.0%} (the paper: 100% and 0%); a random split's test rows {split} "
        f"({value['mome_test_rows']:.0%}), paraphrases {value['mome_other_words']:.0%} ({subject.seeds})"
    )


def _groups(axis: Axes, metrics: Mapping[str, Metric], groups: Mapping[str, str]) -> None:
    """For each measure a mark with its 95% interval for each model that was measured."""
    for offset, (model, (colour, mark, label)) in zip((-0.2, 0.0, 0.2), MODELS.items(), strict=True):
        named = [(place, metrics.get(f"{model}_{measure}")) for place, measure in enumerate(groups)]
        shown = [(place, found) for place, found in named if found is not None]
        measured = [found for _, found in shown]
        places = [place + offset for place, _ in shown]
        style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 6, "linestyle": "none", "capsize": 3}
        axis.errorbar(places, [found.value for found in measured], interval_bars(measured), label=label, **style)
    asked = [metrics[f"mome_{measure}"].n for measure in groups]
    axis.set_xticks(range(len(groups)), [f"{name}\n(n = {n})" for name, n in zip(groups.values(), asked, strict=True)])
    axis.set_xlim(-0.5, len(groups) - 0.5)
    axis.set_ylim(-0.06, 1.09)
    axis.set_ylabel("right answers (share, 95% interval)")
    axis.grid(axis="x", visible=False)


def _digits(axis: Axes, digits: Mapping[str, numpy.ndarray]) -> None:
    """Share of facts whose digit is right at each place, with its exact 95% interval."""
    for offset, (model, (colour, mark, label)) in zip((-0.12, 0.0, 0.12), MODELS.items(), strict=True):
        right = digits[model]
        counts, facts = right.sum(axis=0), len(right)
        ends = [stats.binomtest(int(count), facts).proportion_ci(0.95, method="exact") for count in counts]
        share = counts / facts
        low, high = (numpy.array(side) for side in zip(*((end.low, end.high) for end in ends), strict=True))
        places = numpy.arange(1, right.shape[1] + 1) + offset
        spread = [share - low, high - share]
        label = f"{label}: {right.sum():,} of {right.size:,} digits"
        axis.errorbar(places, share, spread, color=colour, marker=mark, markersize=4, linewidth=0.7, label=label)
    axis.axhline(0.1, color=BLACK, linestyle=":", linewidth=1, label="chance: 1 in 10")
    axis.axhline(1, color=BLACK, linestyle="--", linewidth=1, label="paper: every digit right", zorder=0)
    axis.set_ylim(-0.04, 1.09)
    axis.set_xlabel("place of the digit in its number")
    axis.set_ylabel("facts with the right digit (share)")
    axis.set_title("can a tuned model get every digit right?")
    axis.legend(**BELOW)


def _capacity(
    axis: Axes,
    points: pandas.DataFrame,
    own: Mapping[str, tuple[float, float]],
    literature: Mapping[str, float],
    source: str,
) -> None:
    """Recall against the bits asked of each parameter: where capacity binds; dashed where the claim would stand."""
    ordered = points.sort_values("asked")
    for colour, (length, part) in zip(LENGTHS, ordered.groupby("characters"), strict=False):
        axis.plot(
            part["asked"], part["recall"], "s", color=colour, markersize=5, label=f"{source}, {length} characters"
        )
        bits = float((part["bits_asked"] / part["facts"]).iloc[0])
        axis.axvline(bits, color=colour, linestyle="--", linewidth=1, label=f"paper: 1 fact of {bits:.0f} bits each")
    for model, (asked, recalled) in own.items():
        colour, mark, label = MODELS[model]
        axis.plot(asked, recalled, mark, color=colour, markersize=7, label=f"here: {label}")
    for line, (name, bits) in zip(("-.", ":"), literature.items(), strict=False):
        axis.axvline(bits, color=BLACK, linestyle=line, linewidth=1, label=f"holds {bits:g}: {name}")
    axis.set_xscale("log")
    axis.set_ylim(-0.06, 1.09)
    axis.set_xlabel("bits of the facts for each parameter")
    axis.set_ylabel("facts recalled exactly (share)")
    axis.set_title("is it capacity?")
    axis.legend(**BELOW)
