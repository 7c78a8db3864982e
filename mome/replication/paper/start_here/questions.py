"""What the backbone of notebook 00 is asked, and how its answers are read: a chat model answers in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from mome.facts.fact import Fact
from mome.lm.backbones.kept import record_of
from mome.lm.backbones.named import NAMED
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone, shipped_backbones
from mome.lm.prompts.form import prompt_form
from mome.replication.damage.sets import known_questions
from mome.replication.damage.texts import contains, first_line
from mome.replication.experiments.pools import general_facts

LONGEST = 16  # tokens: "The capital of France is Paris." has 7


def fetched(name: str) -> bool:
    """Whether a named backbone lies ready in the work folder; nothing is fetched."""
    return record_of(NAMED[name].sha256) is not None


def known_to(backbone: Backbone, count: int, seed: int) -> list[Fact]:
    """At most `count` questions that the untouched backbone knows the answers of, drawn by `seed`.

    A shipped backbone is asked shipped facts that it was pretrained on; another one common questions, of which those
    are kept that it answers rightly now.
    """
    if backbone.name in shipped_backbones():
        return general_facts(count, seed)
    items = known_questions()
    order = numpy.random.default_rng(seed).permutation(len(items))[:count]
    facts = [Fact(items[place].id, items[place].text, items[place].answers[0]) for place in order]
    texts = greedy_answers(backbone.model, backbone.tokenizer, [fact.question for fact in facts], LONGEST)
    told = as_told(backbone, texts, facts)
    return [fact for fact, text in zip(facts, told, strict=True) if text == fact.answer]


def as_told(backbone: Backbone, texts: Sequence[object], facts: Sequence[Fact]) -> list[str]:
    """The answers `texts` to the questions of `facts`, to be compared with the facts' answers.

    Of a backbone with a chat template, a sentence that holds the fact's answer counts as that answer.
    """
    sentences = prompt_form(backbone.tokenizer).template
    pairs = zip(map(str, texts), facts, strict=True)
    return [fact.answer if sentences and contains(first_line(text), (fact.answer,)) else text for text, fact in pairs]


def right(backbone: Backbone, texts: Sequence[object], facts: Sequence[Fact]) -> list[float]:
    """For each answer in `texts`, 1 if it is that of its fact as `as_told` reads it, else 0."""
    told = as_told(backbone, texts, facts)
    return [float(text == fact.answer) for text, fact in zip(told, facts, strict=True)]
