"""The figure of loss thresholds: tokens, facts and means of real runs, the simple network, a mean over a large text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as pyplot
import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from mome.replication.notebook.style import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, STYLE, finished
from mome.replication.paper.sec5_threshold import theory

METHODS = {
    "untouched": (BLACK, "s", "backbone, facts it knows"),
    "backbone": (GREEN, "^", "backbone, all weights tuned"),
    "lora": (ORANGE, "D", "LoRA"),
    "mome": (BLUE, "o", "MoME"),
}
LINES = {"known": ":", "real": "-", "random": "--"}
LEAST_LOSS, LEAST_ANSWER_LOSS = 1e-4, 5e-3
PAPER_LOSS = 1.75


def threshold(
    tokens: pandas.DataFrame,
    answers: pandas.DataFrame,
    found: pandas.DataFrame,
    simple: pandas.DataFrame,
    vocabulary: int,
    texts: Sequence[tuple[str, float]],
    fact_loss: float,
) -> Figure:
    """Six panels; bounds are dashed or shaded.

    `tokens`, `answers`: `experiment.Watcher.tables` with method, answers, backbone, seed; `found`: its `moments`.
    `simple`: `train_simple_network` tables with `kinds` and `run`. `texts` names numbers of tokens; `fact_loss` (nats)
    is the loss of the one fact that is lost in a mean over them.
    """
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(2, 3, figsize=(13.5, 7.6))
        _tokens(axes[0][0], tokens, vocabulary)
        _means(axes[0][1], found, vocabulary)
        _simple(axes[0][2], simple)
        _sampled(axes[1][0], answers)
        _answers(axes[1][1], found)
        _hidden(axes[1][2], texts, fact_loss)
    return finished(figure)


def _tokens(axis: Axes, tokens: pandas.DataFrame, vocabulary: int) -> None:
    """Every token at its loss, in the upper band where right and in the lower where wrong, a lane for each method."""
    jitter = numpy.random.default_rng(0).uniform(-0.028, 0.028, len(tokens))
    loss, right = tokens["loss"].clip(lower=LEAST_LOSS), tokens["right"].to_numpy(dtype=bool)
    methods = [name for name in METHODS if name in set(tokens["method"])]
    for place, method in enumerate(methods):
        colour, _, label = METHODS[method]
        lane = numpy.where(right, 1.06 + 0.075 * place, -0.06 - 0.075 * place) + jitter
        own = (tokens["method"] == method).to_numpy()
        axis.plot(loss[own], lane[own], ".", color=colour, markersize=1.5, alpha=0.35, rasterized=True)
        axis.plot([], [], "o", color=colour, markersize=4, label=label)
    edges = numpy.geomspace(LEAST_LOSS, loss.max() * 1.001, 25)
    share = pandas.Series(right.astype(float)).groupby(numpy.digitize(loss, edges) - 1).mean()
    axis.plot(numpy.sqrt(edges[:-1] * edges[1:])[share.index], share, color=BLACK, linewidth=1, label="share right")
    for value, label in ((theory.LN2, "ln 2"), (theory.hopeless_mean_loss(vocabulary), "ln V")):
        _mark(axis, value, label, 0.5, RED, "--")
    axis.set_xscale("log")
    axis.set_yticks([-0.17, 0, 0.5, 1, 1.17], ["wrong", "0", "0.5", "1", "right"])
    axis.set_xlabel(f"loss of a token (nats; below {LEAST_LOSS:g} drawn there)")
    axis.set_ylabel("share of tokens right, and each token")
    axis.set_title(f"all {len(tokens):,} tokens, at all moments")
    axis.legend(fontsize=7, loc="center left")


def _means(axis: Axes, found: pandas.DataFrame, vocabulary: int) -> None:
    """Hallucinated answers against the mean loss, a line for each run; dashed: the bounds of theorem 3."""
    for (method, kind, _, _), run in found.groupby(["method", "answers", "backbone", "seed"], sort=False):
        colour, mark, _ = METHODS[method]
        style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 3, "linewidth": 0.9, "alpha": 0.7}
        axis.plot(run["mean_loss"], run["hallucinated"], LINES[kind], **style)
    for method in found["method"].unique():
        colour, mark, label = METHODS[method]
        axis.plot([], [], mark, color=colour, markersize=4, label=label)
    tuned = found[found["method"] != "untouched"]
    for kind in tuned["answers"].unique():
        axis.plot([], [], LINES[kind], color=GREY, label=f"{kind} answers")
        tokens = tuned.loc[tuned["answers"] == kind, "tokens"].max()
        _mark(axis, theory.LN2 / tokens, f"ln 2 / nL, {kind}", 0.3, RED, LINES[kind])
    _mark(axis, theory.hopeless_mean_loss(vocabulary), "ln V", 0.3, RED, "-.")
    _mark(axis, PAPER_LOSS, "paper, figure 2: 1.75", 0.3, GREY, ":")
    axis.set_xscale("log")
    axis.set_xlabel("mean loss (nats/token)")
    axis.set_ylabel("hallucinated answers (share)")
    axis.set_title("free greedy answers over training, each line a run")
    axis.legend(fontsize=7, loc="upper left", frameon=True, framealpha=0.9, edgecolor="none")


def _mark(axis: Axes, value: float, label: str, height: float, colour: str, line: str, side: str = "right") -> None:
    """A vertical line with its name beside it."""
    axis.axvline(value, color=colour, linestyle=line, linewidth=1)
    axis.text(value, height, f" {label} ", color=colour, fontsize=7, rotation=90, va="center", ha=side)


def _simple(axis: Axes, simple: pandas.DataFrame) -> None:
    """The simple network's loss and errors during training, and its final loss: the entropy of its answers."""
    facts, length = int(simple["facts"].max()), int(simple["length"].max())
    for (different, _), run in simple.groupby(["different", "run"], sort=False):
        colour = METHODS["mome"][0] if different else PINK
        axis.plot(length * run["mean_loss"], run["wrong"], color=colour, linewidth=0.6, alpha=0.5)
        last = run.iloc[-1]
        axis.plot(max(length * last["mean_loss"], LEAST_ANSWER_LOSS), last["wrong"], "o", color=colour, markersize=5)
    for colour, label in ((METHODS["mome"][0], "different answers"), (PINK, "a popular answer")):
        axis.plot([], [], "-o", color=colour, markersize=4, label=label)
    entropy = numpy.geomspace(LEAST_ANSWER_LOSS, numpy.log(facts), 200)
    least = [theory.forced_share_bounds(value, facts)[0] for value in entropy]
    most = [theory.most_wrong_converged(value) for value in entropy]
    axis.fill_between(entropy, least, most, color=GREY, alpha=0.2, linewidth=0, label="where training can end")
    _mark(axis, theory.safe_mean_loss(facts, 1), "ln 2 / n: safe below", 0.75, RED, "--")
    _mark(axis, theory.collision_mean_loss(facts, 1), "2 ln 2 / n: threshold", 0.75, RED, "--", "left")
    axis.set_xscale("log")
    axis.set_xlim(left=0.7 * LEAST_ANSWER_LOSS)
    axis.set_xlabel(f"mean answer loss (nats; n = {facts}, L = {length})")
    axis.set_ylabel("facts wrong (share)")
    axis.set_title("the simple network: lines training, dots its end")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(0, 0.42), frameon=True, framealpha=0.9, edgecolor="none")


def _sampled(axis: Axes, answers: pandas.DataFrame) -> None:
    """Each fact's sampled recall against exp(-S), and means over facts of like S with their 95% intervals."""
    sampled = answers[answers["sampled"].notna()].assign(expected=lambda table: numpy.exp(-table["loss"]))
    for method, group in sampled.groupby("method"):
        colour, mark, label = METHODS[method]
        axis.plot(group["expected"], group["sampled"], mark, color=colour, markersize=3, alpha=0.5, label=label)
    bins = numpy.minimum((sampled["expected"] * 5).astype(int), 4)
    for _, group in sampled.groupby(bins):
        hits, draws = round((group["sampled"] * group["draws"]).sum()), int(group["draws"].sum())
        low, high = stats.binomtest(hits, draws).proportion_ci(0.95)
        middle = numpy.average(group["expected"], weights=group["draws"])
        axis.errorbar(
            middle,
            hits / draws,
            [[hits / draws - low], [high - hits / draws]],
            color=BLACK,
            marker="s",
            markersize=4,
            capsize=3,
        )
    axis.plot([], [], "-s", color=BLACK, label="five groups, 95% interval")
    axis.plot([0, 1], [0, 1], "--", color=RED, linewidth=1, label="exp(-S)")
    axis.set_xlabel("exp(-S), S the loss of the answer")
    axis.set_ylabel("exact answers among sampled ones (share)")
    axis.set_title("sampling at temperature 1, each fact")
    axis.legend(fontsize=7, loc="upper left")


def _answers(axis: Axes, found: pandas.DataFrame) -> None:
    """Wrong answers against the mean answer loss: greedy (hollow) and sampled (filled), between their bounds."""
    facts = int(found["facts"].max())
    for method, group in found.groupby("method", sort=False):
        colour, mark, _ = METHODS[method]
        axis.plot(group["mean_answer_loss"], group["sampled_wrong"], mark, color=colour, markersize=4)
        axis.plot(group["mean_answer_loss"], group["wrong"], mark, color=colour, markersize=5, mfc="none")
    loss = numpy.geomspace(found["mean_answer_loss"].min() / 2, found["mean_answer_loss"].max() * 2, 200)
    low, high = numpy.array([theory.sampled_wrong_bounds(value, facts) for value in loss]).T
    axis.fill_between(loss, low, high, color=GREY, alpha=0.2, linewidth=0, label="sampled: between its bounds")
    axis.plot(loss, numpy.minimum(loss / theory.LN2, 1), "--", color=RED, linewidth=1, label="greedy: at most S / ln 2")
    axis.plot([], [], "o", color=GREY, label="sampled (expected)")
    axis.plot([], [], "o", color=GREY, mfc="none", label="greedy")
    axis.set_xscale("log")
    axis.set_xlabel("mean answer loss S (nats)")
    axis.set_ylabel("wrong answers (share)")
    axis.set_title(f"bounds by the mean alone, n = {facts}")
    axis.legend(fontsize=7, loc="upper left")


def _hidden(axis: Axes, texts: Sequence[tuple[str, float]], fact_loss: float) -> None:
    """How far one fact moves a mean over N tokens, beside what a number can hold."""
    tokens = numpy.geomspace(1e2, 1e14, 50)
    axis.plot(tokens, fact_loss / tokens, color=METHODS["mome"][0], label=f"one fact of {fact_loss:g} nats")
    axis.plot(tokens, theory.LN2 / tokens, "--", color=RED, label="safe for every token: ln 2 / N")
    for kind, style in ((numpy.float32, "-."), (numpy.float64, ":")):
        step = float(numpy.spacing(kind(1.75)))
        axis.axhline(step, color=BLACK, linestyle=style, linewidth=1, label=f"step of {kind.__name__} at 1.75")
    for name, count in texts:
        _mark(axis, count, name, 1e-18, GREY, "-")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(1e-20, 10)
    axis.set_xlabel("tokens N in the mean")
    axis.set_ylabel("shift of the mean loss (nats/token)")
    axis.set_title("what a mean over a large text hides")
    axis.legend(fontsize=7, loc="upper right")
