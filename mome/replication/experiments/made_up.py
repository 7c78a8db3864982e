"""Made-up facts about made-up people, for stores larger than the shipped facts; always the same for a seed."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy

from mome.facts.fact import ALPHABET, Fact

GIVEN = ("Ald", "Bre", "Cor", "Dav", "Eli", "Fen", "Gar", "Hil", "Ivo", "Jor", "Kes", "Lun")
GIVEN_ENDS = ("a", "an", "eth", "ica", "in", "is", "mar", "o", "ric", "wyn")
FAMILY = (
    *("Ash", "Bel", "Crow", "Dun", "Elm", "Fair", "Gold", "Har", "Ing", "Kirk"),
    *("Lang", "Mar", "Nor", "Oak", "Pen", "Red", "Stan", "Thorn", "Und", "West"),
)
FAMILY_ENDS = (
    *("bank", "bury", "by", "dale", "den", "field", "ford", "gate", "ham", "holt"),
    *("ley", "low", "man", "more", "shaw", "son", "stead", "ton", "well", "worth"),
)
TOWNS = (
    *("Aberdeen", "Bergen", "Cork", "Dresden", "Evora", "Florence", "Ghent", "Haarlem", "Ipswich", "Jena"),
    *("Krakow", "Lyon", "Malmo", "Nantes", "Odense", "Porto", "Rouen", "Siena", "Turku", "Utrecht"),
)
# a relation: its wordings, the last of which is kept for testing
RELATIONS: dict[str, tuple[str, ...]] = {
    "badge_number": (
        "What is the badge number of {}?",
        "Which number stands on the badge of {}?",
        "Name the badge number of {}.",
        "Which badge number does {} have?",
    ),
    "room": (
        "What is the room of {}?",
        "In which room does {} work?",
        "Name the room in which {} sits.",
        "Where in the building is {} found?",
    ),
    "entry_year": (
        "In which year did {} join the company?",
        "When did {} start to work here?",
        "Name the year in which {} was hired.",
        "Since which year has {} been with the company?",
    ),
    "home_town": (
        "What is the home town of {}?",
        "In which town does {} live?",
        "Name the town that {} comes from.",
        "Where is {} at home?",
    ),
    "account": (
        "What is the account code of {}?",
        "Which code opens the account of {}?",
        "Name the account code of {}.",
        "Under which code is the account of {} kept?",
    ),
}


def made_up_facts(count: int, seed: int, *, absent: bool = False) -> list[Fact]:
    """The first `count` facts of a seeded order, or of the reversed order where they are to be `absent` from a store.

    A name is shared by up to five facts and its parts by many, so that questions look alike (our choice).

    Raises:
        ValueError: more facts than a store and its absent ones can have without overlap.
    """
    order = _order(seed)
    if not 0 <= count <= len(order) // 2:
        raise ValueError(f"count must be between 0 and {len(order) // 2:,}, not {count:,}")
    chosen = order[::-1][:count] if absent else order[:count]
    return [_fact(int(number), seed) for number in chosen]


@cache
def _order(seed: int) -> numpy.ndarray:
    return numpy.random.default_rng([seed, 0]).permutation(len(_names()) * len(RELATIONS))


@cache
def _names() -> list[str]:
    parts = product(GIVEN, GIVEN_ENDS, FAMILY, FAMILY_ENDS)
    return [f"{given}{given_end} {family}{end}" for given, given_end, family, end in parts]


def _fact(number: int, seed: int) -> Fact:
    name, relation = _names()[number // len(RELATIONS)], list(RELATIONS)[number % len(RELATIONS)]
    first, *others, held_out = (wording.format(name) for wording in RELATIONS[relation])
    answer = _answer(relation, numpy.random.default_rng([seed, 1, number]))
    return Fact(f"made_up/{relation}/{name}", first, answer, tuple(others), (held_out,), relation, "made up")


def _answer(relation: str, generator: numpy.random.Generator) -> str:
    if relation == "home_town":
        return TOWNS[generator.integers(len(TOWNS))]
    if relation == "entry_year":
        return str(generator.integers(1960, 2026))
    if relation == "room":
        return f"{ALPHABET[generator.integers(26)]}{generator.integers(100, 1000)}"
    if relation == "account":
        return "".join(ALPHABET[index] for index in generator.integers(len(ALPHABET), size=6))
    return str(generator.integers(10_000, 100_000))
