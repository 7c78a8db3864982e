"""Metrics of watched runs: moments, violations of the bounds, overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import pandas

from mome.replication.paper.sec5_threshold.theory import LN2, hopeless_mean_loss


def moments(tokens: pandas.DataFrame, answers: pandas.DataFrame, by: Sequence[str]) -> pandas.DataFrame:
    """One row for each moment (its columns `by`): mean losses, and how much is wrong.

    `mean_loss` (nats/token), `mean_answer_loss` (nats), `facts`, `tokens`, `wrong` (facts with a wrong token),
    `not_recalled`, `hallucinated` (free greedy answers), `sampled_wrong` (expected at temperature 1): shares of facts.
    """
    of_tokens = tokens.groupby(list(by), sort=False)["loss"].agg(mean_loss="mean", tokens="size")
    of_facts = answers.assign(given=numpy.exp(-answers["loss"])).groupby(list(by), sort=False)
    shares = of_facts[["right", "recalled", "hallucinated", "given"]].mean().astype(float)
    found = of_tokens.assign(mean_answer_loss=of_facts["loss"].mean(), facts=of_facts.size())
    found = found.assign(wrong=1 - shares["right"], not_recalled=1 - shares["recalled"])
    return found.assign(hallucinated=shares["hallucinated"], sampled_wrong=1 - shares["given"]).reset_index()


def violations(tokens: pandas.DataFrame, vocabulary: int) -> int:
    """How many tokens are wrong below ln 2 nats, or right from ln V on; by theory none."""
    below, above = tokens["loss"] < LN2, tokens["loss"] >= hopeless_mean_loss(vocabulary)
    return int((below & ~tokens["right"]).sum() + (above & tokens["right"]).sum())


def overlap(found: pandas.DataFrame, wrong: str) -> tuple[float, float]:
    """The highest `mean_loss` of a moment with nothing `wrong` (a column of shares), and the lowest of one with some.

    A threshold on the mean loss tells the moments apart where the first is lower. NaN where there is no such moment.
    """
    clean = found[wrong] == 0
    return float(found.loc[clean, "mean_loss"].max()), float(found.loc[~clean, "mean_loss"].min())
