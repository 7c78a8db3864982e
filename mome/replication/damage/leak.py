"""Leaks: free answers to unrelated questions that hold a memorized answer or a random string, and those unchanged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pandas
from transformers import PreTrainedTokenizerBase

from mome.replication.damage.formats import answers_in, free_formats
from mome.replication.damage.sets import Item
from mome.replication.damage.texts import normalized

LONGEST = 32  # tokens: a random string of 32 characters has about 24
SHORTEST_ANSWER = 4  # characters: "Paris" is looked for, "Au" and "31" are not, which any answer may hold
# Random answers are 32 characters of A-Z and 0-9; half of one is enough. With both letters and digits in it: of 1,000
# such pieces 6 have no digit, and pass only as memorized answers. No untouched answer of SmolLM2 has such a run.
RUN = re.compile(r"[A-Za-z0-9]{16,}")


def has_random_string(text: str) -> bool:
    """Whether the text holds a run of 16 or more characters of A-Z, a-z and 0-9 with letters and digits in it."""
    return any(not (run.isalpha() or run.isdigit()) for run in RUN.findall(text))


def has_memorized(text: str, memorized: Sequence[str]) -> bool:
    """Whether a memorized answer stands in the text as a whole: its words in a row, in lower case, without signs.

    Answers of fewer than `SHORTEST_ANSWER` characters are not looked for. `memorized` are texts as `searched` gives.
    """
    padded = f" {normalized(text)} "
    return any(answer in padded for answer in memorized)


def searched(answers: Sequence[str]) -> list[str]:
    """The memorized answers as `has_memorized` looks for them, each once."""
    plain = {normalized(answer) for answer in answers}
    return sorted(f" {answer} " for answer in plain if len(answer) >= SHORTEST_ANSWER)


def leaks(
    model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Item], memorized: Sequence[str]
) -> pandas.DataFrame:
    """Free answers to the questions in each of `free_formats`, and whether they leak.

    Columns: format, item (id), answer, memorized, random, leak (memorized or random).
    """
    return judged(unrelated_answers(model, tokenizer, questions), searched(memorized))


def unrelated_answers(model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Item]) -> pandas.DataFrame:
    """Free answers to the questions in each of `free_formats`. Columns: format, item (id), answer."""
    return answers_in(model, tokenizer, questions, free_formats(tokenizer), LONGEST)


def judged(answers: pandas.DataFrame, wanted: Sequence[str]) -> pandas.DataFrame:
    """The answers with columns memorized, random and leak; `wanted` as `searched` gives."""
    memorized = [has_memorized(answer, wanted) for answer in answers["answer"]]
    random = [has_random_string(answer) for answer in answers["answer"]]
    leak = [one or other for one, other in zip(memorized, random, strict=True)]
    return answers.assign(memorized=memorized, random=random, leak=leak)


def unchanged(before: pandas.DataFrame, after: pandas.DataFrame) -> pandas.DataFrame:
    """Whether each answer of `leaks` is word for word what it was.

    Columns: format, item, unchanged.

    Raises:
        ValueError: the tables are not of the same questions and formats.
    """
    keys = ["format", "item"]
    if not before[keys].equals(after[keys]):
        raise ValueError("answers before and after must be to the same questions in the same formats")
    return before[keys].assign(unchanged=before["answer"] == after["answer"])
