"""The figure of memory experts beside retrieval and fine-tuning: what is known, what is made up, and the price."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.notebook.results import Metric
from mome.replication.notebook.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    RED,
    SKY,
    STYLE,
    YELLOW,
    finished,
    interval_bars,
    seed_count,
    span,
)

LEAST_LABELLED = 0.05  # the points of smaller shares lie too close for a label
# colour: where the facts are looked for; mark: who gives the answer
MARKS = {
    "backbone": (GREY, "^", "backbone, untouched"),
    "prompt": (BLACK, "^", "backbone, facts in the prompt"),
    "rag_bm25_bare": (GREY, "o", "BM25, bare backbone reads"),
    "rag_bm25": (ORANGE, "o", "BM25, trained reader"),
    "rag_tfidf": (RED, "o", "TF-IDF, trained reader"),
    "rag_dense": (PINK, "o", "dense, trained reader"),
    "index_bm25": (ORANGE, "s", "BM25, stored answer"),
    "index_tfidf": (RED, "s", "TF-IDF, stored answer"),
    "index_dense": (PINK, "s", "dense, stored answer"),
    "index_faiss": (PINK, "p", "dense by a graph, stored answer"),
    "sql": (BLACK, "s", "SQL, exact question"),
    "knn_lm": (YELLOW, "P", "kNN-LM"),
    "lora": (SKY, "D", "LoRA"),
    "full": (GREEN, "D", "full fine-tuning"),
    "mome": (BLUE, "*", "MoME"),
    "mome_rag": (BLUE, "X", "MoME, else BM25 and reader"),
}


def methods(
    metrics: Mapping[str, Metric], table: pandas.DataFrame, named: int, trades: pandas.DataFrame, held: int
) -> Figure:
    """Recall of paraphrases against hallucination; latency and bytes against the number of facts.

    `metrics` are those of `metrics.table_metrics` for `named` facts, with 95% intervals; `table` has the
    columns facts, method, seed, latency_p50_ms (milliseconds) and bytes. Lines are means, bars the range over runs.
    `trades` is that of `measure.trade_offs` on `held` facts, with a column seed. Titles say how many seeds
    and questions are behind the marks; where a method has other numbers, the legend says so.
    """
    behind = _behind(metrics, table, named)
    drawn = [rests for method, rests in behind.items() if f"paraphrase_recall_{method}" in metrics]
    usual = Counter(drawn).most_common(1)[0][0]
    with pyplot.rc_context(STYLE):
        figure, grid = pyplot.subplots(2, 2, figsize=(11, 8))
        axes = grid.flatten()[[0, 2, 3, 1]]
        _trade(axes[0], metrics)
        axes[0].set_title(f"all methods, {named:,} facts (bars: 95%)\n{usual} facts asked")
        _thresholds(axes[3], trades)
        each = _rest(trades["seed"], trades["asked_n"], trades["absent_n"])
        axes[3].set_title(f"the same for other thresholds, {held:,} facts\n{each} facts asked")
        per_fact = table.assign(per_fact=table["bytes"] / table["facts"])
        _growth(axes[1], table, "latency_p50_ms", "median latency of one question (ms)")
        _growth(axes[2], per_fact[per_fact["per_fact"] > 0], "per_fact", "kept for each fact (bytes)")
        handles, _ = axes[1].get_legend_handles_labels()  # every method, at whatever number of facts
        labels = [MARKS[method][2] + ("" if rests == usual else f"\n({rests})") for method, rests in behind.items()]
        figure.legend([handle[0] for handle in handles], labels, loc="outside right center", fontsize=8)
    return finished(figure)


def _behind(metrics: Mapping[str, Metric], table: pandas.DataFrame, named: int) -> dict[str, str]:
    """Seeds and questions of each method at `named` facts; or, if it was not measured there, its number of facts."""
    found = {}
    for method in [name for name in MARKS if (table["method"] == name).any()]:
        rows = table[table["method"] == method]
        known, made_up = (
            metrics.get(f"{name}_{method}") for name in ("paraphrase_recall", "unanswerable_hallucination")
        )
        if known is None or made_up is None:
            found[method] = f"{span(rows['facts'])} facts only, {_seeds(rows)}"
        else:
            found[method] = _rest(rows.loc[rows["facts"] == named, "seed"], [known.n], [made_up.n])
    return found


def _rest(seeds: pandas.Series, held: Iterable[int], absent: Iterable[int]) -> str:
    """Seeds, and the questions about held and absent facts."""
    return f"{seed_count([seeds.nunique()])}, n = {span(held)} held + {span(absent)} absent"


def _seeds(table: pandas.DataFrame) -> str:
    """The number of seeds of a method at a number of facts, from the least to the most."""
    return seed_count(table.groupby(["facts", "method"])["seed"].nunique())


def _trade(axis: Axes, metrics: Mapping[str, Metric]) -> None:
    """A mark for each method: hallucination on x, recall of paraphrases on y, both with 95% intervals."""
    for method, (colour, mark, _) in MARKS.items():
        made_up, known = (
            metrics.get(f"{name}_{method}") for name in ("unanswerable_hallucination", "paraphrase_recall")
        )
        if made_up is None or known is None:
            continue
        style: dict[str, Any] = {"color": colour, "marker": mark, "linestyle": "none", "capsize": 2}
        size = 13 if mark == "*" else 7  # where methods do equally well, the small mark lies on the large one
        across, up = interval_bars([made_up]), interval_bars([known])
        axis.errorbar(made_up.value, known.value, up, across, markersize=size, zorder=20 - size, **style)
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axis.set_xlabel("questions without an answer: answered wrongly (share)")
    axis.set_ylabel("facts recalled from a paraphrase (share)")


def _thresholds(axis: Axes, trades: pandas.DataFrame) -> None:
    """A line for each index, from its strictest threshold to none; the larger false-positive rates are printed."""
    for method, rows in trades.groupby("method", sort=False):
        colour, mark, _ = MARKS[str(method)]
        ordered = rows.sort_values("false_alarms")
        axis.plot(ordered["hallucination"], ordered["paraphrase_recall"], color=colour, marker=mark, markersize=5)
        for _, row in ordered[ordered["false_alarms"].between(LEAST_LABELLED, 1, inclusive="left")].iterrows():
            place = (row["hallucination"], row["paraphrase_recall"])
            axis.annotate(f"{row['false_alarms']:g}", place, (4, -10), textcoords="offset points", fontsize=7)
    axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    axis.set_xlabel("questions without an answer: answered wrongly (share)")
    axis.set_ylabel("facts recalled from a paraphrase (share)")


def _growth(axis: Axes, table: pandas.DataFrame, column: str, title: str) -> None:
    for method, (colour, mark, label) in MARKS.items():
        rows = table[table["method"] == method]
        if rows.empty:
            continue
        found = rows.groupby("facts")[column].agg(["mean", "min", "max"])
        # the mean of equal numbers can lie a rounding beside them
        spread = [(found["mean"] - found["min"]).clip(lower=0), (found["max"] - found["mean"]).clip(lower=0)]
        style: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 6, "linewidth": 1, "label": label}
        axis.errorbar(found.index, found["mean"], spread, capsize=2, **style)
    axis.set(xscale="log", yscale="log", xlabel="facts held", ylabel=title)
    axis.set_title(f"mean over {_seeds(table)} (bars: range)")
