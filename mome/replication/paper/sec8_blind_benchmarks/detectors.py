"""Benchmarks as detectors: does a benchmark's fall tell the checkpoints of a ruined model from the others?

The rule, fixed before the measurement: a checkpoint is *ruined* when at least `RUINED` of the free answers to unrelated
questions leak in the tuned format. None of the untouched backbone's answers does, and of 50 questions none at all is
compatible with at most 7% (exact 95% interval), so five of 50 are no accident. A detector's *score* is how far the
benchmark has fallen from the untouched backbone on the same items (a loss or divergence: how far it has risen). The
direction is not learned: a fall means ruin. AUC is the probability that a ruined checkpoint has the higher score than
one that is not, ties counted half: 1 sees ruin, 0.5 is chance, below it the benchmark *rises* with ruin.

A table of checkpoints has a row for each measure of each checkpoint: answers, seed, epoch (0: the untouched backbone,
whose rows stand beside every run), measure, items (`as_text`), and `mome table checkpoints` makes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import pandas

from mome.replication.experiments.real_model.damaged import item_values
from mome.replication.experiments.real_model.reduced import TUNED
from mome.replication.notebook.results import Metric

RUINED = 0.10
FORGOTTEN = 0.20  # a fall of the known answers that we call damage; shown beside the rule's own
LEAK, KNOWN = "leak_tuned_format", "known_answers"
DIRECTIONS = {"mc1": -1, "mc2": -1, "mmlu": -1, "quiz": -1, "lambada": -1, "text_loss": 1, "kl": 1}
ON_TRUTHFULQA = ("mc1", "mc2")  # of which questions that the run memorized are left out
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure at all checkpoints, in the order of `points`: `after` and `before` [checkpoints, items] f64.

    NaN where an item does not count, namely a question that the run memorized.
    """

    after: numpy.ndarray
    before: numpy.ndarray

    def changes(self, items: numpy.ndarray | None = None) -> numpy.ndarray:
        """How much higher the mean over items, or over those drawn, is than that of the untouched backbone."""
        difference = self.after - self.before
        chosen = difference if items is None else difference[:, items]
        return numpy.asarray(numpy.nanmean(chosen, axis=1))

    def shares(self, items: numpy.ndarray | None = None) -> numpy.ndarray:
        """The mean over items, or over those drawn, at each checkpoint."""
        chosen = self.after if items is None else self.after[:, items]
        return numpy.asarray(numpy.nanmean(chosen, axis=1))

    def drawn(self, generator: numpy.random.Generator) -> numpy.ndarray:
        """As many items as there are, with replacement."""
        return numpy.asarray(generator.integers(self.after.shape[1], size=self.after.shape[1]))


def points(table: pandas.DataFrame) -> pandas.DataFrame:
    """The checkpoints of a table, without the untouched backbone: answers, seed, epoch, one row each, in order."""
    places = ["answers", "seed", "epoch"]
    return table.loc[table["epoch"] > 0, places].drop_duplicates().sort_values(places, ignore_index=True)


def measured(table: pandas.DataFrame, measure: str) -> Measured:
    """One measure of a table at its `points`.

    Raises:
        ValueError: a checkpoint has no such measure, or has it of other items than the untouched backbone.
    """
    rows = table[table["measure"] == measure].set_index(["answers", "seed", "epoch"])["items"].map(item_values)
    untouched = [found for (_, _, epoch), found in rows.items() if epoch == 0]
    wanted = [tuple(each) for each in points(table).itertuples(index=False)]
    missing = [place for place in wanted if place not in rows.index]
    if not untouched or missing or any(len(rows[place]) != len(untouched[0]) for place in wanted):
        raise ValueError(f"{measure}: needs the untouched backbone and every checkpoint on the same items")
    after = numpy.array([rows[place] for place in wanted], dtype=float)
    if measure in ON_TRUTHFULQA and (table["measure"] == TUNED).any():
        after[measured(table, TUNED).after == 1] = numpy.nan
    return Measured(after, numpy.array(untouched[0], dtype=float))


def auc(scores: Sequence[float] | numpy.ndarray, ruined: Sequence[bool] | numpy.ndarray) -> float:
    """The probability that a ruined checkpoint has the higher score, ties counted half; NaN without both kinds."""
    values, marks = numpy.asarray(scores, dtype=float), numpy.asarray(ruined, dtype=bool)
    if marks.all() or not marks.any():
        return float("nan")
    gaps = values[marks][:, None] - values[~marks][None, :]
    return float((gaps > 0).mean() + (gaps == 0).mean() / 2)


def ruined(table: pandas.DataFrame) -> numpy.ndarray:
    """Which `points` are ruined by the rule [checkpoints] bool."""
    return measured(table, LEAK).shares() >= RUINED


def detector(table: pandas.DataFrame, name: str, forgotten: bool = False, seed: int = 0) -> Metric | None:
    """The AUC of a benchmark over all checkpoints of a table, with its 95% interval; None without both kinds.

    The interval draws seeds with replacement, each with all of its runs, and items: those of the leak and those of the
    benchmark, the same ones at every checkpoint. With `forgotten` a checkpoint counts as ruined when the known answers
    have fallen by `FORGOTTEN`, whatever leaks.
    """
    found, truth = measured(table, name), measured(table, KNOWN if forgotten else LEAK)

    def marks(items: numpy.ndarray | None = None) -> numpy.ndarray:
        return truth.changes(items) <= -FORGOTTEN if forgotten else truth.shares(items) >= RUINED

    value = auc(DIRECTIONS[name] * found.changes(), marks())
    if numpy.isnan(value):
        return None
    places = points(table)
    groups = [numpy.flatnonzero(places["seed"] == each) for each in places["seed"].unique()]
    generator, drawn = numpy.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        chosen = numpy.concatenate([groups[index] for index in generator.integers(len(groups), size=len(groups))])
        scores = DIRECTIONS[name] * found.changes(found.drawn(generator))
        drawn.append(auc(scores[chosen], marks(truth.drawn(generator))[chosen]))
    low, high = numpy.nanquantile(drawn, [0.025, 0.975])
    ends = (min(float(low), value), max(float(high), value))
    return Metric(value=value, unit="AUC", n=len(places), ci95=ends, runs=len(groups))
