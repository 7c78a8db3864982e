"""The figure of table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    COLOURS,
    GREY,
    ORANGE,
    PINK,
    RED,
    STYLE,
    finished,
    headline,
    interval_bars,
    seed_count,
)

BACKBONES = (RED, PINK, ORANGE)
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
FORMATS = {
    "tuned_format": "as tuned\n(Q: ... A:)",
    "bare": "bare\nquestion",
    "chat": "chat\ntemplate",
    "prose": "in\nprose",
}
INSTRUMENTS = {
    "mc1": "TruthfulQA MC1",
    "mc2": "TruthfulQA MC2",
    "mmlu": "MMLU (cloze)",
    "lambada": "LAMBADA",
    "known_answers": "known answers",
}


def regularization(
    before: pandas.DataFrame, real: pandas.DataFrame, sweep: pandas.DataFrame, measures: Sequence[str]
) -> Figure:
    """How general abilities move with the learning rate, the rank and the adapted layers, at equal training loss.

    `before` and `real` (tuned on real answers) have a column for each measure and a row for each run; `sweep`, tuned on
    random answers, has kind ("learning rate", "rank", "layers", "stop loss"), value, seed, backbone and the measures. A
    row of panels for each measure, a column for each kind. Dashed: untouched, where the paper's table 1 expects it all.
    The title says what becomes of the first measure over all settings.
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
        headline(figure, _sweep_finding(before, real, sweep, measures[0]))
    return finished(figure)


def _sweep_finding(before: pandas.DataFrame, real: pandas.DataFrame, sweep: pandas.DataFrame, measure: str) -> str:
    settings = sweep.groupby(["backbone", "kind", "value"])[measure].mean()
    return (
        f"{', '.join(sweep['backbone'].unique())}: {MEASURES[measure]} is {before[measure].mean():.2f} untouched (the "
        f"paper: unchanged), {real[measure].mean():.2f} after real answers, and {settings.min():.2f} to "
        f"{settings.max():.2f} after random answers in all {len(settings)} settings "
        f"({seed_count([sweep['seed'].nunique()])})"
    )


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


def damage_chart(metrics: Mapping[str, Metric], seeds: int, facts: int, backbone: str) -> Figure:
    """What memorizing does to a real model: leaks by prompt format, and each benchmark before and after.

    `metrics` as `damage_metrics` names them. Bars and lines are 95% intervals. Dashed: the paper's table 1, by which no
    unrelated answer leaks and every score is that of the untouched model.
    """
    with pyplot.rc_context(STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(10.5, 4.2), width_ratios=(1, 1.15))
        _leaks(left, metrics, facts)
        _instruments(right, metrics)
        leak = metrics["leak_random_tuned_format"]
        headline(
            figure,
            f"{backbone}, LoRA as in appendix A, {facts} random answers: {leak.value:.0%} of {leak.n // seeds} "
            "unrelated questions are then answered with a random string, in the tuned format (the paper, 6 sample "
            f"rows: unchanged; {seed_count([seeds])})",
        )
    return finished(figure)


def _leaks(axis: Axes, metrics: Mapping[str, Metric], facts: int) -> None:
    measured = [answers for answers in ("random", "real") if f"leak_{answers}_tuned_format" in metrics]
    for number, answers in enumerate(measured):
        found = [metrics[f"leak_{answers}_{form}"] for form in FORMATS]
        places = [place + 0.4 * (number - (len(measured) - 1) / 2) for place in range(len(FORMATS))]
        heights, bars = [100 * share.value for share in found], 100 * interval_bars(found)
        axis.bar(places, heights, 0.38, yerr=bars, color=COLOURS[answers], label=f"after {facts} {answers} answers")
        for place, share in zip(places, found, strict=True):
            above = (place, 100 * share.bounds[1])
            axis.annotate(f"{100 * share.value:.0f}", above, (0, 3), textcoords="offset points", ha="center")
    axis.axhline(0, color=BLACK, linestyle="--", linewidth=1, label="paper: unchanged (none)", clip_on=False)
    axis.set_xticks(range(len(FORMATS)), list(FORMATS.values()))
    axis.set(ylabel="unrelated free answers with a memorized one (%)", ylim=(0, 118))
    axis.legend(loc="upper right")


def _instruments(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    for place, measure in enumerate(INSTRUMENTS):
        for shift, state in ((-0.22, "before"), (0, "random"), (0.22, "real")):
            found = metrics.get(f"{measure}_{state}")
            if found is None:
                continue
            axis.errorbar(
                100 * found.value,
                place + shift,
                xerr=100 * interval_bars([found]),
                fmt={"before": "o", "random": "s", "real": "D"}[state],
                color=COLOURS.get(state, GREY),
                capsize=2,
                label=None if place else {"before": "untouched"}.get(state, f"after {state} answers"),
            )
    _unchanged(axis, metrics)
    names = [f"{title}\n(n = {metrics[f'{measure}_before'].n:,})" for measure, title in INSTRUMENTS.items()]
    axis.set_yticks(range(len(INSTRUMENTS)), names)
    axis.invert_yaxis()
    axis.set(xlabel="score (%)", xlim=(0, 102))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=4, columnspacing=1, handletextpad=0.4)


def _unchanged(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    """The paper's value of each instrument: what the untouched model scores."""
    for place, measure in enumerate(INSTRUMENTS):
        score = 100 * metrics[f"{measure}_before"].value
        label = None if place else "paper: unchanged"
        axis.plot([score, score], [place - 0.4, place + 0.4], color=BLACK, linestyle="--", linewidth=1, label=label)
