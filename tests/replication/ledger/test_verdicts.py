"""What the rules say of one run, and of numbers that are missing."""

from __future__ import annotations

import pytest

from mome.replication.ledger.rule import PARAMETER, Rule
from mome.replication.ledger.rules import EVERY
from mome.replication.ledger.verdicts import Evidence, judge_all, number_text, own_claims, report
from mome.replication.notebook.results import Metric, Result

FIG1, SCALING = "01_fig1_random_vs_real", "11_sec7_scaling"
CONFIG = {"profile": "tiny", "seeds": [0], "backbones": ["tiny-llama"]}
FIT = {
    "lora_final_loss_random": Metric(value=0.008, unit="nats/token", n=96, ci95=(0.007, 0.009)),
    "lora_recall_random": Metric(value=1.0, unit="share", n=96),
}


def test_a_run_is_judged_by_its_own_numbers() -> None:
    claims = {claim.id: claim for claim in own_claims(FIG1, CONFIG, FIT)}
    assert claims["C01"].verdict == "reproduced"
    assert claims["C01"].measured.startswith("final loss on random answers 0.008 nats/token (0.007 to 0.009, n = 96)")
    assert claims["C01"].paper.startswith("near zero")


def test_a_claim_that_needs_another_notebook_names_it() -> None:
    whole = {**FIT, "lora_final_loss_random_truthfulqa": FIT["lora_final_loss_random"]}
    whole |= {"lora_recall_random_truthfulqa": FIT["lora_recall_random"]}
    (claim,) = [claim for claim in own_claims(FIG1, CONFIG, whole) if claim.id == "C04"]
    assert claim.verdict == "not testable here"
    assert claim.why == "the verdict, in notebooks/book/claims.md, also needs 02_tab1_regularization"


@pytest.mark.parametrize("profile", ["smoke", "tiny", "small", "paper"])
@pytest.mark.parametrize("stem", sorted({stem for rule in EVERY for stem in rule.stems}))
def test_a_run_without_numbers_is_no_error_and_names_what_it_lacks(stem: str, profile: str) -> None:
    claims = own_claims(stem, {**CONFIG, "profile": profile}, {})
    assert [claim.id for claim in claims] == sorted(rule.claim for rule in EVERY if stem in rule.stems)
    assert {claim.verdict for claim in claims} == {"not testable here"}
    assert all(
        claim.why.startswith(("this run has no ", "the verdict, in notebooks/book/claims.md, also needs "))
        for claim in claims
    )


def test_without_any_result_no_claim_is_testable_and_each_says_what_is_missing() -> None:
    judged = judge_all([])
    assert {each.verdict for each in judged.values()} == {"not testable here"}
    assert all(each.why.startswith("not measured: ") for each in judged.values())


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.claim)
def test_each_missing_number_is_named(rule: Rule) -> None:
    """A run of the notebook that has all numbers of a case but one."""
    for case in rule.cases:
        for reading in case.needs.values():
            if reading.metric.startswith(PARAMETER):
                continue
            there = [each.metric for each in case.needs.values() if each.stem == reading.stem and each != reading]
            metrics = {name: Metric(value=1.0, unit="share", n=2) for name in there if name != reading.metric}
            claims = own_claims(reading.stem, {**CONFIG, "profile": case.profile}, metrics)
            (claim,) = [claim for claim in claims if claim.id == rule.claim]
            assert claim.verdict == "not testable here" and reading.metric in claim.why


def test_the_report_shows_claim_numbers_verdict_and_rule() -> None:
    text = report(own_claims(SCALING, CONFIG, {}))
    assert "C27: Storage alone limits the number of parameters\n  measured: not measured in this run" in text
    assert "rule: C27. From a thousand experts to a million" in text


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Metric(value=0.5, unit="share", n=1), "50.0%"),
        (Metric(value=12.0, unit="epochs", n=3, ci95=(11.0, 13.5)), "12 (11 to 13.5, n = 3)"),
        (Metric(value=1.92e27, unit="flop", n=1), "1.92e+27"),
        (Metric(value=0.01234, unit="nats/token", n=1), "0.0123 nats/token"),
    ],
)
def test_a_number_is_shown_with_unit_interval_and_n(found: Metric, text: str) -> None:
    assert number_text(found) == text


@pytest.mark.parametrize(
    ("claim", "notebook"), [("C03", "02_tab1_regularization"), ("C06", "13_sec8_insights_fallacies")]
)
def test_the_untouched_backbone_has_no_seeds_to_count(claim: str, notebook: str) -> None:
    rule = next(rule for rule in EVERY if rule.claim == claim)
    case = next(case for case in rule.cases if case.profile == "small")
    untouched = ("before", "backbone")
    measured = {
        reading.metric: Metric(
            value=0.5, unit="share", n=9, runs=1 if any(name in reading.metric for name in untouched) else 3
        )
        for reading in case.needs.values()
    }
    result = Result.model_construct(profile="small", notebook=notebook, metrics=measured, seeds=[0])
    assert 1 in {metric.runs for metric in measured.values()}
    assert Evidence.of([result]).least_seeds(case) == 3
