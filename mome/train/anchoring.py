"""Facts' questions become anchors of the router: their experts are chosen, and the rejection threshold is set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.facts.typing_variations import trained_typings
from mome.lm.encoding import Encoded, encode_question


@dataclass(frozen=True, slots=True)
class Rows:
    """Training rows: `encoded`, the fact each belongs to (`owners`), and their experts `ids`, `weights` [rows, K]."""

    encoded: list[Encoded]
    owners: list[int]
    ids: Tensor
    weights: Tensor

    def by_fact(self) -> dict[int, list[int]]:
        """The rows of each fact."""
        found: dict[int, list[int]] = {}
        for row, owner in enumerate(self.owners):
            found.setdefault(owner, []).append(row)
        return found


def route_facts(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    facts: Sequence[Fact],
    wordings: int,
    typings: int = 0,
    seed: int = 0,
) -> Rows:
    """Encode the tuned wordings of each fact, and choose their experts once and for all, as new anchors of the router.

    With `snap` all wordings of a fact share the experts of their mean query; without it each has its own. Behind the
    wordings stand `typings` variations of each fact that has one wording, drawn by `seed`: they have its experts, but
    no anchors.
    """
    mome = mome_model(model)
    assert mome is not None
    mome.read_words(tokenizer)
    asked = [(index, text) for index, fact in enumerate(facts) for text in fact.wordings(wordings)]
    owners = [index for index, _ in asked]
    queries = question_queries(model, tokenizer, [text for _, text in asked])
    shared = torch.tensor(owners, device=queries.device) if mome.router.snap else None
    ids, weights = mome.router.anchor(queries, shared, [text for _, text in asked])
    encoded = [encode_question(tokenizer, text, facts[index].answer) for index, text in asked]
    typed = [(row, text) for row in _single(owners) for text in trained_typings(asked[row][1], typings, seed)]
    encoded += [encode_question(tokenizer, text, facts[owners[row]].answer) for row, text in typed]
    every = [*range(len(owners)), *(row for row, _ in typed)]
    return Rows(encoded, [owners[row] for row in every], ids[every], weights[every])


def _single(owners: Sequence[int]) -> list[int]:
    """The rows of facts with one row."""
    counts = Counter(owners)
    return [row for row, owner in enumerate(owners) if counts[owner] == 1]


def set_null_key(model: Any, tokenizer: PreTrainedTokenizerBase, others: Sequence[str], false_alarms: float) -> None:
    """Set the rejection threshold to a false-positive rate of at most `false_alarms` on the questions `others`.

    A memorized question, word for word, always passes: its similarity is 1, up to rounding.

    Raises:
        ValueError: there are no `others` to set it by.
    """
    if not others:
        raise ValueError("set_null_key: no out-of-scope questions for the threshold; give some, or false_alarms=None")
    mome = mome_model(model)
    assert mome is not None
    queries = question_queries(model, tokenizer, others)
    mome.set_min_score(mome.router.anchors.threshold(queries, false_alarms, others))
