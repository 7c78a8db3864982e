"""A stream of edits drawn from the shipped facts: counterfactual updates and additions, with what tests each one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy

from mome.facts.fact import Fact, split
from mome.replication.paper.sec10_editing.public_edits import Probe

UPDATE, KNOWN, ADD = "update", "known", "add"
SHARES = {UPDATE: 0.2, KNOWN: 0.3}  # of the edits; the rest adds facts
# How the answer of a relation is spoken of in a one-hop question about it
NOUNS = {
    **{f"{kind}_year": f"the year of the {kind} {{}}" for kind in ("novel", "film", "album", "opera", "play")},
    "novel_author": "the author of the novel {}",
    "play_playwright": "the author of the play {}",
    "opera_composer": "the composer of the opera {}",
    "composition_composer": "the composer of {}",
    "painting_painter": "the painter of {}",
    "invention_inventor": "the inventor of {}",
    "person_birthplace": "the birthplace of {}",
    "airport_city": "the town served by the airport {}",
    "region_capital": "the capital of {}",
    "event_year": "the year of {}",
    "battle_year": "the year of {}",
    "mission_launch_year": "the year of the mission {}",
    "person_birth_year": "the year of birth of {}",
    "person_death_year": "the year of death of {}",
    "company_founding_year": "the founding year of {}",
    "ruler_accession_year": "the year of the accession of {}",
    "star_constellation": "the constellation of {}",
    "messier_constellation": "the constellation of {}",
    "mineral_ore_metal": "the metal of the ore {}",
    "element_by_symbol": "the element with the symbol {}",
    "moon_planet": "the planet of the moon {}",
    "landform_country": "the country of {}",
    "god_roman_name": "the Roman counterpart of {}",
}
SECOND = (
    "city_country",
    "capital",
    "currency",
    "country_anthem",
    "calling_code",
    "iso_alpha2",
    "iso_alpha3",
    "world_cup_winner",
    "world_cup_host",
    "summer_olympics_city",
    "winter_olympics_city",
    "nobel_literature_laureate",
    "person_birthplace",
    "person_birth_year",
    "person_death_year",
    "constellation_genitive",
    "constellation_meaning",
    "constellation_abbreviation",
    "constellation_brightest_star",
    "element_group",
    "element_state",
    "element_period",
    "planet_position",
)


@dataclass(frozen=True, slots=True)
class StreamEdit:
    """One edit: the `fact` as it is to be, of a `kind`, its answer so far (`old`, empty if not held), one-hop `hop`."""

    kind: str
    fact: Fact
    old: str
    hop: Probe | None = None

    @property
    def subject(self) -> str:
        """What the fact is about, as its questions name it."""
        return subject_of(self.fact)


@dataclass(frozen=True, slots=True)
class Stream:
    """Edits in their order, and what must not change: `others` of the `held` facts, and `general` ones.

    `held` are memorized before the first edit; an edit of kind "update" is of one of them, one of kind "known" of a
    fact that the backbone knows from pretraining, as it does the general ones.
    """

    held: list[Fact]
    edits: list[StreamEdit]
    others: list[Fact]
    general: list[Fact]

    @property
    def wordings(self) -> list[str]:
        """Every question of the stream in all its wordings: nothing may be learned from them beforehand."""
        facts = [*self.held, *(edit.fact for edit in self.edits), *self.general]
        return [text for fact in facts for text in fact.all_wordings()]


def draw_stream(
    known: Sequence[Fact],
    unknown: Sequence[Fact],
    edits: int,
    seed: int,
    others: int = 100,
    general: int = 300,
    answers_of: Sequence[Fact] = (),
) -> Stream:
    """Draw a stream of `edits` by `seed`, in random order: a fifth updates, three tenths known facts, the rest adds.

    Updates and edits of known facts are counterfactual: the new answer is another one of the same relation, where
    possible one about which the backbone knows a second fact, which makes a one-hop question. Added facts are true.
    `known` are facts that the backbone answers, `unknown` ones that it was never shown. A new answer may also be one
    of `answers_of`.

    Raises:
        ValueError: too few facts.
    """
    counts = {kind: round(share * edits) for kind, share in SHARES.items()}
    counts[ADD] = edits - sum(counts.values())
    changed, rest, added, _ = split(unknown, [counts[UPDATE], others, counts[ADD]], seed)
    doubted, asked, spare = split(known, [counts[KNOWN], general], seed)
    generator = numpy.random.default_rng(seed)
    second = _second_facts([*asked, *spare])
    answers: dict[str, dict[str, None]] = {}
    for fact in (*known, *unknown, *answers_of):
        answers.setdefault(fact.relation, {})[fact.answer] = None
    drawn = [
        *(StreamEdit(UPDATE, _another(fact, answers, second, generator), fact.answer) for fact in changed),
        *(StreamEdit(KNOWN, _another(fact, answers, second, generator), fact.answer) for fact in doubted),
        *(StreamEdit(ADD, fact, "") for fact in added),
    ]
    ordered = [drawn[place] for place in generator.permutation(len(drawn))]
    hopped = [replace(edit, hop=_hop(edit, second, generator)) for edit in ordered]
    return Stream([*changed, *rest], hopped, list(rest), list(asked))


def subject_of(fact: Fact) -> str:
    """The subject of a shipped fact: what its id names after the relation."""
    return fact.id.split("/", 1)[1]


def _second_facts(facts: Iterable[Fact]) -> dict[str, list[Fact]]:
    """Facts that can be the second step, by their subject."""
    found: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.relation in SECOND:
            found.setdefault(subject_of(fact), []).append(fact)
    return found


def _another(
    fact: Fact, answers: dict[str, dict[str, None]], second: dict[str, list[Fact]], generator: numpy.random.Generator
) -> Fact:
    """The fact with another answer of its relation."""
    choices = [answer for answer in answers[fact.relation] if answer != fact.answer]
    if not choices:
        raise ValueError(f"fact {fact.id!r}: its relation has no other answer")
    linked = [answer for answer in choices if answer in second] if fact.relation in NOUNS else []
    choices = linked or choices
    return replace(fact, answer=choices[generator.integers(len(choices))])


def _hop(edit: StreamEdit, second: dict[str, list[Fact]], generator: numpy.random.Generator) -> Probe | None:
    """A question about the new answer that does not name it, with its answer; None where no known fact leads on."""
    linked = second.get(edit.fact.answer, []) if edit.fact.relation in NOUNS else []
    if not linked:
        return None
    step = linked[generator.integers(len(linked))]
    spoken, answer = NOUNS[edit.fact.relation].format(edit.subject), edit.fact.answer
    wordings = step.all_wordings()
    # "in 1998", not "the 1998 Winter Olympics", where there is such a wording
    fitting = next((text for text in wordings if re.search(rf"\b(in|of) {re.escape(answer)}\b", text)), wordings[0])
    return Probe(fitting.replace(answer, spoken).replace("the the ", "the "), (step.answer,), step.relation)
