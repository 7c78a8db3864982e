"""Retrieval-augmented generation (paper, sections 4 and 10), and the same retrieval without a language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from mome.adapter.anchors import least_score
from mome.facts.fact import Fact
from mome.replication.methods.method import ABSTAINS, Holder, spoken
from mome.replication.methods.reader import Reader
from mome.replication.methods.search import Search


class Retrieval(Holder):
    """A search among the facts' paraphrases; without a reader it gives the stored answer of the best fact.

    Every fact can be found by its question and first `wordings` - 1 paraphrases, the same that other methods are tuned
    on. A reader is shown the best `passages` facts. With `false_alarms` the method has a rejection threshold with this
    false-positive rate on the out-of-scope questions `calibration`, as memory experts have. A reader may also say that
    it does not know. `fit` sets the threshold, and edits do not change it. An edit makes the index stale; it is built
    anew before the next answer (bm25s and scikit-learn cannot add to theirs).
    """

    def __init__(
        self,
        name: str,
        search: Search,
        reader: Reader | None = None,
        *,
        wordings: int = 1,
        passages: int = 1,
        calibration: Sequence[str] = (),
        false_alarms: float | None = None,
    ) -> None:
        super().__init__()
        self.name, self.search, self.reader = name, search, reader
        self.wordings, self.passages = wordings, passages
        self.calibration, self.false_alarms = calibration, false_alarms
        self.least, self.stale = -numpy.inf, True
        self.held: list[Fact] = []

    def fit(self, facts: Sequence[Fact]) -> None:
        """Index `facts` and set the rejection threshold; raises ValueError without facts or, if needed, calibration."""
        self.take(facts)
        self.stale, self.least = True, -numpy.inf
        self._refresh()
        if self.false_alarms is not None:
            self.least = least_score(self.find(self.calibration)[1], self.false_alarms)

    def find(self, questions: Sequence[str]) -> tuple[list[list[Fact]], numpy.ndarray]:
        """The best `passages` facts for each question, best first, and the search's trust in the first f64 [Q]."""
        self._refresh()
        if not (self.held and questions):
            return [[] for _ in questions], numpy.full(len(questions), -numpy.inf)
        found, trust = self.search.best(questions, self.passages)
        return [[self.held[number] for number in numbers] for numbers in found.tolist()], trust

    def answer(self, questions: Sequence[str]) -> list[str]:
        """The reader's answer from the best passages, or the best fact's; `ABSTAINS` below the threshold."""
        found, trust = self.find(questions)
        sure = [index for index, passages in enumerate(found) if passages and trust[index] >= self.least]
        answers = [ABSTAINS] * len(questions)
        given = self._answers([questions[index] for index in sure], [found[index] for index in sure])
        for index, text in zip(sure, given, strict=True):
            answers[index] = text
        return answers

    def add(self, fact: Fact) -> None:
        """Hold one fact more."""
        self.insert(fact)
        self.stale = True

    def update(self, fact: Fact) -> None:
        """Hold the fact as it is now."""
        self.exchange(fact)
        self.stale = True

    def delete(self, identity: str) -> None:
        """Forget the fact: nothing of it stays behind."""
        self.remove(identity)
        self.stale = True

    def bytes(self) -> int:
        """Of the facts' texts and the index; the reader, which does not depend on the facts, is left out."""
        self._refresh()
        texts = (text for fact in self.held for text in (fact.id, fact.answer, *fact.wordings(self.wordings)))
        return sum(len(text.encode()) for text in texts) + (self.search.bytes() if self.held else 0)

    def _answers(self, questions: list[str], found: list[list[Fact]]) -> list[str]:
        if not self.reader:
            return [passages[0].answer for passages in found]
        return [spoken(text) for text in self.reader.read(questions, found)] if questions else []

    def _refresh(self) -> None:
        if not self.stale:
            return
        self.held = list(self.facts.values())
        if self.held:
            self.search.index([fact.wordings(self.wordings) for fact in self.held])
        self.stale = False
