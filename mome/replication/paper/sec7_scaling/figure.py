"""The figure of scale: time, memory, recall and bits against the number of experts."""

from __future__ import annotations

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    seed_count,
    span,
)

OPTIMIZERS = {"adam": (BLUE, "o", "-"), "adafactor": (SKY, "s", "--")}
LORA = {"lora same modules": (ORANGE, "LoRA, same modules"), "lora all linear": (RED, "LoRA, all linear")}
INDEXES = {
    "product_key": (BLUE, "o", "product keys"),
    "flat": (GREEN, "s", "all keys, exact"),
    "torch.topk": (BLACK, "^", "torch.topk(q @ K.T)"),
}
SHADES = (BLUE, GREEN, PINK, RED, ORANGE)


def scaling(
    steps: pandas.DataFrame,
    lookups: pandas.DataFrame,
    memory: pandas.DataFrame,
    points: pandas.DataFrame,
    small: pandas.DataFrame,
    literature: dict[str, float],
) -> Figure:
    """Six panels against the number of experts: step, lookup, memory, cost of a fact, side effects, bits.

    `steps` and `lookups` are medians with `median`, `p20`, `p80` (ms) and their number `n` beside method, optimizer,
    experts, or index, experts; both of one seed. `memory` is a `memory_table`; `points` and `small` (small banks) are
    `memorize_points`. `literature` names bits for each parameter that others measured. Titles say how many seeds and
    runs are behind each panel.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 3, figsize=(12.5, 7.2))
        _steps(axes[0][0], steps)
        _lookups(axes[0][1], lookups)
        _memory(axes[0][2], memory)
        _costs(axes[1][0], points)
        _side_effects(axes[1][1], points)
        _bits(axes[1][2], points, small, literature)
        for axis in (*axes[0], axes[1][1]):
            _count_axis(axis, sorted(points["experts"].unique()))
    return finished(figure)


def _count_axis(axis: Axes, experts: list[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(experts, [f"{count:,}" for count in experts])
    axis.minorticks_off()
    axis.margins(x=0.12)
    axis.set_xlabel("experts N")


def _steps(axis: Axes, steps: pandas.DataFrame) -> None:
    for optimizer, (colour, mark, line) in OPTIMIZERS.items():
        part = steps[(steps["method"] == "mome") & (steps["optimizer"] == optimizer)]
        if len(part):
            _with_range(axis, part, colour, mark, line, f"MoME, {optimizer}")
    for method, (colour, title) in LORA.items():
        for optimizer, (_, _, line) in OPTIMIZERS.items():
            part = steps[(steps["method"] == method) & (steps["optimizer"] == optimizer)]
            if len(part):
                axis.axhline(part["median"].item(), color=colour, linestyle=line, label=f"{title}, {optimizer}")
                axis.axhspan(part["p20"].item(), part["p80"].item(), color=colour, alpha=0.08, linewidth=0)
    axis.set_ylim(bottom=0, top=1.5 * steps["p80"].max())
    axis.set_ylabel("one training step (ms)")
    axis.set_title(f"training step, same batches\n1 seed, n = {span(steps['n'])} steps (bars: p20 to p80)")
    axis.legend(fontsize=7, ncols=2, loc="upper center", columnspacing=1, handlelength=1.5)


def _lookups(axis: Axes, lookups: pandas.DataFrame) -> None:
    for index, (colour, mark, title) in INDEXES.items():
        _with_range(axis, lookups[lookups["index"] == index], colour, mark, "-", title)
    axis.set_yscale("log")
    axis.set_ylim(top=20 * lookups["p80"].max())
    axis.set_ylabel("32 of N for one question (ms)")
    axis.set_title(f"lookup\n1 seed, n = {span(lookups['n'])} questions (bars: p20 to p80)")
    axis.legend(fontsize=7, loc="upper left")


def _runs(points: pandas.DataFrame) -> str:
    """Seeds and number of memorizing runs behind a panel."""
    return f"{seed_count([points['seed'].nunique()])}, n = {len(points)} runs"


def _with_range(axis: Axes, part: pandas.DataFrame, colour: str, mark: str, line: str, title: str) -> None:
    part = part.sort_values("experts")
    spread = [part["median"] - part["p20"], part["p80"] - part["median"]]
    axis.errorbar(
        part["experts"], part["median"], spread, color=colour, marker=mark, linestyle=line, capsize=2, label=title
    )


def _memory(axis: Axes, memory: pandas.DataFrame) -> None:
    held = memory[memory["storage"] == "memory"].sort_values("experts")
    held = held.assign(touched_bytes=held["row_bytes"] + held["optimizer_bytes"])
    lines = {
        "virtual": (RED, "^", "all N rows (never allocated)"),
        "over": (BLUE, "o", "peak over the backbone"),
        "touched_bytes": (GREEN, "s", "touched rows and their optimizer state"),
    }
    for column, (colour, mark, title) in lines.items():
        axis.plot(held["experts"], held[column] / 2**20, color=colour, marker=mark, label=title)
    mapped = memory[memory["storage"] != "memory"]
    axis.plot(mapped["experts"], mapped["on_disk"] / 2**20, "D", color=ORANGE, label="mapped files on disk", mfc="none")
    axis.set_yscale("log")
    axis.set_ylim(top=50 * held["virtual"].max() / 2**20)
    axis.set_ylabel("MiB")
    facts, optimizer = held[["facts", "optimizer"]].iloc[0]
    axis.set_title(f"memory to tune {facts:,} facts ({optimizer})\n1 seed, n = 1 process a mark")
    axis.legend(fontsize=7, loc="upper left")


def _costs(axis: Axes, points: pandas.DataFrame) -> None:
    """Time for each fact against the number of facts: level, where cost grows with the examples alone."""
    for colour, (experts, part) in zip(SHADES, points.groupby("experts"), strict=False):
        cost = (1e3 * part["seconds"] / part["facts"]).groupby(part["facts"])
        axis.plot(part["facts"], 1e3 * part["seconds"] / part["facts"], ".", color=colour, markersize=4)
        axis.plot(cost.mean().index, cost.mean(), color=colour, marker="o", label=f"N = {experts:,}")
    axis.set_xscale("log", base=2)
    ticks = sorted(points["facts"].unique())
    axis.set_xticks(ticks, [f"{value:,}" for value in ticks])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("facts")
    axis.set_ylabel("time to memorize one fact (ms)")
    axis.set_title(f"cost of a fact, all its training steps\n{_runs(points)} (dots: runs, lines: means)")
    axis.minorticks_off()
    axis.legend(fontsize=7)


def _side_effects(axis: Axes, points: pandas.DataFrame) -> None:
    """Rise of the general loss over N: by the keys alone (filled), and behind a rejection threshold (hollow)."""
    for colour, (facts, part) in zip(SHADES, points.groupby("facts"), strict=False):
        means = part.groupby("experts")[["drift_plain", "drift"]].mean()
        axis.plot(means.index, means["drift_plain"], "o-", color=colour, label=f"{facts:,} facts, keys alone")
        axis.plot(
            means.index, means["drift"], "s:", color=colour, mfc="none", label=f"{facts:,} facts, rejection threshold"
        )
    axis.set_yscale("symlog", linthresh=1e-4)
    axis.set_ylim(bottom=-2e-4, top=30 * max(1e-2, points["drift_plain"].max()))
    axis.axhline(0, color=BLACK, linestyle="--", linewidth=1, label="paper: unchanged")
    axis.set_ylabel("rise of general loss (nats/token)")
    axis.set_title(f"side effects on other answers\n{_runs(points)} (marks: means)")
    axis.legend(fontsize=7, loc="upper right")


def _bits(axis: Axes, points: pandas.DataFrame, small: pandas.DataFrame, literature: dict[str, float]) -> None:
    """Bits held over bits asked for, both for each parameter of the bank: on the diagonal all facts are held."""
    shown = pandas.concat([points, small])
    for colour, (length, part) in zip(SHADES, shown.groupby("characters"), strict=False):
        held = part["bits_stored"] / part["parameters"]
        axis.plot(
            part["bits_asked"] / part["parameters"], held, "o", color=colour, label=f"answers of {length} characters"
        )
    asked = shown["bits_asked"] / shown["parameters"]
    ends = [asked.min() / 2, max(asked.max(), *literature.values()) * 2]
    axis.plot(ends, ends, color=BLACK, linewidth=0.7, label="all of it")
    for line, (name, bits) in zip(("--", ":"), literature.items(), strict=False):
        axis.axhline(bits, color=BLACK, linestyle=line, linewidth=1, label=f"{bits:g} bits: {name}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("bits of the facts for each parameter of the bank")
    axis.set_ylabel("bits held for each parameter")
    axis.set_title(f"capacity\n{_runs(shown)}, a mark each")
    axis.legend(fontsize=7, loc="lower right")
