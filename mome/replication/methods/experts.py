"""Memory experts as a method (paper, section 7), alone and with retrieval behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mome.adapter.bank import ROWS
from mome.adapter.config import MomeConfig
from mome.adapter.model import MomeModel, mome_model
from mome.facts.fact import Fact
from mome.memory.answers import answer_questions
from mome.replication.methods.method import ABSTAINS, Holder, Method, spoken
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import routed_backbone
from mome.train.experts import MemoryRun, memorize_facts
from mome.train.settings import MemorySettings, RouterSettings


class MemoryExperts(Holder):
    """A backbone with memory experts: it answers recognized questions, and abstains from all others.

    `add` trains the experts of the one fact. Experts that it shares with earlier facts are trained too, and these facts
    are not shown again (`mome.memory.editing` does that). `update` does the same with the new answer; `delete` removes
    the fact's anchors, so that its paraphrases are not recognized any more. `fit` sets the rejection threshold, which
    then stays as it is.
    """

    def __init__(
        self,
        name: str,
        backbone: str,
        others: Sequence[Fact],
        calibration: Sequence[str],
        mome: MomeConfig,
        router: RouterSettings,
        memory: MemorySettings,
    ) -> None:
        super().__init__()
        self.name, self.backbone, self.others, self.calibration = name, backbone, others, calibration
        self.settings, self.router, self.memory = mome, router, memory
        self.attach()
        self.run: MemoryRun | None = None

    def attach(self) -> None:
        """Start from a fresh backbone with untouched experts and a trained router."""
        loaded = asked_backbone(self.backbone)
        self.routed, self.report = routed_backbone(loaded, self.settings, self.router, self.others, self.router.seed)
        self.anchored: list[str] = []

    @property
    def experts(self) -> MomeModel:
        """The adapter inside the model."""
        found = mome_model(self.routed.model)
        assert found is not None
        return found

    def fit(self, facts: Sequence[Fact]) -> None:
        """Memorize `facts` with untouched experts; raises as `mome.train.experts.memorize_facts`."""
        self.take(facts)
        self.attach()
        self.run = self._memorize(facts, self.router.false_alarms)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The experts' answers, `ABSTAINS` where no memorized question is recognized."""
        found = answer_questions(self.routed, questions)
        return [spoken(each.text) if each.recognized else ABSTAINS for each in found]

    def add(self, fact: Fact) -> None:
        """Memorize one more fact."""
        self.insert(fact)
        self._memorize([fact])

    def update(self, fact: Fact) -> None:
        """Memorize the fact as it is now, in place of the old one."""
        self.exchange(fact)
        self._forget(fact.id)
        self._memorize([fact])

    def delete(self, identity: str) -> None:
        """Remove the fact's anchors, so that its questions are not recognized any more."""
        self.remove(identity)
        self._forget(identity)

    def bytes(self) -> int:
        """Bytes of the experts' trained rows and the anchors. The router, the same for all facts, is not counted."""
        members, anchors = self.experts.bank.members(optimizer=False), self.experts.router.anchors.tensors()
        rows = sum(values.nbytes for name, values in members.items() if name.startswith(ROWS))
        return rows + sum(values.nbytes for values in anchors.values())

    def _memorize(self, facts: Sequence[Fact], false_alarms: float | None = None) -> MemoryRun:
        model, tokenizer, before = self.routed.model, self.routed.tokenizer, len(self.experts.router.anchors)
        run = memorize_facts(model, tokenizer, facts, self.memory, others=self.calibration, false_alarms=false_alarms)
        wordings = [1 + len(fact.phrasings[: self.memory.wordings - 1]) for fact in facts]
        owners = [fact.id for fact, count in zip(facts, wordings, strict=True) for _ in range(count)]
        # behind the wordings stands the mean of each fact that has several (Router.anchor)
        owners += [fact.id for fact, count in zip(facts, wordings, strict=True) if count > 1 and self.settings.snap]
        if len(self.experts.router.anchors) != before + len(owners):
            raise RuntimeError(f"{len(owners)} owners for {len(self.experts.router.anchors) - before} new anchors")
        self.anchored += owners
        return run

    def _forget(self, identity: str) -> None:
        kept = torch.tensor([owner != identity for owner in self.anchored])
        memory = {name: values[kept] for name, values in self.experts.router.anchors.tensors().items()}
        self.experts.router.anchors.restore(memory)
        self.anchored = [owner for owner in self.anchored if owner != identity]


class Joined:
    """Two methods that hold the same facts: the second is asked where the first abstains."""

    def __init__(self, name: str, first: Method, second: Method) -> None:
        self.name, self.first, self.second = name, first, second

    def fit(self, facts: Sequence[Fact]) -> None:
        """Both take over `facts`."""
        for method in (self.first, self.second):
            method.fit(facts)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The first method's answers, and the second's where it abstains."""
        answers = self.first.answer(questions)
        open_ = [index for index, text in enumerate(answers) if text == ABSTAINS]
        given = self.second.answer([questions[index] for index in open_]) if open_ else []
        for index, text in zip(open_, given, strict=True):
            answers[index] = text
        return answers

    def add(self, fact: Fact) -> None:
        """Both hold one fact more."""
        for method in (self.first, self.second):
            method.add(fact)

    def update(self, fact: Fact) -> None:
        """Both hold the fact as it is now."""
        for method in (self.first, self.second):
            method.update(fact)

    def delete(self, identity: str) -> None:
        """Both forget the fact."""
        for method in (self.first, self.second):
            method.delete(identity)

    def bytes(self) -> int:
        """Of both."""
        return self.first.bytes() + self.second.bytes()
