"""The measures of damage on fewer items, so that a checkpoint of a run costs minutes and not half an hour.

The items are a fixed part of each set, drawn by a hash of their ids: every checkpoint of every run is asked the same
ones, so that differences are paired by item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import pandas

from mome.facts.fact import Fact
from mome.files.hashing import text_sha256
from mome.lm.loading import Backbone
from mome.replication.damage.choices import Questions, choose, cloze_items, truthfulqa_items
from mome.replication.damage.known import known_answers
from mome.replication.damage.leak import leaks, searched
from mome.replication.damage.passages import States, read_passages
from mome.replication.damage.sets import Item, known_questions, passages, unrelated_questions
from mome.replication.damage.summary import values

LEAKS = ("leak_tuned_format", "leak_chat", "leak_bare", "leak_prose")
SCORES = ("known_answers", "mc1", "mc2", "mmlu", "lambada", "text_loss", "kl")
MEASURES = (*LEAKS, *SCORES)
TUNED = "tuned_question"  # not a measure: which of TruthfulQA's questions the run memorized


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Each = TypeVar("Each", bound=_Named)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many items are asked of each set: two CPU minutes a checkpoint of SmolLM2-135M."""

    free: int = 50
    known: int = 30
    truthfulqa: int = 150
    mmlu: int = 150
    passages: int = 60


@dataclass(frozen=True, slots=True)
class Reduced:
    """The items that every checkpoint is asked."""

    free: list[Item]
    known: list[Item]
    choices: Questions
    passages: list[Item]


def reduced_items(sizes: Sizes | None = None) -> Reduced:
    """The fixed parts of the shipped sets, of TruthfulQA and of MMLU as cloze.

    MC1 and MC2 ask the same questions.

    Raises: as `mome.replication.damage.choices.choice_questions`.
    """
    sizes = sizes or Sizes()
    choices = {
        "truthfulqa_mc1": fewer(truthfulqa_items("mc1"), sizes.truthfulqa),
        "truthfulqa_mc2": fewer(truthfulqa_items("mc2"), sizes.truthfulqa),
        "mmlu_cloze": cloze_items(sizes.mmlu),
    }
    free, known = fewer(unrelated_questions(), sizes.free), fewer(known_questions(), sizes.known)
    return Reduced(free, known, choices, fewer(passages(), sizes.passages))


def fewer(items: Sequence[Each], count: int) -> list[Each]:
    """The `count` items whose ids have the least hashes, or all of them where there are not more."""
    return sorted(items, key=lambda item: text_sha256(f"reduced {item.id}"))[:count]


def measured(
    backbone: Backbone, items: Reduced, memorized: Sequence[Fact], untouched: States | None
) -> tuple[dict[str, pandas.Series], States]:
    """The value of each item by `MEASURES`, as far as the backbone's prompts have them, and `TUNED`; and its states.

    `untouched` are the states of the untouched backbone, for the KL divergence; None: this is the untouched one, whose
    divergence is zero. A leak is a random string or a memorized answer of at least four characters.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    read, states = read_passages(model, tokenizer, items.passages, untouched)
    tables = {
        "free": leaks(model, tokenizer, items.free, searched([fact.answer for fact in memorized])),
        "known": known_answers(model, tokenizer, items.known),
        "passages": read.assign(kl=0.0) if untouched is None else read,
        "choices": choose(backbone, items.choices),
    }
    found, asked = values(tables), {fact.question for fact in memorized}
    tuned = {item.id: float(item.question in asked) for item in items.choices["truthfulqa_mc1"]}
    return {name: found[name] for name in MEASURES if name in found} | {TUNED: pandas.Series(tuned)}, states
