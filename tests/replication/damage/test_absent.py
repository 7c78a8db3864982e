"""Absent facts and made-up answers."""

from dataclasses import replace

import pytest

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.loading import Backbone
from mome.replication.damage.absent import absent_facts, made_up
from mome.replication.damage.texts import normalized


def test_absent_facts_are_not_memorized_ones() -> None:
    pool = shipped_facts("unknown")
    stored = absent_facts([], 5, seed=1)
    others = absent_facts(stored, 5, seed=1)
    assert {fact.id for fact in stored}.isdisjoint(fact.id for fact in others)
    with pytest.raises(ValueError, match="only 2 shipped facts"):
        absent_facts(pool[2:], 3)


def test_a_right_answer_and_an_abstention_are_not_made_up(
    random_backbone: Backbone, facts: list[Fact], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made_up(random_backbone.model, random_backbone.tokenizer, facts)
    assert table["item"].tolist() == [fact.id for fact in facts]
    assert not table["right"].any()
    said = dict(zip(table["item"], table["answer"], strict=True))
    told = [replace(fact, answer=said[fact.id]) for fact in facts if normalized(said[fact.id].split("\n")[0])]
    assert made_up(random_backbone.model, random_backbone.tokenizer, told)["made_up"].sum() < len(told)
    monkeypatch.setattr(
        "mome.replication.damage.formats.greedy_answers", lambda *_: ["I don't know", *["Rome"] * (len(facts) - 1)]
    )
    found = made_up(random_backbone.model, random_backbone.tokenizer, facts)
    assert found["made_up"].tolist() == [False, *[True] * (len(facts) - 1)]
