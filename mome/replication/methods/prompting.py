"""The frozen backbone, alone and with the facts in its prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mome.facts.fact import Fact
from mome.lm.generation import greedy_answers
from mome.lm.prompts.frame import prompt_ids
from mome.replication.methods.method import LONGEST, Holder, spoken
from mome.replication.methods.reader import Reader, bare_reader, with_passages
from mome.replication.notebook.backbones import asked_backbone


class Frozen(Holder):
    """The untouched backbone: it answers from its pretraining and ignores the facts."""

    def __init__(self, name: str, backbone: str) -> None:
        super().__init__()
        loaded = asked_backbone(backbone)
        self.name = name
        self.model: Any = loaded.model
        self.tokenizer: Any = loaded.tokenizer

    def fit(self, facts: Sequence[Fact]) -> None:
        """Accept `facts`, as the signature asks; they have no effect."""
        self.take(facts)

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Greedy answers of the backbone alone."""
        return [spoken(text) for text in greedy_answers(self.model, self.tokenizer, questions, LONGEST)]

    def add(self, fact: Fact) -> None:
        """Note the fact, to no effect."""
        self.insert(fact)

    def update(self, fact: Fact) -> None:
        """Note the fact, to no effect."""
        self.exchange(fact)

    def delete(self, identity: str) -> None:
        """Drop the note of the fact."""
        self.remove(identity)

    def bytes(self) -> int:
        """Nothing is kept."""
        return 0


class Prompted(Frozen):
    """The backbone with facts in its prompt: the first ones held, as many as its context has room for.

    The rest is not seen: 512 tokens of the shipped backbones hold some twenty facts. `reader` may be one trained to
    read fewer passages; without it the bare backbone reads.
    """

    def __init__(self, name: str, backbone: str, reader: Reader | None = None) -> None:
        super().__init__(name, backbone)
        self.reader = reader or bare_reader(backbone)
        self.context = int(self.model.config.max_position_embeddings)

    def fit(self, facts: Sequence[Fact]) -> None:
        """Hold `facts`; raises ValueError if not even the first one fits into the context."""
        self.take(facts)
        if not self.shown(facts[0].question):
            raise ValueError(f"a context of {self.context} tokens has no room for the first fact {facts[0].id!r}")

    def shown(self, question: str) -> list[Fact]:
        """The facts that stand before `question`: as many of the first ones as fit, with room for the answer."""
        room = self.context - LONGEST - len(prompt_ids(self.tokenizer, [question])[0])
        chosen = []
        for fact in self.facts.values():
            room -= self._tokens(f"{fact.question}\nA: {fact.answer}\nQ: ")
            if room < 0:
                break
            chosen.append(fact)
        return chosen

    def answer(self, questions: Sequence[str]) -> list[str]:
        """Greedy answers after the facts that fit."""
        return [spoken(text) for text in self.reader.read(questions, [self.shown(question) for question in questions])]

    def bytes(self) -> int:
        """Of the prompt's text."""
        return len(with_passages("", self.shown("")).encode()) if self.facts else 0

    def _tokens(self, text: str) -> int:
        return len(self.tokenizer(text)["input_ids"])
