"""The one signature of every method that answers from a set of facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mome.facts.fact import Fact
from mome.lm.generation import ABSTENTIONS

ABSTAINS = ""  # the answer of a method that says it does not know; `mome.lm.generation.hallucinated` takes it as such
LONGEST = 40  # tokens of an answer


class Method(Protocol):
    """A way of answering from facts (our choice of signature; the paper's sections 4 and 10 name methods only).

    `name` is its key in tables and metrics, such as "rag_bm25".
    """

    name: str

    def fit(self, facts: Sequence[Fact]) -> None:
        """Hold `facts`, and no facts from before.

        Raises:
            ValueError: there are no facts, or more than the method can hold; the message says how many.
        """

    def answer(self, questions: Sequence[str]) -> list[str]:
        """One line of text for each question, `ABSTAINS` where the method says that it does not know."""

    def add(self, fact: Fact) -> None:
        """Hold one fact more; raises ValueError if its id is held already."""

    def update(self, fact: Fact) -> None:
        """Replace the fact of the same id; raises KeyError if there is none."""

    def delete(self, identity: str) -> None:
        """Forget the fact of this id; raises KeyError if there is none."""

    def bytes(self) -> int:
        """Bytes that the method keeps for its facts, without the backbone."""


def spoken(answer: str) -> str:
    """The answer, or `ABSTAINS` if its text says "I don't know"."""
    return ABSTAINS if answer.strip(" .").lower() in ABSTENTIONS else answer


class Holder:
    """Base of methods that keep their facts: by id, in the order in which they were added."""

    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}

    def take(self, facts: Sequence[Fact]) -> None:
        """Hold `facts` and no others; raises ValueError if there are none or an id occurs twice."""
        if not facts:
            raise ValueError("no facts to take over")
        found = {fact.id: fact for fact in facts}
        if len(found) < len(facts):
            raise ValueError(f"{len(facts)} facts have only {len(found)} different ids")
        self.facts = found

    def insert(self, fact: Fact) -> None:
        """Hold one fact more; raises ValueError if its id is held already."""
        if fact.id in self.facts:
            raise ValueError(f"fact {fact.id!r} is held already: update it")
        self.facts[fact.id] = fact

    def exchange(self, fact: Fact) -> Fact:
        """Hold `fact` in the place of the one with its id, which is returned; raises KeyError if there is none."""
        if fact.id not in self.facts:
            raise KeyError(f"no fact {fact.id!r} to update")
        old, self.facts[fact.id] = self.facts[fact.id], fact
        return old

    def remove(self, identity: str) -> Fact:
        """Let the fact of this id go and return it; raises KeyError if there is none."""
        if identity not in self.facts:
            raise KeyError(f"no fact {identity!r} to delete")
        return self.facts.pop(identity)
