"""One template of each relation is withheld, for every fact the same."""

from dataclasses import replace

import pytest

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts
from mome.facts.templates import relation_templates, withheld_templates, without_template


@pytest.mark.parametrize("name", ["known", "unknown"])
def test_a_withheld_template_is_in_no_training_wording(name: str) -> None:
    facts = shipped_facts(name)
    withheld = withheld_templates(seed=0)
    for before, after in zip(facts, without_template(facts, seed=0), strict=True):
        tested = withheld[after.relation].format(subject=after.id.partition("/")[2])
        assert after.held_out == (tested,)
        assert tested not in after.wordings()
        assert sorted(after.all_wordings()) == sorted(before.all_wordings())
        assert after.question == before.question
        assert (after.id, after.answer, after.source) == (before.id, before.answer, before.source)


def test_which_template_depends_on_the_seed_and_is_never_the_first() -> None:
    drawn = [withheld_templates(seed) for seed in range(8)]
    templates = relation_templates()
    assert all(each[name] in templates[name][1:] for each in drawn for name in templates)
    assert all(len({each[name] for each in drawn}) > 1 for name in ("capital", "novel_author"))
    assert withheld_templates(3) == drawn[3]


def test_facts_without_shipped_templates_are_refused() -> None:
    with pytest.raises(ValueError, match="'1': its wordings do not follow"):
        without_template([Fact("1", "Why?", "So")], seed=0)
    fact = shipped_facts("known")[0]
    with pytest.raises(ValueError, match="do not follow the templates"):
        without_template([replace(fact, phrasings=("And?",))], seed=0)
