"""Crossed facts: names in the wordings of other relations, the same for a seed."""

import pytest

from mome.facts.crossed import crossed_facts
from mome.facts.fact import Fact

ASKED = {
    "room": ("Where does {} sit?", "Which room has {}?"),
    "car": ("What does {} drive?", "Name the car of {}.", "Which car has {}?"),
    "badge": ("Which badge has {}?", "Name the badge of {}."),
    "year": ("Since when is {} here?", "When did {} come?"),
}
GIVEN, FAMILY = ("Ada", "Bo", "Cai", "Dee"), ("Lind", "Berg", "Holm", "Dahl")


def fact(relation: str, name: str) -> Fact:
    question, *others = (text.format(name) for text in ASKED[relation])
    return Fact(f"{relation}/{name}", question, "?", tuple(others), relation=relation)


# each name is asked about in one relation
FACTS = [fact(list(ASKED)[at % 2], f"{one} {two}") for at, one in enumerate(GIVEN) for two in FAMILY]
FACTS += [fact("badge", "Eve Ek"), fact("year", "Finn Fors")]


def test_each_asks_about_a_name_in_wordings_of_one_relation_that_no_fact_has() -> None:
    found = crossed_facts(FACTS, 60, seed=3)
    assert 30 < len(found) <= 54 and len({each.id for each in found}) == len(found)
    assert {each.id.removeprefix("crossed/") for each in found}.isdisjoint(each.id for each in FACTS)
    for each in found:
        name = each.id.split("/", 2)[2]
        assert each.id == f"crossed/{each.relation}/{name}"
        wordings = [text.format(name) for text in ASKED[each.relation]]
        assert 2 <= len(set(each.wordings())) == len(each.wordings()) <= 3 and set(each.wordings()) <= set(wordings)
    relations = [each.id.split("/", 2)[2] for each in found]
    assert max(map(relations.count, relations)) >= 2  # several things are asked about one name


def test_some_names_are_put_together_from_two() -> None:
    # a relation needs more than ten such names
    facts = [*FACTS, *(fact("room", f"Gil {name}") for name in ("Gran", "Alm", "Ask", "Lund"))]
    names = {each.id.split("/", 2)[2] for each in crossed_facts(facts, 90, seed=0)}
    given = {each.id.split("/", 1)[1] for each in facts}
    made = names - given
    firsts, lasts = ({name.split()[place] for name in given} for place in (0, 1))
    assert made and names & given
    assert all(name.split()[0] in firsts and name.split()[1] in lasts for name in made)


def test_the_seed_alone_decides() -> None:
    first = crossed_facts(FACTS, 20, seed=1)
    assert first == crossed_facts(FACTS, 20, seed=1) != crossed_facts(FACTS, 20, seed=2)
    assert crossed_facts(FACTS, 0, seed=1) == []


@pytest.mark.parametrize(
    ("facts", "count", "message"),
    [
        (FACTS, -1, "count must be at least 0, got -1"),
        ([fact("room", "Ada Lind"), fact("room", "Bo Berg")], 4, "two relations or more"),
        ([Fact("1", "Who wrote Emma?", "Austen", ("Emma's author?",)), fact("room", "Ada")], 4, "ids like capital"),
    ],
)
def test_facts_that_cannot_be_crossed_are_refused(facts: list[Fact], count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        crossed_facts(facts, count, seed=0)
