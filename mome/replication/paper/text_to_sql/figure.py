"""The figure of text to SQL: execution accuracy of each system, on tuned questions and on unseen ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import BLUE, GREY, ORANGE, RED, STYLE, finished, interval_bars

SYSTEMS = {
    "backbone": "backbone,\nschema in prompt",
    "rag_bare": "RAG, bare\nbackbone reads",
    "rag_copy": "retrieval,\nbest SQL copied",
    "rag": "RAG,\ntrained reader",
    "lora": "LoRA",
    "mome": "MoME",
    "mome_else_copy": "MoME,\nelse copied",
    "mome_rag": "MoME + RAG",
}
SPLITS = {
    "tuned": (GREY, "^", "tuned wording"),
    "": (BLUE, "o", "unseen phrasing"),
    "values": (ORANGE, "D", "unseen value"),
    "shapes": (RED, "s", "unseen shape"),
}
RETRIEVAL = ("rag_bare", "rag_copy", "rag")


def execution_accuracy(metrics: Mapping[str, Metric], paper: tuple[float, float]) -> Figure:
    """A mark with its 95% interval for each system and split that `metrics` (`accuracy_metrics`) holds.

    `paper` are the shares reported for MoME with retrieval, and for retrieval alone: dashed beside their systems.
    """
    shown = [system for system in SYSTEMS if f"execution_accuracy_{system}" in metrics]
    with pyplot.rc_context(STYLE):
        figure, axis = pyplot.subplots(figsize=(10, 4.2))
        for offset, (split, style) in zip((-0.27, -0.09, 0.09, 0.27), SPLITS.items(), strict=True):
            _marks(axis, metrics, shown, split, style, offset)
        _paper(axis, shown, paper)
        axis.set_xticks(range(len(shown)), [SYSTEMS[system] for system in shown])
        axis.set_xlim(-0.5, len(shown) - 0.5)
        axis.set_ylim(-0.04, 1.06)
        axis.set_ylabel("questions with the right result (share, 95% interval)")
        axis.grid(axis="x", visible=False)
        figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    return finished(figure)


def _marks(
    axis: Axes,
    metrics: Mapping[str, Metric],
    shown: Sequence[str],
    split: str,
    style: tuple[str, str, str],
    offset: float,
) -> None:
    names = [f"execution_accuracy_{system}" + (f"_{split}" if split else "") for system in shown]
    held = [(place, metrics[name]) for place, name in enumerate(names) if name in metrics]
    if not held:
        return
    measured = [found for _, found in held]
    colour, mark, label = style
    look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 5, "linestyle": "none", "capsize": 3}
    places = [place + offset for place, _ in held]
    values, label = [found.value for found in measured], f"{label} (n = {measured[0].n})"
    axis.errorbar(places, values, interval_bars(measured), label=label, **look)


def _paper(axis: Axes, shown: Sequence[str], paper: tuple[float, float]) -> None:
    """Dashed beside the systems that each reported share belongs to."""
    alone = [place for place, system in enumerate(shown) if system in RETRIEVAL]
    joined = [place for place, system in enumerate(shown) if system == "mome_rag"]
    dashed: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1, "zorder": 0}
    if joined:
        axis.hlines(paper[0], joined[0] - 0.45, joined[0] + 0.45, **dashed, label=f"reported: {paper[0]:.1%} with MoME")
    if alone:
        style = {**dashed, "linestyle": (0, (2, 2))}
        axis.hlines(paper[1], alone[0] - 0.45, alone[-1] + 0.45, **style, label=f"reported: {paper[1]:.0%} without")
