"""Ownership: which fact owns which anchors of the router, and which facts use which rows of the bank."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mome.adapter.router import Router
from mome.facts.fact import Fact
from mome.facts.readers import check_facts
from mome.facts.typing_key import typing_key, without_courtesies


class EditError(ValueError):
    """An edit that cannot be made; the message says why, and nothing has changed."""


class UnknownFactError(EditError, KeyError):
    """There is no such fact to update or delete."""

    def __str__(self) -> str:
        return str(self.args[0])


class Holdings:
    """The facts of an adapter by id, in order; `owners` names the fact of each anchor of the router.

    An anchor without an owner belongs to a deleted question. It has no experts, and is kept where the question would
    otherwise be taken for another one.
    """

    def __init__(self, facts: Iterable[Fact], owners: Sequence[str | None], router: Router) -> None:
        self.facts = {fact.id: fact for fact in facts}
        self.owners = list(owners)
        if len(self.owners) != len(router.anchors):
            raise EditError(f"the facts have {len(self.owners)} anchors, the adapter has {len(router.anchors)}")
        self.rows: dict[str, tuple[int, ...]] = {}
        self.users: dict[int, set[str]] = {}
        self.asked: dict[str, str] = {}
        self.typed: dict[str, dict[str, str]] = {}
        first = self.first_anchors()
        ids = router.anchors.ids.tolist()
        for fact in self.facts.values():
            if fact.id not in first:
                raise EditError(f"fact {fact.id!r}: the adapter has no anchor for it")
            self.count(fact, ids[first[fact.id]])
        self._check(ids)

    def _check(self, ids: list[list[int]]) -> None:
        """Refuse anchors of one fact with different experts: they were not made from these facts."""
        for place, owner in enumerate(self.owners):
            if owner is not None and self.rows.get(owner) != tuple(ids[place]):
                raise EditError(f"fact {owner!r}: anchor {place} of the adapter is another fact's")

    def count(self, fact: Fact, ids: Sequence[int]) -> None:
        """Enter `fact`: it is asked in its wordings and uses the rows `ids`."""
        self.rows[fact.id] = tuple(ids)
        for row in ids:
            self.users.setdefault(row, set()).add(fact.id)
        for wording in fact.wordings():
            self.asked[same(wording)] = fact.id
            self.typed.setdefault(typing_key(wording), {})[wording] = fact.id

    def discount(self, fact: Fact) -> None:
        """Remove `fact`: it is no longer asked, and uses no rows."""
        for row in self.rows.pop(fact.id):
            self.users[row].discard(fact.id)
            if not self.users[row]:
                del self.users[row]
        for wording in fact.wordings():
            del self.asked[same(wording)], self.typed[typing_key(wording)][wording]

    def put(self, place: int, old: Fact | None, new: Fact | None, router: Router) -> None:
        """Replace `old` by `new`, whose anchors are there, at `place` in the order; None: there is no such fact."""
        if old is not None:
            self.discount(old)
        if new is not None:
            self.count(new, router.anchors.ids[self.owners.index(new.id)].tolist())
        facts = list(self.facts.values())
        facts[place : place + (old is not None)] = [] if new is None else [new]
        self.facts = {fact.id: fact for fact in facts}

    def own_rows(self, identity: str) -> list[int]:
        """The rows that this fact alone uses, ascending."""
        return sorted(row for row in self.rows[identity] if self.users[row] == {identity})

    def neighbours(self, identity: str) -> list[str]:
        """The other facts that use a row of this one, in the facts' order of ids."""
        return sorted(set().union(*(self.users[row] for row in self.rows[identity])) - {identity})

    def first_anchors(self) -> dict[str, int]:
        """The number of each fact's first anchor, that of its question."""
        return {owner: place for place, owner in reversed([*enumerate(self.owners)]) if owner is not None}

    def places(self, identity: str) -> list[int]:
        """The numbers of a fact's anchors."""
        return [place for place, owner in enumerate(self.owners) if owner == identity]

    def find(self, text: str) -> Fact:
        """The fact of this id, or with this wording; raises UnknownFactError."""
        identity = text if text in self.facts else self.asked.get(same(text))
        if identity is None:
            raise UnknownFactError(f"fact {text!r}: there is no fact of this id or question")
        return self.facts[identity]

    def read_as(self, question: str) -> str:
        """The memorized wording that differs from `question` only in how it is typed (`mome.facts.typing_key`).

        It is `question` itself if there is no such wording, or if such wordings belong to several facts.
        """
        key = typing_key(question)
        for reading in (key, without_courtesies(key)):
            found = self.typed.get(reading, {})
            closest = [wording for wording in found if same(wording) == same(question)] or [*found]
            if reading and closest and len({found[wording] for wording in closest}) == 1:
                return question if question in closest else closest[0]
        return question

    def check_new(self, fact: Fact, replacing: bool) -> None:
        """Refuse a fact that is malformed, asks what another one asks, or is (not) held already.

        Raises:
            FactError: a text of the fact is malformed.
            EditError: the id is held already, or another fact has one of its wordings.
            UnknownFactError: there is no fact of this id to replace.
        """
        check_facts([fact], file="edit")
        if replacing and fact.id not in self.facts:
            raise UnknownFactError(f"fact {fact.id!r}: there is no fact of this id to update")
        if not replacing and fact.id in self.facts:
            raise EditError(f"fact {fact.id!r}: this id is held already; update it, or choose another id")
        for wording in fact.wordings():
            holder = self.asked.get(same(wording), fact.id)
            if holder != fact.id or (not replacing and same(wording) in self.asked):
                raise EditError(f"fact {fact.id!r}: fact {holder!r} is already asked as {wording!r}")


def as_tuned(fact: Fact, wordings: int) -> Fact:
    """The fact as `wordings` of it were tuned: the other phrasings are held out."""
    kept, rest = fact.phrasings[: wordings - 1], fact.phrasings[wordings - 1 :]
    return replace(fact, phrasings=kept, held_out=(*fact.held_out, *rest))


def anchor_owners(facts: Sequence[Fact]) -> list[str]:
    """The owner of each anchor as `Router.anchor` makes them of all these facts at once."""
    asked = [fact.id for fact in facts for _ in fact.wordings()]
    return [*asked, *(fact.id for fact in facts if fact.phrasings)]


def same(wording: str) -> str:
    """The form in which two wordings are compared, as `mome.facts.readers.check_facts` does: they are one if it is."""
    return " ".join(unicodedata.normalize("NFC", wording).split())


def whole(numbers: Sequence[int]) -> Tensor:
    """The numbers as int64 [n], also where there are none."""
    return torch.tensor(numbers, dtype=torch.int64)
