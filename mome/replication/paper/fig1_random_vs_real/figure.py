"""Figure 1: losses while random and real answers are memorized."""

from __future__ import annotations

import matplotlib.pyplot as pyplot
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mome.replication.experiments.real_model.memorizing import NEAR_ZERO, curves
from mome.replication.notebook.style import COLOURS, STYLE, finished, headline, seed_count

PAPER_EPOCHS = 100  # the horizontal axis of the paper's figure 1


def loss_curves(rows: pandas.DataFrame, threshold: float) -> Figure:
    """Training loss over epochs, a panel for each backbone (columns) and data set (rows).

    `rows` has the columns backbone, dataset, answers, seed, epoch, loss (nats/token). Thick: mean over seeds; thin:
    one seed each, a dot where it stopped. The dashed line is the level that counts as memorized in the paper's sense.
    """
    datasets, backbones = rows["dataset"].unique(), rows["backbone"].unique()
    with pyplot.rc_context(STYLE):
        figure, axes = pyplot.subplots(
            len(datasets),
            len(backbones),
            figsize=(4.2 * len(backbones) + 0.6, 2.9 * len(datasets) + 0.4),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for line, dataset in zip(axes, datasets, strict=True):
            for axis, backbone in zip(line, backbones, strict=True):
                panel = rows[(rows["dataset"] == dataset) & (rows["backbone"] == backbone)]
                _curves_panel(axis, panel, threshold)
                axis.set_title(f"{backbone}, {dataset} facts")
            line[0].set_ylabel("training loss (nats/token)")
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        axes[0][0].legend(loc="upper right")
    return finished(figure)


def _curves_panel(axis: Axes, panel: pandas.DataFrame, threshold: float) -> None:
    for answers in panel["answers"].unique():
        of_answers = panel[panel["answers"] == answers]
        wide = of_answers.pivot(index="epoch", columns="seed", values="loss")
        for seed in wide:
            single = wide[seed].dropna()
            axis.plot(single.index, single, color=COLOURS[answers], linewidth=0.7, alpha=0.6)
            axis.plot(single.index[-1], single.iloc[-1], ".", color=COLOURS[answers], markersize=4)
        mean = wide.ffill().mean(axis=1)
        label = f"{answers} answers (n = {seed_count([wide.shape[1]])})"
        axis.plot(mean.index, mean, color=COLOURS[answers], linewidth=2, label=label)
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1, label=f"paper: near zero ({threshold:g} drawn)")
    axis.set_yscale("log")


def paper_curves(runs: pandas.DataFrame, threshold: float) -> Figure:
    """A real model's loss over epochs as the paper draws it (linear, 0 to 100 epochs; top) and on a log axis (below).

    `runs` are rows of `mome table memorizing`: a panel for each data set and number of facts. A run that stopped keeps
    its last loss in the mean (thick line); thin lines are single seeds and end in a dot.
    """
    rows = curves(runs)
    panels = list(rows[["dataset", "facts"]].drop_duplicates().itertuples(index=False))
    with pyplot.rc_context(STYLE):
        size = (4.2 * len(panels) + 0.6, 6.2)
        figure, axes = pyplot.subplots(2, len(panels), figsize=size, sharex=True, sharey="row", squeeze=False)
        for column, (dataset, facts) in enumerate(panels):
            panel = rows[(rows["dataset"] == dataset) & (rows["facts"] == facts)]
            for axis in axes[:, column]:
                _curves_panel(axis, panel, threshold)
            axes[0][column].set_yscale("linear")
            axes[0][column].set(title=f"{facts} questions of {_title(dataset)}", xlim=(0, PAPER_EPOCHS), ylim=(0, None))
            axes[1][column].set_xlabel("epoch")
        axes[0][0].set_ylabel("training loss (nats/token)")
        axes[1][0].set_ylabel("the same, log axis")
        axes[0][0].legend(loc="upper right")
        headline(figure, _finding(runs))
    return finished(figure)


def _title(dataset: str) -> str:
    return {"truthfulqa": "TruthfulQA", "mmlu": "MMLU"}.get(dataset, dataset)


def _finding(runs: pandas.DataFrame) -> str:
    """The figure's title: whether random answers are memorized, and in how many epochs, from the first panel's runs."""
    first = runs[(runs["dataset"] == runs["dataset"].iloc[0]) & (runs["facts"] == runs["facts"].iloc[0])]
    needed = first.assign(needed=first["epochs_to_0.05"].fillna(first["epochs"])).groupby("answers")["needed"].mean()
    random = first[first["answers"] == "random"]
    fits = "memorizes" if random["epochs_to_0.05"].notna().all() else "does not memorize"
    counts = [first.loc[first["answers"] == answers, "seed"].nunique() for answers in ("random", "real")]
    seeds = seed_count(counts[:1]) if len(set(counts)) == 1 else f"{counts[0]} and {counts[1]} seeds"
    return (
        f"{first['backbone'].iloc[0]} {fits} random answers: below {NEAR_ZERO} nats/token after {needed['random']:.0f} "
        f"epochs, real ones after {needed['real']:.0f} ({seeds}; the paper: both near zero within 100 epochs)"
    )
