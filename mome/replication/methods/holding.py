"""The facts a method holds, by id: what every method shares about fit, add, update and delete."""

from __future__ import annotations

from collections.abc import Sequence

from mome.facts.fact import Fact


class Holder:
    """Facts by id, in the order they came; a method does its own work where one comes, changes or goes."""

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
