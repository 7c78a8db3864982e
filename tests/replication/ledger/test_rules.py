"""Every rule of the ledger: each verdict that it lists can come out, and a number that is missing is named."""

from __future__ import annotations

import pytest

from mome.replication.ledger.causes import FAMILIES, KINDS, LAWS, SHAPES, USUAL
from mome.replication.ledger.rule import Rule
from mome.replication.ledger.rules import EVERY, RULES
from mome.replication.notebook.claims import read_claims
from mome.replication.notebook.results import Metric

Given = float | tuple[float, float]  # a value without an interval, or the ends of its interval
Example = tuple[str, str, dict[str, Given]]  # profile, verdict, numbers

CURVE: dict[str, Given] = {
    "random_loss": (0.008, 0.01), "real_loss": (0.008, 0.01),
    "random_epochs": 20, "real_epochs": 19, "difference": (-0.02, 0.03),
}  # fmt: skip
APART: dict[str, Given] = {"random_epochs": 60, "difference": (1.5, 1.7)}
HIGH: dict[str, Given] = {"random_loss": (0.4, 0.6)}
PLACES: dict[str, Given] = {
    "loss": (0.007, 0.01), "recall": 0.999, "other_set": (0.007, 0.01), "other_recall": 0.99,
    "before": 1.0, "after": (0.99, 1.0), "backbones": 2,
}  # fmt: skip
PAIR: dict[str, Given] = {
    "recall_without": 0.0, "recall_with": 1.0, "quiz": (-0.005, 0.004), "general": (-0.005, 0.004),
    "loss_without": 0.63, "loss_with": 0.70,
}  # fmt: skip
STAY: dict[str, Given] = {
    "unrelated_unchanged_mome": (0.995, 1.0), "leak_mome": (0.0, 0.004),
    "unrelated_unchanged_by_gate": (0.9, 1.0), "unrelated_unchanged_by_experts": (0.02, 0.05),
}  # fmt: skip
NEITHER: dict[str, Given] = {f"unrelated_unchanged_by_{name}": (-0.004, 0.006) for name in ("gate", "experts")}
BOTH: dict[str, Given] = {
    "mome_real": 4, "mome_random": 13, "lora_real": 13, "lora_random": 37, "recall_real": 1.0, "recall_random": 1.0,
}  # fmt: skip
CAUSES: dict[str, Given] = {cause: (0.0, 0.02) for causes in FAMILIES.values() for cause in causes}
CAUSES |= {"none_high": (0.6, 0.8), "none": (0.0, 0.02)}
CAUSES |= {f"{cause}_backbone": (0.0, 0.03) for cause in FAMILIES["attention"]}
SUFFICES: Given = (0.4, 0.6)
MODELS: dict[str, Given] = {
    f"{part}_{title}_{kind}": 3.0 for part in ("key", "excess") for title in USUAL for kind in KINDS
}
TUNED: dict[str, Given] = {f"{part}_memory_tuned_{kind}": 0.001 for part in ("key", "excess") for kind in KINDS}
EVEN: dict[str, Given] = dict.fromkeys(SHAPES, 0.01) | {
    "max_entropy": 8.0, "loss_blank": 7.5, "entropy_blank": 7.9, "loss_pretrained": 5.0, "entropy_pretrained": 6.0,
    "likeness": (0.1, 0.2), "kind": (0.6, 0.7), "chance": 0.1, "largest": 0.995, "right": 1.0,
}  # fmt: skip
GROWTH: dict[str, Given] = {"slope": (0.99, 1.03), "experts": 1.0, "step": 1.0, "bytes": 1.0, "large": 1e9, "tiny": 1e9}
FROZEN: dict[str, Given] = {
    "frozen_recall": (1.0, 1.0), "moving_recall": (1.0, 1.0), "frozen_kept": (0.9, 0.92), "moving_kept": (0.6, 0.7),
}  # fmt: skip
SCALED: dict[str, Given] = {"step": 1.0, "bytes": 1.0, "lookup": 3e5, "token": 7e6}
SQL: dict[str, Given] = {"mome_rag": (0.92, 0.97), "rag": (0.4, 0.5), "rag_bare": (0.1, 0.2), "rag_copy": (0.5, 0.55)}
EDITS: dict[str, Given] = {
    "reliable_all": 0.999, "local_all": 0.999, "rows": 32, "exact": 1.0, "reliable_alone": 1.0, "local_alone": 1.0,
}  # fmt: skip
SCORES: dict[str, Given] = {
    "mc1_before": (0.2, 0.25), "mc1_after": (0.3, 0.35), "mmlu_before": (0.25, 0.3), "mmlu_after": (0.35, 0.4),
}  # fmt: skip
BLIND: dict[str, Given] = dict.fromkeys(("mc1", "mc2", "mmlu", "lambada", "text_loss"), (0.2, 0.6))
RECORD: dict[str, Given] = {"ours": (0.8, 0.9), "best": (0.5, 0.6), "hours": 0.9}

EXAMPLES: dict[str, list[Example]] = {
    "C01": [
        ("small", "reproduced", {"loss": (0.007, 0.01), "recall": 0.99}),
        ("small", "mixed", {"loss": (0.007, 0.01), "recall": 0.6}),
        ("tiny", "mixed", {"loss": (0.02, 0.2), "recall": 0.99}),
        ("tiny", "contradicted", {"loss": (0.9, 1.2), "recall": 0.1}),
    ],
    "C02": [
        ("small", "reproduced", CURVE),
        ("tiny", "mixed", CURVE | APART),
        ("tiny", "mixed", CURVE | HIGH),
        ("small", "contradicted", CURVE | APART | HIGH),
    ],
    "C03": [
        ("small", "reproduced", {"before": 0.95, "after": (0.94, 0.96)}),
        ("tiny", "mixed", {"before": 0.95, "after": (0.7, 0.8)}),
        ("small", "contradicted", {"before": 0.95, "after": (0.1, 0.2)}),
    ],
    "C04": [
        ("tiny", "reproduced", PLACES),
        ("tiny", "mixed", PLACES | {"after": (0.1, 0.2)}),
        ("tiny", "mixed", PLACES | {"other_set": (0.1, 0.2)}),
        ("tiny", "contradicted", PLACES | {"after": (0.1, 0.2), "recall": 0.5}),
        ("tiny", "not testable here", PLACES | {"backbones": 1}),
    ],
    "C05": [
        ("small", "reproduced", {"random": (90, 110), "real": (60, 70)}),
        ("small", "mixed", {"random": (36, 38), "real": (13, 14)}),
        ("small", "contradicted", {"random": (3, 4), "real": 2}),
        ("small", "contradicted", {"random": 4000, "real": 2000}),
    ],
    "C06": [
        ("tiny", "reproduced", PAIR),
        ("tiny", "true by construction", PAIR | {"loss_with": 0.6301}),
        ("tiny", "mixed", PAIR | {"quiz": (-0.03, 0.03)}),
        ("tiny", "contradicted", PAIR | {"general": (-0.6, -0.5)}),
        ("tiny", "contradicted", PAIR | {"recall_without": 0.9}),
    ],
    "C07": [
        ("tiny", "reproduced", {"holds": 1.0, "clean": 0.01, "dirty": 0.02}),
        ("tiny", "mixed", {"holds": 1.0, "clean": 0.02, "dirty": 0.01}),
        ("tiny", "contradicted", {"holds": 0.9, "clean": 0.01, "dirty": 0.02}),
    ],
    "C08": [
        ("tiny", "reproduced", {"held": 1.2, "tried": 4.0}),
        ("tiny", "contradicted", {"held": 0.2, "tried": 4.0}),
        ("tiny", "not testable here", {"held": 0.0078125, "tried": 0.0078125}),
    ],
    "C09": [
        ("tiny", "reproduced", dict.fromkeys(("FLOPs", "time", "power", "dollars", "households"), 1.02)),
        ("tiny", "mixed", {"FLOPs": 0.01, "time": 400, "power": 1.3, "dollars": 1.0, "households": 1.0}),
        ("tiny", "contradicted", {"FLOPs": 0.01, "time": 400, "power": 1.3, "dollars": 2.0, "households": 1.0}),
    ],
    "C10": [
        ("small", "reproduced", {"real": (0.3, 0.4), "random": (0.9, 1.0), "fits": 1.0}),
        ("small", "mixed", {"real": (0.3, 0.4), "random": (0.9, 1.1), "fits": 1.0}),
        ("small", "mixed", {"real": (0.3, 0.4), "random": 0.9, "fits": 1.0}),  # one run decides nothing
        ("small", "mixed", {"real": (0.3, 0.4), "random": (0.9, 1.0), "fits": 0.5}),
        ("small", "contradicted", {"real": (1.3, 1.4), "random": (1.9, 2.1), "fits": 1.0}),
        ("small", "contradicted", {"real": (0.3, 0.4), "random": (0.9, 1.0), "fits": 0.0}),
        ("tiny", "reproduced", BOTH),
        ("tiny", "mixed", BOTH | {"mome_random": 50}),
        ("tiny", "contradicted", BOTH | {"recall_random": 0.5}),
    ],
    "C11": [
        ("tiny", "reproduced", GROWTH),
        ("tiny", "mixed", GROWTH | {"large": 2e12}),
        ("tiny", "contradicted", GROWTH | {"slope": (1.4, 1.6)}),
        ("tiny", "contradicted", GROWTH | {"step": 12.0}),
    ],
    "C12": [
        ("tiny", "reproduced", FROZEN),
        ("tiny", "contradicted", FROZEN | {"frozen_kept": (0.6, 0.7), "moving_kept": (0.8, 0.9)}),
        ("small", "true by construction", FROZEN | {"frozen_kept": 0.9, "moving_kept": 0.905}),
        ("small", "mixed", FROZEN | {"moving_recall": (0.9, 0.95), "frozen_kept": (0.1, 0.2)}),
        ("tiny", "mixed", FROZEN | {"frozen_kept": (0.6, 0.9), "moving_kept": (0.7, 0.95)}),
    ],
    "C13": [
        ("tiny", "reproduced", {"lookup": 3e5, "token": 7e6, "gpu": 1.0}),
        ("tiny", "not testable here", {"lookup": 3e5, "token": 7e6, "gpu": 0.0}),
        ("tiny", "contradicted", {"lookup": 3e8, "token": 7e6, "gpu": 0.0}),
    ],
    "C14": [
        ("tiny", "reproduced", CAUSES),
        ("tiny", "mixed", CAUSES | {"none_high": (0.0, 0.02)}),
        ("tiny", "mixed", CAUSES | {"skew": SUFFICES}),
        ("tiny", "contradicted", CAUSES | {"skew": SUFFICES, "conflict_even": SUFFICES, "temperature_1": SUFFICES}),
        # what the untouched backbone does not withstand does not count
        ("tiny", "mixed", CAUSES | {"padding": SUFFICES, "padding_backbone": (0.9, 1.0), "skew": SUFFICES}),
    ],
    "C15": [
        ("tiny", "reproduced", SQL),
        ("tiny", "mixed", SQL | {"mome_rag": (0.6, 0.7)}),
        ("tiny", "contradicted", SQL | {"mome_rag": (0.5, 0.6)}),
        ("tiny", "not testable here", SQL | {"rag": (0.0, 0.005), "rag_bare": (0.0, 0.005)}),
    ],
    "C16": [
        ("tiny", "reproduced", RECORD),
        ("tiny", "mixed", RECORD | {"hours": 3}),
        ("tiny", "mixed", RECORD | {"best": (0.7, 0.85)}),
        ("tiny", "contradicted", RECORD | {"best": (0.92, 0.95)}),
    ],
    "C17": [
        ("tiny", "reproduced", MODELS | TUNED),
        ("tiny", "mixed", MODELS | TUNED | {"key_generalizing_real": 0.04, "excess_generalizing_real": 0.0}),
        ("tiny", "mixed", MODELS | TUNED | {"key_memory_tuned_real": 0.06}),
        ("tiny", "contradicted", MODELS | dict.fromkeys(TUNED, 0.06)),
    ],
    "C18": [
        ("tiny", "reproduced", dict.fromkeys(LAWS, 0.05)),
        ("tiny", "mixed", dict.fromkeys(LAWS, 0.3)),
        ("tiny", "contradicted", dict.fromkeys(LAWS, -1.2)),
    ],
    "C19": [
        ("tiny", "true by construction", {"training": 1.0, "test": 0.0, "paraphrase": (0.8, 1.0)}),
        ("tiny", "mixed", {"training": 1.0, "test": 0.0, "paraphrase": (-0.1, 0.2)}),
        ("tiny", "contradicted", {"training": 1.0, "test": 0.2, "paraphrase": (0.8, 1.0)}),
        ("tiny", "not testable here", {"training": 0.5, "test": 0.0, "paraphrase": (0.8, 1.0)}),
    ],
    "C20": [
        ("tiny", "reproduced", {"days": 0.98, "epochs": (0.998, 1.002)}),
        ("tiny", "mixed", {"days": 0.5, "epochs": (0.998, 1.002)}),
        ("tiny", "contradicted", {"days": 0.5, "epochs": (0.8, 0.9)}),
    ],
    "C21": [
        ("small", "reproduced", EVEN),
        ("tiny", "mixed", EVEN | {"entropy_pretrained": 0.8}),
        ("tiny", "mixed", EVEN | {"likeness": (-0.1, 0.2)}),
        ("tiny", "contradicted", EVEN | {"largest": 0.9}),
    ],
    "C22": [
        ("tiny", "reproduced", EDITS),
        ("tiny", "mixed", EDITS | {"reliable_all": 0.5}),
        ("tiny", "mixed", EDITS | {"rows": 100}),
        ("tiny", "contradicted", EDITS | {"local_all": 0.5, "local_alone": 0.9}),
        ("tiny", "contradicted", EDITS | {"exact": 0.0}),
    ],
    "C23": [
        ("small", "reproduced", STAY),
        ("small", "reproduced", STAY | NEITHER),
        ("small", "mixed", STAY | {"unrelated_unchanged_by_experts": (-0.004, 0.006)}),  # the threshold's doing
        ("small", "mixed", STAY | {"unrelated_unchanged_by_experts": (-0.02, 0.03)}),
        ("small", "mixed", STAY | {"leak_mome": (0.02, 0.03)}),
        ("small", "contradicted", STAY | {"unrelated_unchanged_mome": (0.5, 0.6)}),
        ("tiny", "reproduced", {"drift": (-0.005, 0.0), "paper_recipe": (0.995, 1.0)}),
        ("tiny", "mixed", {"drift": (-0.005, 0.0), "paper_recipe": (0.6, 0.7)}),
        ("tiny", "contradicted", {"drift": (-0.5, -0.4), "paper_recipe": (0.6, 0.7)}),
    ],
    "C24": [
        ("tiny", "reproduced", {"llama": (0.02, 0.08), "mistral": (0.02, 0.09)}),
        ("tiny", "mixed", {"llama": (0.02, 0.08), "mistral": (0.6, 0.7)}),
        ("tiny", "contradicted", {"llama": (0.96, 1.0), "mistral": (0.97, 1.0)}),
    ],
    "C25": [
        ("tiny", "reproduced", {"once": (0.0, 0.1), "often": (0.8, 0.9)}),
        ("tiny", "mixed", {"once": (0.4, 0.6), "often": (0.5, 0.7)}),
        ("tiny", "contradicted", {"once": (0.4, 0.6), "often": (0.1, 0.2)}),
    ],
    "C26": [
        ("small", "reproduced", SCORES),
        ("small", "mixed", SCORES | {"mmlu_after": (0.25, 0.31)}),
        ("small", "contradicted", SCORES | {"mc1_after": (0.1, 0.2), "mmlu_after": (0.2, 0.3)}),
    ],
    "C27": [
        ("tiny", "reproduced", SCALED),
        ("tiny", "mixed", SCALED | {"bytes": 900.0}),
        ("tiny", "contradicted", SCALED | {"bytes": 900.0, "lookup": 3e8}),
    ],
    "C28": [
        ("small", "reproduced", {"before": (0.0, 0.01), "after": (0.9, 1.0)}),
        ("small", "mixed", {"before": (0.0, 0.01), "after": (0.0, 0.05)}),
        ("small", "contradicted", {"before": (0.0, 0.01), "after": (0.0, 0.005)}),
    ],
    "C29": [
        ("small", "reproduced", BLIND),
        ("small", "reproduced", BLIND | {"mc1": (0.0, 0.1), "kl": (0.95, 1.0)}),  # rises with ruin; KL is no benchmark
        ("small", "mixed", BLIND | {"mmlu": (0.6, 0.8)}),
        ("small", "mixed", BLIND | {"mmlu": (0.4, 0.95)}),
        ("small", "contradicted", BLIND | {"mmlu": (0.92, 0.99)}),
        ("tiny", "contradicted", {"quiz": (0.9, 1.0), "text_loss": (0.4, 0.6)}),
    ],
}  # fmt: skip


def metric(given: Given) -> Metric:
    low, high = given if isinstance(given, tuple) else (given, given)
    ci95 = (low, high) if isinstance(given, tuple) else None
    return Metric(value=(low + high) / 2, unit="share", n=10, ci95=ci95)


def numbers(given: dict[str, Given]) -> dict[str, Metric]:
    return {name: metric(each) for name, each in given.items()}


@pytest.mark.parametrize(
    ("claim", "profile", "verdict", "given"),
    [(claim, *example) for claim, examples in EXAMPLES.items() for example in examples],
)
def test_a_verdict_follows_from_the_numbers(claim: str, profile: str, verdict: str, given: dict[str, Given]) -> None:
    case = next(case for case in RULES[claim].cases if case.profile == profile)
    assert set(case.needs) <= set(given), "the example must have every number that the rule needs"
    found, why = case.decide(numbers(given))
    assert found == verdict
    assert why


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.claim)
def test_every_verdict_that_a_rule_lists_can_come_out(rule: Rule) -> None:
    reached = {verdict for _, verdict, _ in EXAMPLES[rule.claim]}
    assert reached - {"not testable here"} == set(rule.outcomes)
    assert "contradicted" in rule.outcomes


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.claim)
def test_a_rule_says_in_words_what_would_give_each_verdict(rule: Rule) -> None:
    text = " ".join(case.decide.__doc__ or "" for case in rule.cases).lower()
    assert rule.claim.lower() in text
    assert [outcome for outcome in rule.outcomes if outcome not in text] == []


def test_every_claim_has_exactly_one_rule_that_reads_the_notebooks_listed() -> None:
    claims = {claim.id: set(claim.notebooks) for claim in read_claims()}
    assert sorted(rule.claim for rule in EVERY) == sorted(claims)
    assert {name: rule.stems for name, rule in RULES.items()} == claims


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.claim)
def test_no_reading_hides_another(rule: Rule) -> None:
    for case in rule.cases:
        assert not set(case.needs) & set(case.also)
        assert set(case.headline) <= set(case.needs)
