"""Recall of memorized facts: as tuned, in other wordings, in wordings by hand, and in other formats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas
from transformers import PreTrainedTokenizerBase

from mome.facts.fact import Fact
from mome.lm.encoding import encode_question
from mome.lm.generation import SPARE_TOKENS
from mome.lm.prompts.form import prompt_form
from mome.replication.damage.formats import answers_in, free_formats
from mome.replication.damage.sets import Item, wordings_by_hand
from mome.replication.damage.texts import contains

SENTENCE_TOKENS = 16  # beyond the answer, for what a chat model says around it


def asked(facts: Sequence[Fact]) -> dict[str, list[Item]]:
    """What is asked of the facts in the tuned format: as tuned, in held-out wordings and in those written by hand.

    An item's id is the fact's.
    """
    by_hand = {item.fact: item.text for item in wordings_by_hand()}
    return {
        "as_tuned": [Item(fact.id, fact.question) for fact in facts],
        "held_out": [Item(fact.id, fact.held_out[0]) for fact in facts if fact.held_out],
        "by_hand": [Item(fact.id, by_hand[fact.id]) for fact in facts if fact.id in by_hand],
    }


def recalled(model: Any, tokenizer: PreTrainedTokenizerBase, facts: Sequence[Fact]) -> pandas.DataFrame:
    """Free answers to every wording of `asked`, and to the questions in all other formats.

    Columns: wording (as_tuned, held_out, by_hand, or the name of a format), item (the fact's id), answer, exact (it is
    the fact's answer) and right (it contains it).
    """
    rows = [encode_question(tokenizer, fact.question, fact.answer) for fact in facts]
    longest = SPARE_TOKENS + max(row.answer_tokens for row in rows)
    tuned = {"tuned_format": prompt_form(tokenizer)}
    parts = [
        answers_in(model, tokenizer, items, tuned, longest).assign(format=wording)
        for wording, items in asked(facts).items()
        if items
    ]
    others = {name: form for name, form in free_formats(tokenizer).items() if form != tuned["tuned_format"]}
    parts.append(answers_in(model, tokenizer, asked(facts)["as_tuned"], others, longest + SENTENCE_TOKENS))
    table, gold = pandas.concat(parts, ignore_index=True), {fact.id: fact.answer for fact in facts}
    pairs = [(answer, gold[item]) for answer, item in zip(table["answer"], table["item"], strict=True)]
    return table.rename(columns={"format": "wording"}).assign(
        exact=[answer == wanted for answer, wanted in pairs],
        right=[contains(answer, [wanted]) for answer, wanted in pairs],
    )
