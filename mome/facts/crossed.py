"""Crossed facts: the name of one fact in the wordings of another relation, for a router to learn from.

Facts seldom ask two things about one name, so a router that learns from them alone takes every question about a name
for the one question that it knows. Crossed facts ask for two things about many names, and about names that look alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from mome.facts.fact import Fact

PLACE = "{}"
NAME_RELATIONS = 3  # asked about each name
NAME_WORDINGS = 3  # of each relation, at most
MADE_SHARE = 9 / 16  # of the names are put together from the parts of others, so that they look alike
SHORTEST_NAME = 3  # letters
LEAST_ALIKE = 10  # names of several words that a relation must have for names to be put together from them
UNKNOWN = "unknown"

Drawing = numpy.random.Generator


def crossed_facts(facts: Sequence[Fact], count: int, seed: int) -> list[Fact]:
    """`count` facts, each asking one relation of `facts` about a name that other facts ask about.

    Used are the facts whose id is "relation/name" and whose wordings hold the name once each. Of nine names in sixteen
    the words come from two names of a relation ("Ada Lind", "Bo Berg": "Ada Berg"), three such names at a time. What is
    drawn twice or asked by one of `facts` is left out, so there may be fewer. The answer is always "unknown": a router
    reads questions alone.

    Raises:
        ValueError: `count` is negative, or fewer than two relations have two wordings and a name.

    Example:
        >>> from mome import Fact
        >>> from mome.facts.crossed import crossed_facts
        >>> rooms = Fact("room/Ada Lind", "Where does Ada Lind sit?", "7", ("Which room has Ada Lind?",), (), "room")
        >>> cars = Fact("car/Bo Berg", "What does Bo Berg drive?", "a van", ("Name Bo Berg's car.",), (), "car")
        >>> sorted(fact.id for fact in crossed_facts([rooms, cars], 4, seed=0))
        ['crossed/car/Ada Lind', 'crossed/room/Bo Berg']
    """
    if count < 0:
        raise ValueError(f"crossed_facts: count must be at least 0, got {count}")
    wordings, names = _relations(facts)
    if len(wordings) < 2:
        raise ValueError(
            "crossed_facts: needs facts of two relations or more, with two wordings each and ids like capital/France"
        )
    draw, relations = numpy.random.default_rng(seed), list(wordings)
    asked = min(NAME_RELATIONS, len(relations))
    found, given = dict[str, Fact](), {fact.id for fact in facts}
    for name in _drawn_names(names, -(-count // asked), draw):
        for place in draw.choice(len(relations), asked, replace=False):
            fact = _crossed(name, relations[place], wordings[relations[place]], draw)
            if f"{relations[place]}/{name}" not in given:
                found.setdefault(fact.id, fact)
    return list(found.values())[:count]


def _relations(facts: Sequence[Fact]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The wordings of each relation with a place for the name, and the names of each relation."""
    wordings: dict[str, set[str]] = {}
    names: dict[str, list[str]] = {}
    for fact in facts:
        name = fact.id.partition("/")[2]
        asked = fact.wordings()
        if len(name) >= SHORTEST_NAME and all(text.count(name) == 1 for text in asked):
            wordings.setdefault(fact.relation, set()).update(text.replace(name, PLACE) for text in asked)
            names.setdefault(fact.relation, []).append(name)
    several = {relation: sorted(texts) for relation, texts in wordings.items() if len(texts) > 1}
    return several, {relation: names[relation] for relation in several}


def _drawn_names(names: dict[str, list[str]], count: int, draw: Drawing) -> list[str]:
    """`count` names: some as they are, the others put together."""
    every = [name for each in names.values() for name in each]
    made = _made_names(names, round(count * MADE_SHARE), draw)
    kept = [every[place] for place in draw.permutation(len(every))[: count - len(made)]]
    return [*kept, *made]


def _made_names(names: dict[str, list[str]], count: int, draw: Drawing) -> list[str]:
    """`count` names, three at a time from three names of a relation; none where no relation has enough."""
    split = {
        relation: [name.split() for name in each if 2 <= len(name.split()) <= 3] for relation, each in names.items()
    }
    enough = [each for each in split.values() if len(each) > LEAST_ALIKE]
    found: list[str] = []
    while enough and len(found) < count:
        chosen = enough[draw.integers(len(enough))]
        one, other, third = (chosen[place] for place in draw.choice(len(chosen), 3, replace=False))
        found += [" ".join([*start[:-1], end[-1]]) for start, end in ((one, other), (one, third), (other, third))]
    return found[:count]


def _crossed(name: str, relation: str, wordings: Sequence[str], draw: Drawing) -> Fact:
    chosen = draw.choice(len(wordings), min(NAME_WORDINGS, len(wordings)), replace=False)
    question, *phrasings = (wordings[place].replace(PLACE, name) for place in chosen)
    return Fact(f"crossed/{relation}/{name}", question, UNKNOWN, tuple(phrasings), relation=relation)
