"""A fact: one question with one answer; how answers are randomized, and facts are split.

Tuning, recall and splits all count facts, never rows or paraphrases.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy

from mome.files.hashing import text_sha256

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True)
class Fact:
    """One question with its one answer.

    `phrasings` are paraphrases of the question that may be trained on, `held_out` are paraphrases kept for testing.
    `relation` groups facts of a kind ("capital"), `source` says where the fact comes from; both may be empty.

    Example:
        >>> from mome import Fact
        >>> fact = Fact("1", "Who wrote Emma?", "Jane Austen", phrasings=("Who is the author of Emma?",))
        >>> fact.wordings()
        ['Who wrote Emma?', 'Who is the author of Emma?']
    """

    id: str
    question: str
    answer: str
    phrasings: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    relation: str = ""
    source: str = ""

    def wordings(self, count: int | None = None) -> list[str]:
        """The question and the paraphrases that may be trained on, in this order; at most the first `count` of them."""
        return [self.question, *self.phrasings][:count]

    def all_wordings(self) -> list[str]:
        """The question and every paraphrase of it, those held out for testing last."""
        return [*self.wordings(), *self.held_out]


def identify(question: str) -> str:
    """The default id of a fact: 16 hexadecimal digits of the SHA-256 of its question."""
    return text_sha256(question, 16)


def randomize(facts: Iterable[Fact], seed: int, length: int = 32) -> list[Fact]:
    """Replace each answer once by `length` characters drawn uniformly from A-Z0-9 (randomization test, paper 4).

    The new answer depends on `seed` and the fact's id alone: a subset or another order of the facts gets the same ones.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")

    def draw(fact: Fact) -> str:
        generator = numpy.random.Generator(numpy.random.PCG64(_number("randomize", seed, fact.id)))
        return "".join(ALPHABET[index] for index in generator.integers(len(ALPHABET), size=length))

    return [replace(fact, answer=draw(fact)) for fact in facts]


def shuffle_answers(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """Permute the answers among the facts (the shuffled-label test of Zhang et al. 2017), keeping the facts' order.

    The permutation is uniform over all permutations, so about one fact in the whole set keeps its own answer by chance,
    and more do where answers repeat. It depends on `seed` and the set of ids, not on the order of the facts.
    """
    ordered = sorted(facts, key=lambda fact: fact.id)
    generator = numpy.random.Generator(numpy.random.PCG64(_number("shuffle", seed, "")))
    donors = (ordered[index].answer for index in generator.permutation(len(ordered)))
    answers = dict(zip((fact.id for fact in ordered), donors, strict=True))
    return [replace(fact, answer=answers[fact.id]) for fact in facts]


def split(facts: Iterable[Fact], sizes: float | Sequence[int], seed: int) -> tuple[list[Fact], ...]:
    """Split by fact, so that all wordings of a fact fall on one side (paper 9).

    Args:
        facts: what to split; ids must be distinct.
        sizes: the fraction of facts for the first part (a float in [0, 1]), or the sizes of the leading parts.
        seed: facts are ordered by a hash of seed and id, so the input's order does not matter.

    Returns:
        The parts asked for, and last the remaining facts: two lists for a fraction, `len(sizes) + 1` for sizes.

    Raises:
        ValueError: the sizes do not fit the number of facts, or two facts have the same id.
    """
    ordered = sorted(facts, key=lambda fact: _number("split", seed, fact.id))
    if len({fact.id for fact in ordered}) < len(ordered):
        raise ValueError("facts to split must have distinct ids")
    counts = [round(sizes * len(ordered))] if isinstance(sizes, float) else list(sizes)
    if min(counts, default=0) < 0 or sum(counts) > len(ordered):
        raise ValueError(f"cannot split {len(ordered)} facts by {sizes}")
    edges = [sum(counts[:index]) for index in range(len(counts) + 1)] + [len(ordered)]
    return tuple(ordered[start:stop] for start, stop in itertools.pairwise(edges))


def _number(purpose: str, seed: int, identity: str) -> int:
    return int(text_sha256(json.dumps([purpose, int(seed), identity]), 32), 16)


def with_wordings(facts: Sequence[Fact], count: int) -> list[Fact]:
    """Each fact's first `count` wordings as facts of their own, for methods that tune one question at a time."""
    return [
        replace(fact, id=f"{fact.id}#{number}", question=text, phrasings=())
        for fact in facts
        for number, text in enumerate(fact.wordings(count))
    ]
