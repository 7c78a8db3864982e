"""Made-up answers: what a model says to questions about facts that nobody stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas
from transformers import PreTrainedTokenizerBase

from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.lm.generation import hallucinated
from mome.lm.prompts.form import prompt_form
from mome.replication.damage.formats import answers_in
from mome.replication.damage.leak import LONGEST
from mome.replication.damage.sets import Item
from mome.replication.damage.texts import contains, first_line

ABSENT = 300


def absent_facts(memorized: Sequence[Fact], count: int = ABSENT, seed: int = 0) -> list[Fact]:
    """`count` shipped unknown facts that are not among the memorized ones, drawn by `seed`.

    Raises:
        ValueError: fewer are left.
    """
    stored = {fact.id for fact in memorized}
    free = [fact for fact in shipped_facts("unknown") if fact.id not in stored]
    if count > len(free):
        raise ValueError(f"{count} absent facts: only {len(free)} shipped facts are not memorized")
    return split(free, [count], seed)[0]


def made_up(model: Any, tokenizer: PreTrainedTokenizerBase, absent: Sequence[Fact]) -> pandas.DataFrame:
    """Free answers in the tuned format to questions about absent facts, judged with their real answers.

    Columns: item (the fact's id), answer, right (its first line contains the fact's answer) and made_up (a confident
    wrong answer: neither right nor an abstention).
    """
    items = [Item(fact.id, fact.question) for fact in absent]
    table = answers_in(model, tokenizer, items, {"tuned_format": prompt_form(tokenizer)}, LONGEST)
    lines = [first_line(answer) for answer in table["answer"]]
    right = [contains(line, [fact.answer]) for line, fact in zip(lines, absent, strict=True)]
    wrong = [bad and not good for bad, good in zip(hallucinated(lines, absent), right, strict=True)]
    return table.drop(columns="format").assign(right=right, made_up=wrong)
