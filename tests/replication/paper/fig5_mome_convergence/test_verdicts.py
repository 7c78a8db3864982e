"""The rules that judge the real model's rows come out either way, and decide nothing where they cannot."""

from __future__ import annotations

import pandas
import pytest
from real_runs import run

from mome.replication.notebook.results import Metric
from mome.replication.paper.fig5_mome_convergence import verdicts


def share(low: float, high: float, n: int = 900) -> Metric:
    return Metric(value=(low + high) / 2, unit="share", n=n, ci95=(low, high))


def runs(losses: list[float], recall: float = 1.0) -> pandas.DataFrame:
    rows = [run(answers, [[loss] for loss in losses], method="mome") for answers in ("real", "random")]
    return pandas.DataFrame([row | {"recall": recall} for row in rows])


KEPT = {"unrelated_unchanged_mome": share(0.995, 1), "leak_mome": share(0, 0.004)}
GATED = {"unrelated_unchanged_lora_gated": share(0.99, 0.999), "leak_lora_gated": share(0, 0.004)}
ALIKE, MORE, FEWER, WIDE = share(-0.004, 0.006), share(0.02, 0.05), share(-0.05, -0.02), share(-0.02, 0.03)


def given(gate: Metric, experts: Metric) -> dict[str, Metric]:
    return {"unrelated_unchanged_by_gate": gate, "unrelated_unchanged_by_experts": experts}


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (share(0.991, 1), "met"),
        (share(0.99, 1), "met"),
        (share(0.98, 1), "not decided"),
        (share(0.9, 0.98), "missed"),
        (Metric(value=1.0, unit="share", n=1), "not decided"),
    ],
)
def test_a_bar_is_judged_by_the_whole_interval(found: Metric, outcome: str):
    assert verdicts.Bar("x", 0.99).outcome({"x": found}) == outcome
    other_way = {"met": "missed", "missed": "met"}.get(outcome, outcome)
    assert verdicts.Bar("x", 0.99, at_least=False).outcome({"x": found}) == other_way


def test_a_value_without_width_at_the_bar_meets_it_from_both_sides():
    found = {"x": Metric(value=0.4, unit="ratio", n=3, ci95=(0.4, 0.4))}
    assert {verdicts.Bar("x", 0.4, side).outcome(found) for side in (True, False)} == {"met"}


def test_what_was_not_measured_has_no_number_in_the_table_of_bars():
    table = verdicts.bar_table({"recognized_10000": share(0.96, 0.99)})
    assert table.loc["recognized_10000", "outcome"] == "met"
    assert table.loc["recognized_10000", "measured"] == "0.975 (0.96 to 0.99)"
    others = table.drop("recognized_10000")
    assert set(others["outcome"]) == {"not measured"} and set(others["measured"]) == {""}


@pytest.mark.parametrize(
    ("gate", "experts", "who"),
    [
        (share(0.9, 1), ALIKE, "gate"),
        (share(0.9, 1), MORE, "experts"),
        (share(0.9, 1), FEWER, "LoRA behind the gate"),
        (ALIKE, ALIKE, "neither"),
        (share(0.9, 1), WIDE, ""),
        (WIDE, ALIKE, ""),
        (share(0.9, 1), Metric(value=0.0, unit="share", n=1), ""),
    ],
)
def test_gate_and_experts_are_told_apart_by_the_paired_differences(gate: Metric, experts: Metric, who: str):
    assert verdicts.giver(given(gate, experts)) == who and verdicts.SAID[who]


def test_who_gives_it_is_not_known_without_lora_behind_the_threshold():
    assert verdicts.giver(KEPT) == ""


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({**KEPT, **given(share(0.9, 1), MORE)}, "reproduced"),
        ({**KEPT, **given(ALIKE, ALIKE)}, "reproduced"),
        ({**KEPT, **given(share(0.9, 1), ALIKE)}, "partly"),
        (KEPT, "partly"),
        ({**KEPT, "leak_mome": share(0.02, 0.03), **given(share(0.9, 1), MORE)}, "partly"),
        ({**KEPT, "unrelated_unchanged_mome": share(0.7, 0.89)}, "contradicted"),
        (GATED, "not tested"),
    ],
)
def test_unrelated_answers_are_reproduced_only_where_the_threshold_does_not_give_them(
    metrics: dict[str, Metric], verdict: str
):
    assert verdicts.unrelated_verdict(metrics)[0] == verdict


def ratios(real: tuple[float, float], random: tuple[float, float]) -> dict[str, Metric]:
    ends = {"epochs_ratio_real": real, "epochs_ratio_random": random}
    return {name: Metric(value=low, unit="ratio", n=3, ci95=(low, high)) for name, (low, high) in ends.items()}


@pytest.mark.parametrize(
    ("found", "rows", "verdict"),
    [
        (ratios((0.3, 0.4), (0.3, 1.0)), runs([3, 0.01]), "reproduced"),
        (ratios((0.3, 0.4), (0.9, 1.1)), runs([3, 0.01]), "partly"),
        (ratios((1.1, 1.2), (1.0, 1.1)), runs([3, 0.01]), "contradicted"),
        (ratios((0.3, 0.4), (0.3, 0.4)), runs([3, 0.2]), "contradicted"),
        (ratios((0.3, 0.4), (0.3, 0.4)), runs([3, 0.01], recall=0.9), "contradicted"),
        ({}, runs([3, 0.01]), "not tested"),
    ],
)
def test_convergence_is_judged_by_ratios_and_by_the_ends_of_the_runs(
    found: dict[str, Metric], rows: pandas.DataFrame, verdict: str
):
    assert verdicts.convergence_verdict(rows, found)[0] == verdict


@pytest.mark.parametrize(("moving", "verdict"), [(0.9, "reproduced"), (0.995, "partly")])
def test_a_frozen_router_helps_if_training_it_costs_more_than_a_point(moving: float, verdict: str):
    table = pandas.DataFrame({"recipe": [verdicts.FROZEN, verdicts.MOVING], "recall": [1.0, moving]})
    assert verdicts.frozen_verdict(table.assign(general_accuracy=1.0))[0] == verdict
    assert verdicts.frozen_verdict(table[:1].assign(general_accuracy=1.0))[0] == "not tested"


def test_each_claim_has_a_verdict_and_says_who_keeps_the_answers():
    no_ablations = pandas.DataFrame(columns=["recipe", "recall", "general_accuracy"])
    metrics = {**KEPT, **GATED, **given(share(0.9, 1), ALIKE)}
    claims = {claim.id: claim for claim in verdicts.real_claims(runs([0.01]), metrics, no_ablations, ["a part"])}
    assert set(claims) == {"C03", "C10", "C12"}
    assert "gives this, not the experts" in claims["C03"].why
    assert "LoRA not measured" in claims["C03"].measured and "that are missing: 1" in claims["C10"].why
