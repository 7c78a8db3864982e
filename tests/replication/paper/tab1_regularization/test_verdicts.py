"""Claim C04 comes out as the numbers say: reproduced, partly or contradicted."""

from __future__ import annotations

import pytest
from real_runs import damage

from mome.replication.paper.tab1_regularization.verdicts import (
    FALL,
    RECALLED,
    Findings,
    kept_findings,
    live_findings,
    verdict_c04,
)

EVERYWHERE = [(architecture, dataset) for architecture in ("llama", "mistral") for dataset in ("truthfulqa", "mmlu")]


def cell(architecture: str, dataset: str, recalled: float = 1.0, fall: float = 0.0) -> Findings:
    return Findings("a-model", architecture, dataset, recalled, 0.9, 0.9 - fall)


def verdict(found: list[Findings]) -> str:
    return verdict_c04(found)[0]


def test_both_findings_on_two_architectures_and_two_data_sets_are_reproduced():
    assert verdict([cell(*place) for place in EVERYWHERE]) == "reproduced"
    assert verdict([cell(*place, RECALLED, FALL / 2) for place in EVERYWHERE]) == "reproduced"


@pytest.mark.parametrize(
    "places", [EVERYWHERE[:1], EVERYWHERE[:2], EVERYWHERE[::2]], ids=["one", "llama", "truthfulqa"]
)
def test_one_architecture_or_one_data_set_is_too_little(places: list[tuple[str, str]]):
    assert verdict([cell(*place) for place in places]) == "partly"


@pytest.mark.parametrize(("recalled", "fall"), [(0.94, 0.0), (1.0, 0.03)], ids=["not memorized", "damage"])
def test_one_finding_that_fails_somewhere_leaves_it_partly(recalled: float, fall: float):
    held = [cell(*place) for place in EVERYWHERE[1:]]
    found = verdict_c04([cell(*EVERYWHERE[0], recalled, fall), *held])
    assert found[0] == "partly" and found[1].count("everywhere: no") == 1


@pytest.mark.parametrize("places", [EVERYWHERE[:1], EVERYWHERE], ids=["one", "all"])
def test_it_is_contradicted_where_neither_finding_holds(places: list[tuple[str, str]]):
    assert verdict([cell(*place, 0.5, 0.5) for place in places]) == "contradicted"


def test_findings_that_fail_at_different_places_contradict_it_too():
    assert verdict([cell("llama", "mmlu", recalled=0.5), cell("mistral", "truthfulqa", fall=0.5)]) == "contradicted"


def test_nothing_measured_is_refused():
    with pytest.raises(ValueError, match="no run on random answers"):
        verdict_c04([])


def test_the_notebooks_own_runs_are_means_over_seeds():
    means = {
        ("one", seed, state): {"general_accuracy": accuracy + seed / 10, "tuned": 1.0 - seed / 10}
        for seed in (0, 1)
        for state, accuracy in (("before", 0.8), ("random", 0.2), ("real", 0.7))
    }
    (found,) = live_findings(means, {"one": "llama"})
    assert (found.recalled, found.before, found.after) == pytest.approx((0.95, 0.85, 0.25))
    assert str(found) == "one (llama) on shipped: 95.0% recalled, other answers 85.0% -> 25.0%"


def test_the_kept_tables_cells_are_its_data_sets():
    """Real answers, other methods and other numbers of facts are left out."""
    after = {"known_answers": "1000", "recall_as_tuned": "1110"}
    states = {("before", ""): {"known_answers": "1111"}, ("lora", "random"): after}
    others = {("lora", "real"): {**after, "recall_as_tuned": "0000"}, ("mome", "random"): {"known_answers": "1111"}}
    table = damage(states | others).assign(dataset="truthfulqa")
    table.loc[table["method"] == "before", "dataset"] = ""
    more = damage({("lora", "random"): after}, facts=256).assign(dataset="truthfulqa")
    (found,) = kept_findings(table.merge(more, how="outer"), 64, {"real-model": "llama"})
    assert found == Findings("real-model", "llama", "truthfulqa", 0.75, 1.0, 0.25)
    assert kept_findings(table, 64, {"another-model": "mistral"}) == []
