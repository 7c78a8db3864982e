"""The figure of editing: retention over many edits, the field's measures, what teacher forcing hides, and seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    RED,
    SKY,
    STYLE,
    finished,
    headline,
    interval_bars,
    seed_count,
    span,
)

METHODS = {
    "mome": (BLUE, "o", "MoME"),
    "lora": (ORANGE, "D", "LoRA"),
    "full": (RED, "s", "full fine-tuning"),
    "rag": (GREEN, "^", "RAG update"),
    "index": (SKY, "P", "BM25, no reader"),
    "rome": (PINK, "v", "ROME"),
}
MEASURES = ("reliability", "generality", "locality", "portability")
PAPER = "paper: edited precisely"


def editing(metrics: Mapping[str, Metric], sizes: Sequence[int], bars: Mapping[str, float], backbone: str) -> Figure:
    """What becomes of edits, in the title and in four panels.

    `metrics` are named `edit_{measure}_{edits}_{method}` and `edit_seconds_{method}`, and have intervals. `sizes` are
    the numbers of edits, the first for edits made alone and the last for the measures. `bars` are the least
    "reliability" and "locality" that were asked for. The legend's heading names the seeds, as many as there are values
    behind `edit_seconds_{method}`; each n counts edits, answers or tokens over all seeds.
    """
    methods = [method for method in METHODS if f"edit_reliability_{sizes[-1]}_{method}" in metrics]
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(14, 9.4))
        _retention(axes[0][0], metrics, sizes, methods)
        _measures(axes[0][1], metrics, sizes[-1], methods, bars)
        _forced(axes[1][0], metrics, (sizes[0], sizes[-1]), methods)
        _seconds(axes[1][1], metrics, methods)
        named = [axis.get_legend_handles_labels() for axis in axes[0]]
        entries = {label: handle for handles, labels in named for handle, label in zip(handles, labels, strict=True)}
        heading = f"{_seeds(metrics, methods)}\n(n: over all seeds)\n"
        style: dict[str, Any] = {"loc": "outside right upper", "alignment": "left"}
        figure.legend(entries.values(), entries.keys(), title=heading, **style)
        headline(figure, f"{backbone}: {_finding(metrics, sizes[-1], methods, bars)}")
    return finished(figure)


def _finding(metrics: Mapping[str, Metric], size: int, methods: Sequence[str], bars: Mapping[str, float]) -> str:
    """How many edits each method still answers as told, who keeps other answers as asked, and what follows from it."""
    shares = {
        method: [
            metrics.get(f"edit_{measure}_{size}_{method}") for measure in ("reliability", "locality", "generality")
        ]
        for method in methods
    }
    told = {method: [None if found is None else found.value for found in three] for method, three in shares.items()}
    meets = [METHODS[method][2] for method, values in told.items() if _meets(values, bars)]
    each = "; ".join(
        f"{METHODS[method][2]} {' / '.join('-' if value is None else f'{value:.0%}' for value in values)}"
        for method, values in told.items()
    )
    who = " and ".join(meets) or "no method"
    verb = "keep" if len(meets) > 1 else "keeps"
    least, kept = f"{bars['reliability']:.0%}", f"{bars['locality']:.1%}"
    lead = f"{who} {verb} at least {least} of them and at least {kept} of other answers (the paper: edited precisely);"
    if size * (1 - bars["reliability"]) < 1 - 1e-9:  # where one lost edit already misses the bar
        lead = f"(too few to tell whether {least} hold; the paper: edited precisely):"
    return (
        f"after {size:,} edits in turn {lead} edits answered as told "
        f"/ other answers kept / paraphrases: {each} ({_seeds(metrics, methods).replace('all methods: ', '')})"
    ).replace("\n", ", ")


def _meets(values: Sequence[float | None], bars: Mapping[str, float]) -> bool:
    """Whether reliability and locality, the first two of the values, reach their bars, up to rounding."""
    asked = (bars["reliability"], bars["locality"])
    return all(value is not None and value >= bar - 1e-9 for value, bar in zip(values, asked, strict=False))


def _seeds(metrics: Mapping[str, Metric], methods: Sequence[str]) -> str:
    """Each method's number of seeds, one a line, or once where they are all the same."""
    runs = {method: metrics[f"edit_seconds_{method}"].n for method in methods}
    each = "\n".join(f"{METHODS[method][2]}: {seed_count([count])}" for method, count in runs.items())
    return f"all methods: {seed_count(runs.values())}" if len(set(runs.values())) == 1 else each


def _asked(metrics: Mapping[str, Metric], measure: str, size: int, methods: Sequence[str]) -> str:
    """The number of answers (or tokens) behind a measure, over all seeds; methods may differ."""
    names = [f"edit_{measure}_{size}_{method}" for method in methods]
    return span(metrics[name].n for name in names if name in metrics)


def _counted(metrics: Mapping[str, Metric], measure: str, size: int, methods: Sequence[str]) -> str:
    """The same below a tick, where there is little room."""
    return f"n = {_asked(metrics, measure, size, methods)}".replace(" to ", "\nto ")


def _retention(axis: Axes, metrics: Mapping[str, Metric], sizes: Sequence[int], methods: Sequence[str]) -> None:
    """The share of all edits so far that get their new answer, as groups of bars, as the numbers of edits are few."""
    for method, shift in zip(methods, _shifts(len(methods), 0.03), strict=True):
        shown = [size for size in sizes if f"edit_reliability_{size}_{method}" in metrics]
        named = [metrics[f"edit_reliability_{size}_{method}"] for size in shown]
        _marks(axis, [size * 10**shift for size in shown], named, method, linewidth=1.2)
    axis.axhline(1, color=BLACK, linestyle="--", linewidth=1, zorder=0, label=PAPER)
    axis.set_xscale("log")
    counts = [_counted(metrics, "reliability", size, methods) for size in sizes]
    axis.set_xticks(sizes, [f"{size:,}\n{count}" for size, count in zip(sizes, counts, strict=True)])
    axis.minorticks_off()
    axis.set_xlabel("edits made one after another")
    axis.set_ylabel("edits still answered as told (share)")
    axis.set_title("retention")
    _shares(axis)


def _measures(
    axis: Axes, metrics: Mapping[str, Metric], size: int, methods: Sequence[str], bars: Mapping[str, float]
) -> None:
    measures = [name for name in MEASURES if any(f"edit_{name}_{size}_{method}" in metrics for method in methods)]
    for method, shift in zip(methods, _shifts(len(methods), 0.14), strict=True):
        places = [place for place, measure in enumerate(measures) if f"edit_{measure}_{size}_{method}" in metrics]
        named = [metrics[f"edit_{measures[place]}_{size}_{method}"] for place in places]
        colour = METHODS[method][0]
        axis.bar([place + shift for place in places], [found.value for found in named], 0.12, color=colour, alpha=0.35)
        _marks(axis, [place + shift for place in places], named, method, linestyle="none")
    asked = {place: bars[measure] for place, measure in enumerate(measures) if measure in bars}
    if asked:
        left, right = ([place + side for place in asked] for side in (-0.45, 0.45))
        axis.hlines(list(asked.values()), left, right, color=BLACK, linestyle=":", label="asked for")
    labels = [f"{measure}\n{_counted(metrics, measure, size, methods)}" for measure in measures]
    axis.set_xticks(range(len(measures)), labels)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel("right answers (share, 95% interval)")
    axis.set_title(f"after {size:,} edits, free generation")
    _shares(axis)


def _forced(axis: Axes, metrics: Mapping[str, Metric], sizes: Sequence[int], methods: Sequence[str]) -> None:
    """Reliability by free generation (filled) beside the same under teacher forcing (hollow)."""
    for place, method in enumerate(methods):
        colour, mark, _ = METHODS[method]
        for shift, size in zip((-0.18, 0.18), sizes, strict=True):
            for measure, face in (("teacher_forced", "white"), ("reliability", colour)):
                found = metrics.get(f"edit_{measure}_{size}_{method}")
                if found:
                    style: dict[str, Any] = {"color": colour, "marker": mark, "markerfacecolor": face, "capsize": 3}
                    axis.errorbar([place + shift], [found.value], interval_bars([found]), linestyle="none", **style)
    for face, measure, label, unit in (
        ("white", "teacher_forced", "teacher forcing", "tokens"),
        (BLACK, "reliability", "free generation", "answers"),
    ):
        counts = " | ".join(_asked(metrics, measure, size, methods) for size in sizes)
        axis.plot([], [], "o", color=BLACK, markerfacecolor=face, label=f"{label}\n(n = {counts} {unit})")
    each = f"{sizes[0]:,} | {sizes[-1]:,}"
    axis.set_xticks(range(len(methods)), [f"{_title(method)}\n{each}" for method in methods])
    axis.grid(axis="x", visible=False)
    axis.set_xlabel("edits made")
    axis.set_ylabel("reliability (share)")
    axis.set_title("what teacher forcing hides")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2)
    _shares(axis)


def _seconds(axis: Axes, metrics: Mapping[str, Metric], methods: Sequence[str]) -> None:
    for place, method in enumerate(methods):
        _marks(axis, [place], [metrics[f"edit_seconds_{method}"]], method, linestyle="none")
    axis.set_yscale("log")
    axis.set_xticks(range(len(methods)), [_title(method) for method in methods])
    axis.set_xlim(-0.5, len(methods) - 0.5)
    axis.grid(axis="x", visible=False)
    axis.set_ylabel("seconds of an edit (median; bars: 95% over seeds)")
    axis.set_title("time, as it was on the machine of the table")


def _title(method: str) -> str:
    return METHODS[method][2].replace(", ", ",\n")


def _marks(axis: Axes, places: Sequence[float], named: Sequence[Metric], method: str, **more: Any) -> None:
    colour, mark, label = METHODS[method]
    style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5, "capsize": 3, "label": label, **more}
    axis.errorbar(places, [found.value for found in named], interval_bars(named), **style)


def _shifts(count: int, width: float) -> list[float]:
    return [width * (place - (count - 1) / 2) for place in range(count)]


def _shares(axis: Axes) -> None:
    axis.set_ylim(-0.04, 1.06)
