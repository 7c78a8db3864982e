"""Facts in the weights, as methods: LoRA memory tuning (paper, section 2 and appendix A) and full fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mome.facts.fact import Fact, with_wordings
from mome.lm.generation import greedy_answers
from mome.replication.methods.method import LONGEST, Holder, spoken
from mome.replication.notebook.backbones import asked_backbone
from mome.train.lora import attach_lora
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import TuningRun, tune

UNKNOWN = "I don't know"


class Tuned(Holder):
    """A backbone that is tuned on its facts: by LoRA, or all its weights where `adapter` is None.

    `wordings` of each fact (its question and phrasings) are training rows. `add` and `update` train on the rows of the
    one fact, by the same settings and from the present weights; the facts held before are not shown again, so they can
    be lost. Weights cannot be searched for a fact, so `delete` trains its rows towards "I don't know" in the same way.
    The answer is no longer given to these wordings, which does not prove that it left the weights. To remove a fact for
    certain, `fit` on the others.
    """

    def __init__(
        self,
        name: str,
        backbone: str,
        settings: TuningSettings,
        adapter: LoraSettings | None = None,
        wordings: int = 1,
    ) -> None:
        super().__init__()
        self.name, self.settings, self.adapter, self.wordings = name, settings, adapter, wordings
        self.backbone, self.model, self.tokenizer = backbone, *self._fresh(backbone)
        self.run: TuningRun | None = None

    def fit(self, facts: Sequence[Fact]) -> None:
        """Tune a fresh copy of the backbone on `facts`; raises as `mome.train.tuning.tune`."""
        self.take(facts)
        self.model, self.tokenizer = self._fresh(self.backbone)
        self.run = self._tune(facts)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The tuned model's free greedy answers; it abstains only where it was tuned to (after `delete`)."""
        return [spoken(text) for text in greedy_answers(self.model, self.tokenizer, questions, LONGEST)]

    def add(self, fact: Fact) -> None:
        """Tune on the one fact more."""
        self.insert(fact)
        self._tune([fact])

    def update(self, fact: Fact) -> None:
        """Tune on the fact as it is now."""
        self.exchange(fact)
        self._tune([fact])

    def delete(self, identity: str) -> None:
        """Tune the fact's wordings towards "I don't know"."""
        self._tune([replace(self.remove(identity), answer=UNKNOWN)])

    def bytes(self) -> int:
        """Bytes of all trained numbers: those of the adapter, or of the whole model."""
        return sum(values.nbytes for values in self.model.parameters() if values.requires_grad)

    def _fresh(self, name: str) -> tuple[Any, Any]:
        backbone = asked_backbone(name)
        model: Any = backbone.model
        if self.adapter:
            model = attach_lora(backbone, self.adapter, self.settings.seed)
        else:
            model.requires_grad_(True)
        return model.eval(), backbone.tokenizer

    def _tune(self, facts: Sequence[Fact]) -> TuningRun:
        return tune(self.model, self.tokenizer, with_wordings(facts, self.wordings), self.settings)
