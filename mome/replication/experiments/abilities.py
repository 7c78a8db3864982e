"""Abilities of a model: what it recalls, what else it can do, and how two curves differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import pandas
from scipy import stats

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.lm.losses import text_loss
from mome.lm.quiz import make_quiz, quiz_correct
from mome.replication.experiments.plan import Memorized
from mome.train.tuning import TuningRun


def recall(memorized: Memorized, *, held_out: bool = False) -> list[bool]:
    """Whether each tuned fact is recalled exactly by free greedy generation."""
    return exact(memorized.backbone.model, memorized.backbone.tokenizer, memorized.facts, held_out=held_out)


def general_abilities(backbone: Backbone, general: Sequence[Fact], seed: int = 0) -> dict[str, list[float]]:
    """Abilities apart from tuned facts, for each general fact: exact answer, quiz answer, loss on held-out text."""
    model, tokenizer = backbone.model, backbone.tokenizer
    quiz = make_quiz(general, shipped_facts("known"), seed)
    return {
        "general_accuracy": [float(right) for right in exact(model, tokenizer, general)],
        "quiz_accuracy": [float(right) for right in quiz_correct(model, tokenizer, quiz)],
        "general_loss": text_loss(model, tokenizer, general),
    }


def curve_table(run: TuningRun, **labels: Any) -> pandas.DataFrame:
    """The run's curve as rows of (labels..., epoch, loss in nats/token)."""
    return pandas.DataFrame({**labels, "epoch": range(1, len(run.curve) + 1), "loss": run.curve.astype(float)})


def curve_difference(first: TuningRun, second: TuningRun, seed: int = 0) -> tuple[float, float]:
    """How much higher the second run's curve lies, and the p-value of a permutation test over facts.

    The statistic is the mean over facts and epochs of (second - first) in nats/token; a fact's two loss curves are
    exchanged at random. The shorter run is continued with its last epoch: it stopped because it was done.
    """
    epochs = max(len(first.losses), len(second.losses))
    before, after = (_continued(run.losses, epochs).mean(axis=0) for run in (first, second))
    return paired_difference(before, after, seed)


def paired_difference(first: numpy.ndarray, second: numpy.ndarray, seed: int = 0) -> tuple[float, float]:
    """The mean of second - first [facts] each, and the p-value when a fact's two values are exchanged at random."""
    test = stats.permutation_test(
        (first, second),
        lambda a, b, axis: (b - a).mean(axis=axis),
        permutation_type="samples",
        n_resamples=9_999,
        vectorized=True,
        rng=numpy.random.default_rng(seed),
    )
    return float(test.statistic), float(test.pvalue)


def _continued(losses: numpy.ndarray, epochs: int) -> numpy.ndarray:
    return numpy.concatenate([losses, numpy.repeat(losses[-1:], epochs - len(losses), axis=0)])


def memory_abilities(
    done: Memorized, general: Sequence[Fact], before: Sequence[float], *, paraphrases: bool = True
) -> dict[str, list[float]]:
    """For each fact, recall as tuned and in an unseen paraphrase; for `general` facts, exact answers and rise of loss.

    `before` is the untouched backbone's `text_loss` of `general` (nats/token). Without `paraphrases` none is asked.
    """
    model, tokenizer = done.backbone.model, done.backbone.tokenizer
    after = text_loss(model, tokenizer, general)
    asked = {"recall": False, "paraphrase_recall": True} if paraphrases else {"recall": False}
    return {
        **{
            name: [float(right) for right in exact(model, tokenizer, done.facts, held_out=held_out)]
            for name, held_out in asked.items()
        },
        "general_accuracy": [float(right) for right in exact(model, tokenizer, general)],
        "general_loss_drift": [late - early for late, early in zip(after, before, strict=True)],
    }
