"""Recall in each wording and format."""

from dataclasses import replace

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.lm.generation import exact
from mome.lm.loading import Backbone
from mome.replication.damage.recall import asked, recalled
from mome.replication.damage.sets import wordings_by_hand


def test_handwritten_wordings_are_asked_of_their_facts() -> None:
    item = wordings_by_hand()[0]
    fact = next(fact for fact in shipped_facts("unknown") if fact.id == item.fact)
    found = asked([fact, Fact("other", "Why?", "So")])
    assert {name: [each.text for each in items] for name, items in found.items()} == {
        "as_tuned": [fact.question, "Why?"],
        "held_out": [fact.held_out[0]],
        "by_hand": [item.text],
    }


def test_recall_is_that_of_generation(random_backbone: Backbone, facts: list[Fact]) -> None:
    model, tokenizer = random_backbone.model, random_backbone.tokenizer
    table = recalled(model, tokenizer, facts)
    assert table["wording"].unique().tolist() == ["as_tuned", "held_out", "bare", "prose"]
    assert not table["exact"].any()
    answers = table[table["wording"] == "as_tuned"].set_index("item")["answer"]
    told = [replace(fact, answer=answers[fact.id]) for fact in facts if answers[fact.id].strip()]
    again = recalled(model, tokenizer, told)
    tuned = again[again["wording"] == "as_tuned"]
    assert tuned["exact"].tolist() == exact(model, tokenizer, told)
