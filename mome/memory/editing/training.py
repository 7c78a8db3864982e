"""Training for one edit: copies of some rows are trained until a fact is memorized and no other fact is lost.

First only rows that no other fact uses are trained. If they do not suffice, all rows of the fact are. Then the facts
that share one of these rows are checked. Those that were disturbed are trained too, with the rows that they alone use.
So no further fact is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch import Tensor

from mome.adapter.model import MomeModel
from mome.adapter.selection import Block, Routes, Selection
from mome.facts.fact import Fact
from mome.facts.typing_variations import trained_typings
from mome.lm.encoding import encode_question
from mome.lm.loading import Backbone
from mome.memory.editing.holdings import EditError, Holdings, whole
from mome.train.fact_trainer import FactLosses
from mome.train.settings import AUGMENTED, MemorySettings

TYPED = {"typings": 3}  # LOG.md has the trial
PASSES = 3  # consecutive passes that must end under the target loss, each with its own noise
LEAST_OWN_SHARE = 8  # own rows are tried alone if they are at least 1/8 of the fact's rows (LOG.md has the trial)


@dataclass(frozen=True, slots=True)
class Trained:
    """New `rows` (module -> f32 [n, width]) for `ids` [n], after `steps` updates; `repaired` facts were trained too.

    `neighbours` are facts that use one of the rows and were memorized before. They must still be memorized afterwards.
    """

    ids: Tensor
    rows: dict[str, Tensor]
    steps: int
    repaired: tuple[str, ...]
    neighbours: tuple[str, ...]


def train_fact(
    backbone: Backbone, mome: MomeModel, holdings: Holdings, fact: Fact, settings: MemorySettings
) -> Trained:
    """Find rows with which `fact`, whose anchors are in place, is memorized. The bank is not changed.

    Raises:
        EditError: no rows were found that memorize the fact and keep all others memorized.
        FloatingPointError: a loss became NaN or infinite.
    """
    own, others = holdings.own_rows(fact.id), holdings.neighbours(fact.id)
    if not others or len(own) * LEAST_OWN_SHARE >= len(holdings.rows[fact.id]):
        alone = EditTrainer(backbone, mome, holdings, [fact], settings)
        if alone.train([0], own):
            return alone.trained()
    if not others:
        raise EditError(f"fact {fact.id!r}: cannot be memorized in {settings.epochs} steps; nothing was changed")
    facts = [fact, *(holdings.facts[identity] for identity in others)]
    together = EditTrainer(backbone, mome, holdings, facts, settings)
    together.repair()
    return together.trained()


def user_settings(wordings: int, **changes: Any) -> MemorySettings:
    """Training settings for a user's facts of at most `wordings` wordings each, with `changes`.

    With several wordings, noise helps the experts to answer further paraphrases. A fact of a single wording is also
    trained in variations of typing.
    """
    return MemorySettings(**{"wordings": wordings, **TYPED, **(AUGMENTED if wordings > 1 else {}), **changes})


def edit_settings(fact: Fact, **changes: Any) -> MemorySettings:
    """Settings that tune every wording of `fact`."""
    return user_settings(1 + len(fact.phrasings), **changes)


class EditTrainer(FactLosses):
    """Trains facts, of which the first is the edited one, in copies of the rows that they use, not in the bank."""

    def __init__(
        self,
        backbone: Backbone,
        mome: MomeModel,
        holdings: Holdings,
        facts: Sequence[Fact],
        settings: MemorySettings,
    ) -> None:
        self.holdings, self.facts = holdings, facts
        asked = [(number, text) for number, fact in enumerate(facts) for text in fact.wordings()]
        if not facts[0].phrasings:  # the others are asked as they were memorized
            asked += [(0, text) for text in trained_typings(facts[0].question, settings.typings, settings.seed)]
        owners = [number for number, _ in asked]
        encoded = [encode_question(backbone.tokenizer, text, facts[number].answer) for number, text in asked]
        super().__init__(backbone.model, backbone.tokenizer, encoded, owners, settings)
        first = holdings.first_anchors()
        anchors = [first[facts[number].id] for number in owners]
        self.chosen, self.weights = mome.router.anchors.ids[anchors], mome.router.anchors.weights[anchors]
        self.ids = self.chosen.unique().cpu()
        self.values = mome.bank.read(self.ids, mome.model.device)
        self.free = torch.zeros(0, dtype=torch.int64)
        self.leaves: dict[str, Tensor] = {}  # of the free rows, while they are trained
        self.generator = numpy.random.default_rng(settings.seed)
        self.steps, self.active, self.fine = 0, [0], list[int]()

    def repair(self) -> None:
        """Train the first fact with all its rows, and then with those it disturbs; raises EditError if that fails."""
        memorized = numpy.flatnonzero(self.worst_losses() <= self.settings.repair_loss).tolist()
        self.fine = [fact for fact in memorized if fact]
        free = set(self.holdings.rows[self.facts[0].id])
        for _ in range(self.settings.repairs + 1):
            if not self.train(self.active, sorted(free)):
                break
            worst = self.worst_losses()
            lost = [fact for fact in {*self.active, *self.fine} if worst[fact] > self.settings.repair_loss]
            if not lost:
                return
            self.active = [0, *sorted({*self.active, *lost} - {0})]
            free |= {row for fact in self.active for row in self.holdings.own_rows(self.facts[fact].id)}
        names = ", ".join(self._ids(self.active[1:6])) or "none was disturbed"
        raise EditError(
            f"fact {self.facts[0].id!r}: cannot be memorized beside the {len(self.facts) - 1} facts that share its "
            f"experts ({names}); nothing was changed, and an adapter with more experts would hold it"
        )

    def train(self, facts: Sequence[int], free: Sequence[int]) -> bool:
        """Update the rows `free` until all of `facts` are under their target; whether that happened."""
        rows = [row for row, owner in enumerate(self.owners) if owner in facts]
        self.states.load(rows)
        self.free = whole(free)
        places = self._places(self.free)
        self.leaves = {name: values[places].requires_grad_() for name, values in self.values.items()}
        done = self._descend(rows, torch.optim.Adam(self.leaves.values(), lr=self.settings.learning_rate))
        for name, values in self.values.items():
            values[places] = self.leaves[name].detach()
        self.leaves = {}
        return done

    def _descend(self, rows: Sequence[int], optimizer: torch.optim.Optimizer) -> bool:
        """Steps until all rows have been under their target often enough; False: that took more than `epochs`."""
        passed = 0
        for _ in range(self.settings.epochs):
            losses, _, total = self.losses(rows, self.generator)
            passed = passed + 1 if losses.detach().max() < self.settings.target_loss else 0
            if passed == PASSES:
                return True
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            self.steps += 1
        return False

    def trained(self) -> Trained:
        """The rows that were free last."""
        places = torch.searchsorted(self.ids, self.free)
        rows = {name: values.cpu()[places] for name, values in self.values.items()}
        return Trained(self.free, rows, self.steps, self._ids(self.active[1:]), self._ids(self.fine))

    def _ids(self, facts: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.facts[fact].id for fact in facts)

    def select(self, rows: Sequence[int]) -> Selection:
        """The experts of some rows, taken from the copies, with `leaves` in the places of the free ones."""
        values, numbers = self.values, list(rows)
        if self.leaves:
            places = self._places(self.free)
            values = {name: values.index_copy(0, places, self.leaves[name]) for name, values in self.values.items()}
        ids, weights = self.chosen[numbers], self.weights[numbers]  # [rows, K] each
        routes = Routes(ids, weights, torch.ones(len(numbers)))
        return Selection(routes, Block(self.ids, values), self._places(ids))

    def _places(self, ids: Tensor) -> Tensor:
        return torch.searchsorted(self.ids.to(ids.device), ids).to(self.mome.model.device)
