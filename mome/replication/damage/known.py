"""Questions that the untouched backbone answers rightly under three prompts: which of them it still does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas
from transformers import PreTrainedTokenizerBase

from mome.replication.damage.formats import answers_in, known_formats
from mome.replication.damage.sets import Item
from mome.replication.damage.texts import contains, first_line

LONGEST = 16  # tokens: "The capital of France is Paris." has 7


def known_answers(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Item]) -> pandas.DataFrame:
    """Free answers to the questions in each of `known_formats`, and whether they are right.

    An answer is right if its first line contains an accepted one, whole words, in lower case and without signs.

    Columns: format, item (id), answer, right.
    """
    accepted = {question.id: question.answers for question in questions}
    table = answers_in(model, tokenizer, questions, known_formats(tokenizer), LONGEST)
    pairs = zip(table["answer"], table["item"], strict=True)
    return table.assign(right=[contains(first_line(text), accepted[item]) for text, item in pairs])


def known_by_item(answers: pandas.DataFrame) -> pandas.DataFrame:
    """One row a question: `right`, the share of prompts under which it is answered rightly, and `right_all`."""
    found = answers.groupby("item", sort=False)["right"].agg(right="mean", right_all="all")
    return found.reset_index()
