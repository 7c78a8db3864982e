"""What is made of section 4's table: rates, their intervals, which causes suffice, the figure."""

import pandas
import pytest

from mome.replication.notebook.results import Metric
from mome.replication.paper.sec4_explanations.conditions import CAUSES, FAMILIES
from mome.replication.paper.sec4_explanations.figure import explanations
from mome.replication.paper.sec4_explanations.metrics import (
    cause_table,
    explanation_metrics,
    rates,
    suffices,
    sufficient_families,
)


def table(shares, facts=40, seeds=(0, 1, 2)):
    """A table in which `shares` {(cause, model): share} of the facts are hallucinated."""
    rows = [
        {"seed": seed, "cause": cause, "model": model, "times": 1}
        | {"wrong": " ".join("1" if place < share * facts else "0" for place in range(facts))}
        | {"trained_loss": 0.8, "floor": 0.7, "failed": 0, "rows": facts, "recognised": 1.0}
        | {"asked_loss": 1.0, "certain": 0.5, "rival": 0.0}
        for (cause, model), share in shares.items()
        for seed in seeds
    ]
    return pandas.DataFrame(rows)


def shares(alone, control_high=1.0):
    """Every cause measured; those of the families `alone` hallucinate at near-zero loss."""
    chosen = {cause for family in alone for cause in FAMILIES[family]}
    high = {(cause, "high"): control_high for cause in CAUSES}
    return high | {(cause, "zero"): 0.5 * (cause in chosen) for cause in CAUSES}


@pytest.mark.parametrize("alone", [[], ["missing"], ["missing", "bias", "sampling", "attention"]])
def test_a_family_suffices_if_one_of_its_causes_does(alone):
    metrics = explanation_metrics(table(shares(alone)))
    assert {family for family, enough in sufficient_families(metrics).items() if enough} == {*alone}


def test_rates_are_shares_of_each_fact_and_overlapping_intervals_do_not_suffice():
    rows = table({("none", "zero"): 0.1, ("skew", "zero"): 0.15, ("none", "high"): 1, ("skew", "high"): 1})
    chosen = (rows["cause"] == "skew") & (rows["model"] == "zero") & (rows["seed"] == 0)
    rows.loc[chosen, ["times", "wrong"]] = [4, "4 1 " + " ".join("0" * 38)]
    assert rates(rows, "skew", "zero")[0][:3] == [1.0, 0.25, 0.0]
    metrics = explanation_metrics(rows)
    assert metrics["hallucination_skew_zero"].n == 120
    assert not suffices(metrics, "skew") and metrics["hallucination_skew_zero"].value > 0.1
    outcomes = cause_table(metrics, rows).set_index("cause")["outcome"]
    assert outcomes["skew"] == "vanishes"


def test_the_loss_above_the_floor_and_failures_are_reported():
    rows = table({("conflict_even", "zero"): 0.5, ("conflict_even", "zero_mome"): 0.5, ("none", "zero_mome"): 0.0})
    rows.loc[rows["cause"] == "conflict_even", "failed"] = 20
    metrics = explanation_metrics(rows)
    assert metrics["excess_conflict_even_zero"].value == pytest.approx(0.1)
    assert (metrics["failed_conflict_even"].value, metrics["failed_none"].value) == (0.5, 0.0)


def test_the_figure_takes_what_was_measured():
    rows = table(shares(["sampling"]) | {("none", "zero_mome"): 0.0, ("none", "zero_mome_abstaining"): 0.0})
    metrics = explanation_metrics(rows) | {"other": Metric(value=1.0, unit="share", n=1)}
    causes, heat, losses = explanations(metrics, rows).axes
    assert len(causes.get_yticklabels()) == len(CAUSES)
    assert len(causes.get_legend().get_texts()) == 5
    zero = next(box for box in heat.containers if "near-zero" in box.get_label())
    assert zero.lines[0].get_ydata().tolist() == [0.0, 0.5, 0.5, 0.5]
    assert len(losses.lines) == 2 * len(CAUSES) + 1 + 2
