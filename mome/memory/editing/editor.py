"""Editing single facts of a memory: each edit is checked and recorded, and happens as a whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from mome.adapter.model import MomeModel, mome_model
from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.lm.encoding import encode_question
from mome.lm.loading import Backbone
from mome.memory.answers import FreeAnswer, answer_questions
from mome.memory.editing.holdings import EditError, Holdings, anchor_owners, same
from mome.memory.editing.journal import Edit, EditRecord, Journal
from mome.memory.editing.out_of_scope import OutOfScope
from mome.memory.editing.training import edit_settings, train_fact
from mome.memory.editing.transaction import Transaction, repeat, unwind

ROUNDING = 1e-5
ALIKE = 1 - ROUNDING  # cosine above which the router cannot be trusted to tell two questions apart
SPARE_TOKENS = 8

Step = tuple[bool, int]  # forward or back, over the edit of this number


class Editor:
    """Adds, updates and deletes facts of a backbone with memory experts, and takes such edits back.

    `holdings` are the facts now, `journal` the edits since the start. `seed` decides the noise in training; `training`
    may change other settings (fields of MemorySettings). With out-of-scope questions (`out_of_scope`), the rejection
    threshold rises as facts are added, so that the false-positive rate does not; without them it stays. Edits wait for
    the questions that other threads are asking, and later questions wait for the edit.
    """

    def __init__(
        self,
        backbone: Backbone,
        holdings: Holdings,
        journal: Journal,
        seed: int = 0,
        training: Mapping[str, Any] | None = None,
        out_of_scope: OutOfScope | None = None,
    ) -> None:
        self.backbone, self.mome = backbone, editable(backbone)
        self.holdings, self.journal = holdings, journal
        self.training, self.out_of_scope = {**(training or {}), "seed": seed}, out_of_scope

    @classmethod
    def start(
        cls,
        backbone: Backbone,
        facts: Sequence[Fact],
        seed: int = 0,
        training: Mapping[str, Any] | None = None,
        out_of_scope: OutOfScope | None = None,
    ) -> Editor:
        """An editor of a model that has just memorized `facts` (`as_tuned`), and nothing else; its journal is empty.

        Raises:
            EditError: the model has no MoME adapter with anchors, or they are not those of `facts`.
        """
        router = editable(backbone).router
        held = Holdings(facts, anchor_owners(facts), router)
        first = held.first_anchors()
        queries = question_queries(backbone.model, backbone.tokenizer, [fact.question for fact in facts])
        found = (queries * router.anchors.queries[[first[fact.id] for fact in facts]]).sum(dim=1) >= ALIKE
        for fact, there in zip(facts, found.tolist(), strict=True):
            if not there:
                raise EditError(f"fact {fact.id!r}: the adapter has no anchor for its question {fact.question!r}")
        return cls(backbone, held, Journal(""), seed, training, out_of_scope)

    @property
    def facts(self) -> list[Fact]:
        """The facts held now, in order."""
        with self.mome.gate.reading():
            return list(self.holdings.facts.values())

    def find(self, identity: str) -> Fact:
        """The fact of this id, or asked in this wording; see `Memory.find`."""
        with self.mome.gate.reading():
            return self.holdings.find(identity)

    def add(self, fact: Fact) -> Edit:
        """Memorize one more fact, in its question and all its paraphrases; see `Memory.add`."""
        with self.mome.gate.writing():
            self.holdings.check_new(fact, replacing=False)
            return self._commit("add", None, fact, self._learn)

    def update(self, fact: Fact) -> Edit:
        """Replace the fact of the same id; see `Memory.update`."""
        with self.mome.gate.writing():
            self.holdings.check_new(fact, replacing=True)
            return self._commit("update", self.holdings.facts[fact.id], fact, self._learn)

    def delete(self, identity: str) -> Edit:
        """Forget the fact of this id, or with this wording; see `Memory.delete`."""
        with self.mome.gate.writing():
            return self._commit("delete", self.holdings.find(identity), None, self._forget)

    def rollback(self, to: int) -> Edit:
        """Go back to the state after edit `to`, bit for bit; see `Memory.rollback`."""
        with self.mome.gate.writing():
            return self._roll_back(to)

    def _roll_back(self, to: int) -> Edit:
        last = len(self.journal.edits)
        if type(to) is not int or not 0 <= to <= last:
            raise EditError(f"rollback: must be the number of an edit, 0 to {last}, got {to!r}")
        started, done = time.perf_counter(), list[Step]()
        here, there = self.journal.path(last), self.journal.path(to)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(here, there, strict=False)))
        steps: list[Step] = [(False, number) for number in reversed(here[shared:])]
        steps += [(True, number) for number in there[shared:]]
        try:
            for step in steps:
                self._go(*step)
                done.append(step)
            edit = Edit(last + 1, "rollback", None, None, None, None, to, _now(), time.perf_counter() - started)
            self.journal.append(EditRecord(edit, {}, {}))
        except BaseException:
            for forward, number in reversed(done):
                self._go(not forward, number)
            raise
        return edit

    def replay(self) -> None:
        """Repeat all edits of the journal, from the state in which the first one was made."""
        with self.mome.gate.writing():
            for number in self.journal.path(len(self.journal.edits)):
                self._go(True, number)

    def _go(self, forward: bool, number: int) -> None:
        (repeat if forward else unwind)(self.journal.read(number), self.mome, self.holdings)

    def _commit(
        self, kind: str, old: Fact | None, new: Fact | None, change: Callable[[Transaction], dict[str, Any]]
    ) -> Edit:
        """Make a change and write it to the journal. If anything fails, nothing has changed."""
        fact = old if new is None else new
        assert fact is not None
        answers = (None if old is None else old.answer, None if new is None else new.answer)
        edit = Edit(len(self.journal.edits) + 1, kind, fact.id, fact.question, *answers, None, _now(), 0.0)
        started = time.perf_counter()
        transaction = Transaction(self.mome, self.holdings, old, new)
        try:
            notes = change(transaction)
            seconds = time.perf_counter() - started
            edit = replace(edit, seconds=seconds, rows=len(transaction.before), **notes)
            self.journal.append(transaction.record(edit))
        except BaseException:
            transaction.undo(edit)
            raise
        return edit

    def _learn(self, transaction: Transaction) -> dict[str, Any]:
        """Route the new fact, in place of the old one, and train its experts; then ask for it."""
        old, fact, router = transaction.old, transaction.new, self.mome.router
        assert fact is not None
        queries = question_queries(self.backbone.model, self.backbone.tokenizer, fact.wordings())
        owners = torch.zeros(len(queries), dtype=torch.int64, device=queries.device)
        anchors = router.anchors_for(queries, owners, fact.wordings())
        anchors = {name: values.cpu() for name, values in anchors.items()}
        places = [] if old is None else self.holdings.places(old.id)
        own = [] if old is None else self.holdings.own_rows(old.id)
        places += self._in_the_way(fact, anchors["queries"], places)
        transaction.replace(places, anchors, [fact.id] * len(anchors["queries"]))
        if self.out_of_scope is not None:
            transaction.raise_null_key(self.out_of_scope.null_key(router))
        transaction.forget_rows(own)
        settings = edit_settings(fact, **self.training)
        trained = train_fact(self.backbone, self.mome, self.holdings, fact, settings)
        transaction.write_rows(trained.ids, trained.rows)
        self._check(fact, [self.holdings.facts[identity] for identity in trained.neighbours])
        self._refuse_old_answer(old, fact)
        return {"steps": trained.steps, "repaired": trained.repaired}

    def _forget(self, transaction: Transaction) -> dict[str, Any]:
        """Take the fact's anchors away, and the rows that it alone used."""
        old, router = transaction.old, self.mome.router
        assert old is not None
        places, own = self.holdings.places(old.id), self.holdings.own_rows(old.id)
        wordings = old.wordings()
        asked = {name: values[places[: len(wordings)]] for name, values in router.anchors.tensors().items()}
        likeness = asked["queries"] @ router.anchors.tensors()["queries"].T
        likeness[:, places] = -1.0
        # a question that resembles another fact's would get the other's answer: its anchor stays, without experts
        least = -1.0 if router.min_score is None else router.min_score - ROUNDING
        taken = (likeness >= least).any(dim=1)
        kept = {name: values[taken] for name, values in asked.items()} | {"weights": 0 * asked["weights"][taken]}
        transaction.replace(places, kept, [None] * int(taken.sum()))
        transaction.forget_rows(own)
        answers = self._ask(wordings, old.answer)
        if any(answer.recognized for answer in answers):
            raise EditError(f"fact {old.id!r}: is still answered from memory; nothing was changed")
        return {"backbone_knows": any(answer.text == old.answer for answer in answers)}

    def _in_the_way(self, fact: Fact, queries: Tensor, replaced: Sequence[int]) -> list[int]:
        """Anchors of deleted questions that are asked again; raises EditError if a held fact's is no different."""
        alike = (queries @ self.mome.router.anchors.tensors()["queries"].T >= ALIKE).any(dim=0)
        alike[list(replaced)] = False
        found: list[int] = alike.nonzero().view(-1).tolist()
        for owner in (self.holdings.owners[place] for place in found):
            if owner is not None:
                asked = self.holdings.facts[owner].question
                raise EditError(
                    f"fact {fact.id!r}: the router cannot tell its question from {asked!r} (fact {owner!r})"
                )
        return found

    def _check(self, fact: Fact, others: Sequence[Fact]) -> None:
        """Refuse the edit unless `fact` and all `others` are answered exactly, by free generation."""
        for held, wrong in zip([fact, *others], self._wrong([fact, *others]), strict=True):
            if wrong is not None:
                what = "is not memorized" if held is fact else f"fact {held.id!r} would be lost"
                raise EditError(f"fact {fact.id!r}: {what}, {wrong}; nothing was changed")

    def _refuse_old_answer(self, old: Fact | None, fact: Fact) -> None:
        """Refuse an update after which a former wording, no longer given, still gets the old answer."""
        if old is None or old.answer == fact.answer:
            return
        given = {same(wording) for wording in fact.wordings()}
        dropped = [wording for wording in old.wordings() if same(wording) not in given]
        for wording, answer in zip(dropped, self._ask(dropped, old.answer), strict=True):
            if answer.text == old.answer:
                raise EditError(
                    f"fact {fact.id!r}: {wording!r} would still be answered {old.answer!r}; give it as a phrasing, "
                    "nothing was changed"
                )

    def _wrong(self, facts: Sequence[Fact]) -> list[str | None]:
        """For each fact None, or in words a wording that is not answered exactly."""
        asked = [(number, wording) for number, fact in enumerate(facts) for wording in fact.wordings()]
        found: list[str | None] = [None] * len(facts)
        answers = self._ask([wording for _, wording in asked], *(fact.answer for fact in facts))
        for (number, wording), answer in zip(asked, answers, strict=True):
            if not answer.recognized or answer.text != facts[number].answer:
                found[number] = f"{wording!r} is answered {answer.text!r}"
        return found

    def _ask(self, questions: Sequence[str], *expected: str) -> list[FreeAnswer]:
        """Free answers, somewhat longer than the longest one expected."""
        if not questions:
            return []
        tokens = [encode_question(self.backbone.tokenizer, "", answer).answer_tokens for answer in expected]
        return answer_questions(self.backbone, questions, *[max(tokens) + SPARE_TOKENS] * 2)


def editable(backbone: Backbone) -> MomeModel:
    """The memory experts of a backbone whose facts can be edited.

    Raises:
        EditError: there are none, or questions near a memorized one do not take that one's experts (`snap`).
    """
    mome = mome_model(backbone.model)
    if mome is None:
        raise EditError("only memory experts can be edited, and this adapter has none; `mome tune` makes one that has")
    if not mome.router.snap:
        raise EditError("this adapter was made with snap=False: its facts have no experts of their own to edit")
    return mome


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
