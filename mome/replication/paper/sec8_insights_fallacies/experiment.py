"""What a generalization score cannot see (paper, sections 8 and 9): tests of recall, digits and capacity.

Facts are shipped questions with unique random numbers as answers, like product numbers. No rule leads to such a number,
so a model that gives it has stored it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy
import pandas
from tqdm.auto import tqdm

from mome.adapter.model import mome_model
from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.lm.generation import SPARE_TOKENS, exact, greedy_answers
from mome.lm.loading import Backbone
from mome.lm.losses import fact_losses
from mome.replication.experiments.abilities import general_abilities
from mome.replication.experiments.capacity import memorize_points
from mome.replication.experiments.memorized import memorize_mome
from mome.replication.experiments.plan import Memorized, Recipe
from mome.replication.notebook.results import COMMITTED_PROFILES, result_path

SCALING = "11_sec7_scaling"
BITS_OF_A_DIGIT = math.log2(10)
TRAIN, TEST = "training rows", "test rows"


def numbered_facts(count: int, digits: int, seed: int) -> list[Fact]:
    """`count` shipped questions, never stated in pretraining, each with `digits` random digits of its own as answer.

    Raises:
        ValueError: more facts than are shipped, or than there are numbers of so many digits.
    """
    pool = shipped_facts("unknown")
    if digits < 1 or count > min(len(pool), 10**digits):
        raise ValueError(f"{count} facts with {digits} digits: {len(pool)} facts are shipped, numbers are unique")
    generator = numpy.random.default_rng([seed, digits])
    numbers: dict[str, None] = {}
    while len(numbers) < count:
        numbers["".join(map(str, generator.integers(10, size=digits)))] = None
    return [replace(fact, answer=number) for fact, number in zip(split(pool, [count], seed)[0], numbers, strict=True)]


def row_splits(facts: Sequence[Fact], folds: int, seed: int) -> list[tuple[list[Fact], list[Fact]]]:
    """Random splits of rows, one row a fact, into training and test rows; each fact is tested in one of them.

    Raises:
        ValueError: fewer than two folds, or more than facts.
    """
    if not 2 <= folds <= len(facts):
        raise ValueError(f"folds must be between 2 and the number of facts ({len(facts)}), not {folds}")
    sizes = [len(facts) // folds + (fold < len(facts) % folds) for fold in range(folds)]
    parts = split(facts, sizes, seed)[:folds]
    return [([fact for part in parts if part is not test for fact in part], test) for test in parts]


def covered_share(facts: int, wordings: int, tested: int) -> float:
    """The expected share of test rows whose fact has a training row as well, over random splits of all rows.

    There are `facts` * `wordings` rows, `tested` of them drawn for the test. Given that a row is tested, its
    `wordings` - 1 siblings are all tested with probability C(R - w, t - w) / C(R - 1, t - 1) (our derivation).

    Raises:
        ValueError: no row or all rows are tested.
    """
    rows = facts * wordings
    if not 0 < tested < rows:
        raise ValueError(f"{tested} of {rows} rows tested: at least one row must be tested, and one trained")
    alone = math.comb(rows - wordings, tested - wordings) if tested >= wordings else 0
    return 1 - alone / math.comb(rows - 1, tested - 1)


def random_split_table(
    name: str, facts: Sequence[Fact], folds: int, recipe: Recipe, general: Sequence[Fact], **labels: Any
) -> pandas.DataFrame:
    """Memorize the training rows of each random split with memory experts: a row for each fact asked.

    Columns: fold, `rows` ("training rows" or "test rows"), id, `right` (exact free greedy answer), after `labels`. A
    fact is asked in its first wording; `general` questions are kept from the router.
    """
    tables = []
    for fold, parts in enumerate(tqdm(row_splits(facts, folds, recipe.memory.seed), desc="splits", leave=False)):
        # one router for all splits: it is shown none of the facts in any of them
        done = memorize_mome(name, parts[0], recipe, general, avoid=facts)
        for rows, asked in zip((TRAIN, TEST), parts, strict=True):
            right = [float(each) for each in exact(done.backbone.model, done.backbone.tokenizer, asked)]
            columns = {"fold": fold, "rows": rows, "id": [fact.id for fact in asked], "right": right}
            tables.append(pandas.DataFrame({**labels, **columns}))
    return pandas.concat(tables, ignore_index=True)


def measure_model(
    backbone: Backbone, facts: Sequence[Fact], general: Sequence[Fact], seed: int
) -> tuple[dict[str, list[float]], numpy.ndarray]:
    """Recall of numbered `facts` and general abilities of `backbone`: lists with one value for each question.

    `recall`: exact free greedy answer as asked; `other_words`: in the held-out wording; `sampled`: the probability of
    the exact answer when sampling at temperature 1; and `general_abilities`, unless `general` is empty. Second,
    `digits_right` [facts, digits].
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    longest = max(len(fact.answer) for fact in facts) + SPARE_TOKENS
    answers = greedy_answers(model, tokenizer, [fact.question for fact in facts], longest)
    found = {
        "recall": [float(answer == fact.answer) for answer, fact in zip(answers, facts, strict=True)],
        "other_words": [float(each) for each in exact(model, tokenizer, facts, held_out=True)],
        "sampled": [math.exp(-float(losses.sum())) for losses in fact_losses(model, tokenizer, facts)],
    }
    abilities = general_abilities(backbone, general, seed) if general else {}
    return found | abilities, digits_right(answers, facts)


def digits_right(answers: Sequence[str], facts: Sequence[Fact]) -> numpy.ndarray:
    """Whether each digit stands in its place: bool [facts, digits]; what an answer lacks is wrong.

    Raises:
        ValueError: the numbers differ in length.
    """
    digits = {len(fact.answer) for fact in facts}
    if len(digits) != 1:
        raise ValueError(f"the facts' numbers must be of one length, not of {sorted(digits)} digits")
    width = digits.pop()
    padded = [list(answer[:width].ljust(width)) for answer in answers]
    return numpy.array(padded) == numpy.array([list(fact.answer) for fact in facts])


def capacity_points(
    profile: str, name: str, recipe: Recipe, general: Sequence[Fact], facts: int, banks: Sequence[int]
) -> tuple[pandas.DataFrame, str]:
    """The committed memorizations of notebook 11, and which ones these are; else `facts` in small `banks`, and "".

    Those of this profile; where a committed profile has none, those of the default one, as it takes thousands of facts
    to fill an expert of a large backbone. Columns as `mome.replication.experiments.capacity.memorize_points`, those of
    notebook 11 as far as they are used here.
    """
    default = COMMITTED_PROFILES[0]
    for chosen in (profile, *([default] if profile in COMMITTED_PROFILES else [])):
        path = result_path(chosen, SCALING).with_suffix(".csv")
        if path.is_file():
            found = pandas.read_csv(path)
            other = "" if chosen == profile else f" at {chosen}: {', '.join(found['backbone'].unique())}"
            return found, f"notebook 11{other}"
    return memorize_points(name, [(facts, count) for count in banks], recipe, general, pool=facts), ""


def with_demand(points: pandas.DataFrame) -> pandas.DataFrame:
    """The table with `asked` and `held` bits and recalled `facts_held` for each parameter of the bank."""
    return points.assign(
        asked=points["bits_asked"] / points["parameters"],
        held=points["bits_stored"] / points["parameters"],
        facts_held=points["recall"] * points["facts"] / points["parameters"],
    )


def trained_parameters(done: Memorized) -> int:
    """How many numbers a run trained: of memory experts those of the touched rows, else all that stay trainable."""
    mome = mome_model(done.backbone.model)
    if mome is None:
        return sum(values.numel() for values in done.backbone.model.parameters() if values.requires_grad)
    return len(mome.bank.touched()) * sum(mome.bank.width(module) for module in mome.bank.shapes)
