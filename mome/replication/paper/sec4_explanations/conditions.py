"""Conditions of section 4: training rows and questions for each cause of hallucination.

A cause is switched on by the training rows (two answers to a question, an old answer, one answer nearly everywhere), by
the prompt (names, padding, repetition), by the decoder, or by asking for what was not trained.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy

from mome.facts.fact import Fact

# models: LoRA stopped at a high and at a near-zero loss, memory experts, and these where they may say "I don't know"
HIGH, ZERO, MOME, ABSTAINING = "high", "zero", "zero_mome", "zero_mome_abstaining"
CONTROL = "none"
FAMILIES: dict[str, tuple[str, ...]] = {
    "missing": ("missing",),
    "conflict": ("conflict_even", "conflict_uneven"),
    "outdated": ("outdated",),
    "bias": ("skew",),
    "sampling": ("temperature_0_5", "temperature_1", "temperature_1_5", "top_p_0_9"),
    "attention": ("distractors", "padding", "repeats"),
}
REMEDIES = ("conflict_dated", "updated")
CAUSES = (CONTROL, *(cause for causes in FAMILIES.values() for cause in causes), *REMEDIES)
CONDITIONS = ("plain", "conflict_even", "conflict_uneven", "conflict_dated", "outdated", "updated", "skew")
DECODERS = {
    "temperature_0_5": (0.5, 1.0),
    "temperature_1": (1.0, 1.0),
    "temperature_1_5": (1.5, 1.0),
    "top_p_0_9": (1.0, 0.9),
}
MAJORITY = 9  # rows of one side for one row of the other: 90% and 10%
OLD, NEW = 2023, 2024
DISTRACTORS = 3
FILLER = "Please read the following question with care and then give the right answer. "
FILLERS = 12


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions with their right answers, asked under one cause.

    `facts` holds all facts once, or several times over in the same order; each is answered `samples` times at
    `temperature` (0: greedily) from the smallest set of tokens with `top_p` of the probability. `rivals` are the wrong
    answers that training offered, one for each of `facts`, or none.
    """

    cause: str
    facts: list[Fact]
    rivals: list[str] = field(default_factory=list)
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Condition:
    """Rows to train on, stage after stage, and what is asked of the trained model about its `count` facts."""

    name: str
    stages: list[list[Fact]]
    asked: list[Asked]
    count: int


def conditions(
    facts: Sequence[Fact], missing: Sequence[Fact], pool: Sequence[Fact], samples: int, seed: int
) -> dict[str, Condition]:
    """All conditions about `facts`, by name; `missing` are never trained, `pool` gives rivals and skewed relations.

    Raises:
        ValueError: the pool has too little of a relation; a number of missing facts other than that of facts.
    """
    if len(missing) != len(facts):
        raise ValueError(f"{len(missing)} missing facts beside {len(facts)} facts: as many are needed")
    true, old = list(facts), rivals(facts, pool, seed)
    wrong = [fact.answer for fact in old]
    rows = skewed_rows(facts, pool, seed)
    dates = dated(true, NEW) + dated(old, OLD)
    plain = [
        Asked(CONTROL, true),
        Asked("missing", list(missing)),
        *(Asked(cause, true, [], *decoder, samples) for cause, decoder in DECODERS.items()),
        *odd_prompts(facts, seed)[1:],
    ]
    swapped = [row.answer for row in dates[len(true) :] + dates[: len(true)]]
    majority = {fact.relation: fact.answer for fact in rows}
    found = [
        ("plain", [true], plain),
        ("conflict_even", [true + old], [Asked("conflict_even", true, wrong)]),
        ("conflict_uneven", [true * MAJORITY + old], [Asked("conflict_uneven", true, wrong)]),
        ("conflict_dated", [dates], [Asked("conflict_dated", dates, swapped)]),
        ("outdated", [old], [Asked("outdated", true, wrong)]),
        ("updated", [old, true], [Asked("updated", true, wrong)]),
        ("skew", [true + rows], [Asked("skew", true, [majority[fact.relation] for fact in facts])]),
    ]
    return {name: Condition(name, stages, asked, len(true)) for name, stages, asked in found}


def rivals(facts: Sequence[Fact], pool: Sequence[Fact], seed: int) -> list[Fact]:
    """Each fact with another answer of its relation in `pool`, drawn by `seed`; ids end in "#rival".

    Raises:
        ValueError: no other answer of a relation is there.
    """
    generator, answers = numpy.random.default_rng([seed, 1]), _answers(pool)
    found = []
    for fact in facts:
        others = sorted(answers.get(fact.relation, set()) - {fact.answer})
        if not others:
            raise ValueError(f"{fact.id}: the pool has no other answer of the relation {fact.relation!r}")
        found.append(replace(fact, id=f"{fact.id}#rival", answer=str(generator.choice(others))))
    return found


def skewed_rows(facts: Sequence[Fact], pool: Sequence[Fact], seed: int, ratio: int = MAJORITY) -> list[Fact]:
    """`ratio` rows for each of `facts`, wordings of other facts of its relation, all with one answer of that relation.

    That answer is none of the facts' own. Ids are those of the pool's facts with "#" and the number of the wording.

    Raises:
        ValueError: a relation has too few wordings, or no answer that is not taken.
    """
    generator, answers, own = numpy.random.default_rng([seed, 2]), _answers(pool), {fact.id for fact in facts}
    rows: list[Fact] = []
    for relation, count in Counter(fact.relation for fact in facts).items():
        others = [fact for fact in pool if fact.relation == relation and fact.id not in own]
        wordings = [
            replace(fact, id=f"{fact.id}#{number}", question=text, phrasings=(), held_out=())
            for fact in others
            for number, text in enumerate(fact.wordings())
        ]
        free = sorted(answers[relation] - {fact.answer for fact in facts})
        if len(wordings) < ratio * count or not free:
            raise ValueError(f"relation {relation!r}: {len(wordings)} other wordings, {ratio * count} are needed")
        answer = str(generator.choice(free))
        drawn = generator.permutation(len(wordings))[: ratio * count]
        rows += [replace(wordings[index], answer=answer) for index in drawn]
    return rows


def dated(facts: Sequence[Fact], year: int) -> list[Fact]:
    """The facts with the date in the question, which makes the answers of two dates two facts."""
    return [replace(fact, id=f"{fact.id}@{year}", question=f"As of {year}: {fact.question}") for fact in facts]


def odd_prompts(facts: Sequence[Fact], seed: int) -> list[Asked]:
    """The facts asked as they are, behind three other answers, behind a long prefix, and with every word twice."""
    return [
        Asked(CONTROL, list(facts)),
        Asked("distractors", distracted(facts, seed)),
        Asked("padding", padded(facts)),
        Asked("repeats", repeated(facts)),
    ]


def distracted(facts: Sequence[Fact], seed: int, names: int = DISTRACTORS) -> list[Fact]:
    """The questions behind the answers of `names` other facts, drawn by `seed` (fewer if there are fewer)."""
    generator = numpy.random.default_rng([seed, 3])
    found = []
    for fact in facts:
        others = sorted({other.answer for other in facts} - {fact.answer})
        drawn = generator.permutation(len(others))[:names]
        found.append(replace(fact, question=", ".join([*(others[index] for index in drawn), fact.question])))
    return found


def padded(facts: Sequence[Fact], sentences: int = FILLERS) -> list[Fact]:
    """The questions behind a prefix of `sentences` times the same polite sentence."""
    return [replace(fact, question=FILLER * sentences + fact.question) for fact in facts]


def repeated(facts: Sequence[Fact]) -> list[Fact]:
    """The questions with every word said twice."""
    doubled = [" ".join(word for word in fact.question.split() for _ in range(2)) for fact in facts]
    return [replace(fact, question=question) for fact, question in zip(facts, doubled, strict=True)]


def loss_floor(rows: Sequence[Fact]) -> float:
    """The least mean loss (nats/answer) any model can have on the rows: the entropy of an answer, given the question.

    With shares p of a question's rows for its answers and probabilities q of a model, the mean loss is
    H(p) + KL(p || q) >= H(p) (Gibbs), with equality at q = p. It is 0 where every question has one answer, ln 2 for two
    answers stated equally often, 0.325 for 90% and 10%.
    """
    questions = Counter(row.question for row in rows)
    pairs = Counter((row.question, row.answer) for row in rows)
    total = sum(count * math.log(count / questions[question]) for (question, _), count in pairs.items())
    return abs(total) / len(rows)


def rows_per_question(rows: Sequence[Fact]) -> int:
    """How often the most frequent question occurs."""
    return max(Counter(row.question for row in rows).values())


def _answers(pool: Sequence[Fact]) -> dict[str, set[str]]:
    answers: dict[str, set[str]] = {}
    for fact in pool:
        answers.setdefault(fact.relation, set()).add(fact.answer)
    return answers
