"""The table of questions as they are typed: what is counted, and what its summary makes of it."""

from pathlib import Path

import pandas
import pytest
from tiny_editing import make_memory

from mome.facts.fact import Fact
from mome.facts.typing_variations import typed
from mome.lm.loading import Backbone
from mome.memory.editing.training import TYPED
from mome.memory.memory import Memory
from mome.replication.experiments.typed_questions import (
    AS_IT_STANDS,
    measured,
    single_wording_facts,
    summary,
    trainings,
    typed_pairs,
)


@pytest.fixture(scope="module")
def memory(random_backbone: Backbone, backbone_folder: Path, facts: list[Fact]) -> Memory:
    return make_memory(random_backbone, backbone_folder, facts)


def test_the_fewer_facts_are_among_the_more_and_have_one_wording() -> None:
    few, many = single_wording_facts(5, 91), single_wording_facts(40, 91)
    assert few == many[:5] and not any(fact.phrasings or fact.held_out for fact in many)
    settings = trainings(91)
    assert (settings["plain"].typings, settings["typed"].typings) == (0, TYPED["typings"])


def test_questions_that_a_kind_leaves_as_they_are_are_not_counted() -> None:
    facts = [Fact("a", "where is it?", "x"), Fact("b", "Where is she?", "y")]
    assert typed_pairs(facts, "lower case", 0) == [("where is she?", facts[1])]
    assert [question for question, _ in typed_pairs(facts, AS_IT_STANDS, 0)] == [fact.question for fact in facts]


def test_shares_are_of_the_fact_that_is_meant(memory: Memory, facts: list[Fact]) -> None:
    pairs = [(facts[0].question, facts[0]), (facts[1].question, facts[2]), (facts[3].question.upper(), facts[3])]
    found = measured(memory, pairs)
    assert found["n"] == 3 and found["exact"] == pytest.approx(2 / 3)  # the second question means another fact
    assert found["memorized_wrong"] == pytest.approx(1 / 3) and found["recognized"] >= 2 / 3
    assert found["exact_alone"] >= 1 / 3 and found["abstained"] == found["by_backbone"] == 0
    (slip,) = typed_pairs(facts[:1], "full-width letters", 0)
    assert slip[0] == typed(facts[0].question, "full-width letters", 0) and measured(memory, [slip])["exact"] == 1


def test_the_summary_sets_plain_training_unchecked_against_the_user_s_checked() -> None:
    shares = {"exact_alone": 0.5, "wrong_alone": 0.25, "exact": 0.75, "memorized_wrong": 0.0, "abstained": 0.25}
    row = {"facts": 20, "n": 20, **shares, "by_backbone": 0.0}
    kinds = [AS_IT_STANDS, "lower case", "greeting"]
    rows = [
        {**row, "training": name, "kind": kind, "seed": seed}
        for name in ("plain", "typed")
        for kind in kinds
        for seed in (0, 1)
    ]
    (line,) = summary(pandas.DataFrame(rows)).to_dict("records")
    assert (line["facts"], line["n"]) == (20, 80)  # of two variations, two seeds
    assert line["exact before"].startswith("50.0% (") and line["exact after"].startswith("75.0% (")
    assert line["wrong, called memorized, before"].startswith("25.0% (")
    assert line["wrong, called memorized, after"].startswith("0.0% (0.0% to 4.")  # the exact binomial one
