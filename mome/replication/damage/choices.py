"""TruthfulQA's MC1 and MC2 and MMLU as cloze: which choice is likeliest after the question alone.

The question is read once for all its choices, and memory experts are chosen by it (`mome.replication.scoring`). It is
asked as `Q: ... A:`, without TruthfulQA's preamble and without MMLU's lettered choices, so that a router reads nothing
but the question. `mome score` has the published prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy
import pandas

from mome.facts.public_sets import MultipleChoice, mmlu, truthfulqa_multiple_choice
from mome.files.hashing import text_sha256
from mome.lm.loading import Backbone
from mome.lm.prompts.form import QUESTION_ANSWER
from mome.replication.scoring.likelihood import encode_pair, fit, log_likelihoods, longest_input
from mome.replication.scoring.multiple_choice import judge, public_folder

ROWS = 256  # choices of the contexts that are read together
CLOZE_ITEMS = 1_000
LONGEST_CLOZE = 300  # characters of a question, and of its choices in all
REFERS = ("above", "both", "neither", "none of", "all of", "i and", "i only", "ii only", "i, ii")


SETS = ("truthfulqa_mc1", "truthfulqa_mc2", "mmlu_cloze", "mmlu_cloze_total")

Questions = Mapping[str, Sequence[MultipleChoice]]


def choice_questions(seed: int = 0) -> dict[str, list[MultipleChoice]]:
    """The questions of TruthfulQA (mc1 and mc2) and MMLU's cloze questions, by the names of `SETS`.

    Raises: as `truthfulqa_items` and `cloze_items`.
    """
    cloze = cloze_items(seed=seed)
    found = {"truthfulqa_mc1": truthfulqa_items("mc1"), "truthfulqa_mc2": truthfulqa_items("mc2")}
    return {**found, "mmlu_cloze": cloze}


def choose(backbone: Backbone, questions: Questions) -> pandas.DataFrame:
    """Which choice of each question is likeliest, and whether it is right.

    In `mmlu_cloze` a choice's log-likelihood is divided by its number of characters (as lm-evaluation-harness'
    acc_norm), in `mmlu_cloze_total` and in TruthfulQA it is not. Of equal ones the first counts.

    Columns: set, item (id), choice (its index), value (1 right, 0 wrong; in mc2 the share of probability of the true
    choices), log_likelihoods (a tuple: nats, of each choice's tokens, in the model's dtype).

    Raises:
        ValueError: a choice is longer than the backbone's context.
    """
    longest, asked = longest_input(backbone.model), [item for items in questions.values() for item in items]
    rows = [
        encode_pair(backbone.tokenizer, QUESTION_ANSWER.format(question=item.question), f" {choice}", longest)
        for item in asked
        for choice in item.choices
    ]
    totals = iter(log_likelihoods(backbone.model, backbone.tokenizer, [fit(row, longest) for row in rows], ROWS)[0])
    parts = []
    for name, items in questions.items():
        found = [tuple(next(totals) for _ in item.choices) for item in items]
        parts.append(_table(name, items, found))
        if name == "mmlu_cloze":
            parts.append(_table("mmlu_cloze_total", items, found))
    return pandas.concat(parts, ignore_index=True)


def _table(name: str, items: Sequence[MultipleChoice], found: Sequence[tuple[float, ...]]) -> pandas.DataFrame:
    records = []
    for item, likelihoods in zip(items, found, strict=True):
        scores = numpy.array(likelihoods)
        if name == "mmlu_cloze":
            scores = scores / numpy.array([len(choice) for choice in item.choices])
        value = judge("truthfulqa_mc2" if name == "truthfulqa_mc2" else "mmlu", item, scores.tolist())
        record = {"set": name, "item": item.id, "choice": int(numpy.argmax(scores)), "value": value}
        records.append({**record, "log_likelihoods": likelihoods})
    return pandas.DataFrame(records)


def flips(before: pandas.DataFrame, after: pandas.DataFrame) -> pandas.DataFrame:
    """What became of each question of `choose`, paired.

    Columns: set, item, flipped (another choice), up (wrong before, right after), down (right before, wrong after) and
    same (all log-likelihoods equal, to the last bit). In mc2, whose values are shares, none is up or down.

    Raises:
        ValueError: the tables are not of the same questions.
    """
    keys = ["set", "item"]
    if not before[keys].equals(after[keys]):
        raise ValueError("choices before and after must be of the same questions")
    early, late = before["value"], after["value"]
    single = before["set"] != "truthfulqa_mc2"
    return before[keys].assign(
        flipped=before["choice"] != after["choice"],
        up=single & (early == 0) & (late == 1),
        down=single & (early == 1) & (late == 0),
        same=[tuple(one) == tuple(other) for one, other in _pairs(before, after)],
    )


def _pairs(before: pandas.DataFrame, after: pandas.DataFrame) -> zip[tuple[Sequence[float], Sequence[float]]]:
    return zip(before["log_likelihoods"], after["log_likelihoods"], strict=True)


def truthfulqa_items(targets: Literal["mc1", "mc2"]) -> list[MultipleChoice]:
    """TruthfulQA's 817 questions with the choices of "mc1" or "mc2"; from the public folder or the Hub.

    Raises: as `mome.facts.public_sets.truthfulqa`.
    """
    return truthfulqa_multiple_choice(public_folder("truthfulqa"), targets)


def cloze_items(count: int = CLOZE_ITEMS, seed: int = 0) -> list[MultipleChoice]:
    """`count` questions of MMLU's test split that can be asked without their choices, drawn by a hash.

    Left out: questions or choices of more than `LONGEST_CLOZE` characters, choices that name other ones ("all of the
    above"), choices that occur twice, and questions that end in a gap or ask for one of "the following".

    Raises: as `mome.facts.public_sets.mmlu`.
    """
    able = [item for item in mmlu(public_folder("mmlu")) if _stands_alone(item)]
    return sorted(able, key=lambda item: text_sha256(f"cloze {seed} {item.id}"))[:count]


def _stands_alone(item: MultipleChoice) -> bool:
    choices = [choice.casefold() for choice in item.choices]
    short = max(len(item.question), len(" ".join(choices))) <= LONGEST_CLOZE
    gap = "__" in item.question or "following" in item.question.casefold() or not item.question.endswith("?")
    refers = any(choice.startswith(REFERS) or "of the above" in choice for choice in choices)
    return short and not gap and not refers and len(set(choices)) == len(choices)
