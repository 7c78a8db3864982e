"""Whether what the experts said is what was memorized: free answers are held against the facts, and labelled so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.memory.answers import FreeAnswer, backbone_answers
from mome.memory.editing.holdings import Holdings

WhenWrong = Literal["abstain", "backbone", "stored"]
Source = Literal["adapter", "backbone", "stored", "nobody"]
ABSTENTION = "I don't know"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was checked, as far as it could be.

    `memorized` is True only where the adapter generated exactly the answer of the fact that the question was taken
    for; None: nobody knows the facts, so it was not checked. `recognized`: whether the question was taken for a
    memorized one (None: LoRA cannot tell), `fact` the id of that one's fact where it is known, `score` the cosine to
    the nearest memorized question. `source` is where `text` is from: generated with the adapter or by the backbone
    alone, taken from the stored facts, or nobody's (an abstention). `generated` is what the adapter said where `text`
    is something else, `read_as` the memorized wording that the question was read as, where it was typed otherwise; the
    score is then that wording's.
    """

    text: str
    memorized: bool | None = None
    score: float | None = None
    recognized: bool | None = None
    fact: str | None = None
    source: Source = "adapter"
    generated: str | None = None
    read_as: str | None = None

    def __str__(self) -> str:
        return self.text

    @property
    def label(self) -> str:
        """Who gave the answer and what vouches for it, in a few words, with the score where there is one."""
        return self._who() if self.score is None else f"{self._who()}, score {self.score:.2f}"

    def _who(self) -> str:
        if self.source == "adapter":
            if self.memorized:
                return "memorized"
            return "recognized, not verified" if self.recognized else "not verified"
        if not self.recognized:
            return "backbone" if self.source == "backbone" else "not memorized"
        who = {"backbone": "backbone", "stored": "stored, not generated", "nobody": "not answered"}[self.source]
        return f"{who}: recognized, but the experts' answer is not the memorized one"


def check_answers(
    backbone: Backbone,
    questions: Sequence[str],
    said: Sequence[FreeAnswer],
    holdings: Holdings | None,
    when_wrong: WhenWrong = "abstain",
) -> list[Answer]:
    """What `said` comes to when it is held against the facts (`holdings`; None: they are not known).

    Where a question was recognized and the experts said something else than its fact's answer, `when_wrong` decides:
    "abstain" gives `ABSTENTION`, "backbone" what the backbone says without experts, "stored" the fact's answer.

    Raises:
        ValueError: `when_wrong` is none of the three.
    """
    check_choice(when_wrong)
    if holdings is None:
        return [_unchecked(free) for free in said]
    answers = [_checked(free, holdings, when_wrong) for free in said]
    open_ = [place for place, answer in enumerate(answers) if answer.recognized and answer.source == "backbone"]
    given = backbone_answers(backbone, [questions[place] for place in open_]) if open_ else []
    for place, text in zip(open_, given, strict=True):
        answers[place] = replace(answers[place], text=text)
    return answers


def check_choice(when_wrong: str) -> None:
    """Refuse what `when_wrong` cannot be; raises ValueError."""
    if when_wrong not in get_args(WhenWrong):
        raise ValueError(f"when_wrong {when_wrong!r}: must be one of {', '.join(get_args(WhenWrong))}")


def _unchecked(free: FreeAnswer) -> Answer:
    """Nobody knows the facts: what the backbone says is not memorized, of the rest it cannot be told."""
    if free.recognized is False:
        return Answer(free.text, False, free.score, False, source="backbone")
    return Answer(free.text, None, free.score, free.recognized)


def _checked(free: FreeAnswer, holdings: Holdings, when_wrong: WhenWrong) -> Answer:
    if not free.recognized:
        return Answer(free.text, False, free.score, False, source="backbone")
    fact = recognized_fact(free, holdings)
    if free.text == fact.answer:
        return Answer(free.text, True, free.score, True, fact.id)
    text = {"abstain": ABSTENTION, "backbone": "", "stored": fact.answer}[when_wrong]
    source: dict[WhenWrong, Source] = {"abstain": "nobody", "backbone": "backbone", "stored": "stored"}
    return Answer(text, False, free.score, True, fact.id, source[when_wrong], free.text)


def recognized_fact(free: FreeAnswer, holdings: Holdings) -> Fact:
    """The fact that the question of a recognized answer was taken for."""
    assert free.anchor is not None
    owner = holdings.owners[free.anchor]
    assert owner is not None, "an anchor without owner has no experts, so none recognizes a question"
    return holdings.facts[owner]
