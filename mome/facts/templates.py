"""The wordings of shipped relations as templates, and facts of which one template is withheld."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace

import numpy

from mome.facts.fact import Fact
from mome.files.environment import repository_root
from mome.files.hashing import text_sha256


def relation_templates() -> dict[str, tuple[str, ...]]:
    """The wordings of each shipped relation, with {subject} in them, as data/facts/relations has them.

    Raises:
        OSError: the folder cannot be read.
    """
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted((repository_root() / "data" / "facts" / "relations").glob("*.toml")):
        for relation in tomllib.loads(path.read_text("utf-8"))["relation"]:
            found[relation["name"]] = tuple(relation["phrasings"])
    return found


def withheld_templates(seed: int) -> dict[str, str]:
    """One template of each shipped relation, drawn by `seed`; never the first, in which a fact's question stands."""
    drawn = {}
    for name, templates in relation_templates().items():
        number = int(text_sha256(f"withheld {seed} {name}", 16), 16)
        drawn[name] = templates[1 + int(numpy.random.default_rng(number).integers(len(templates) - 1))]
    return drawn


def without_template(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """The facts with one template of their relation withheld from training: it is their only `held_out` wording.

    The other templates are what may be trained on. The shipped facts hold out another template for each fact, so that a
    router sees every template of a relation. Whoever withholds templates must do so for all facts that something is
    trained on: those that are memorized, those the router learns from, and the calibration questions.

    Raises:
        ValueError: a fact's relation has no templates, or its wordings do not follow them.
    """
    templates, withheld = relation_templates(), withheld_templates(seed)
    return [_withheld(fact, templates.get(fact.relation, ()), withheld.get(fact.relation, "")) for fact in facts]


def _withheld(fact: Fact, templates: Sequence[str], withheld: str) -> Fact:
    subject = fact.id.partition("/")[2]
    wordings = [template.format(subject=subject) for template in templates]
    if {*wordings} != {*fact.all_wordings()}:
        raise ValueError(f"fact {fact.id!r}: its wordings do not follow the templates of a shipped relation")
    tested = withheld.format(subject=subject)
    question, *others = (wording for wording in wordings if wording != tested)
    return replace(fact, question=question, phrasings=tuple(others), held_out=(tested,))
