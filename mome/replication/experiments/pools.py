"""The facts to tune and their answers, and the facts that are asked to see that nothing else changed."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import pandas

from mome.facts.fact import Fact, randomize, shuffle_answers, split
from mome.facts.public_sets import mmlu, truthfulqa
from mome.facts.shipped import shipped_facts, truthfulqa_seen
from mome.files.environment import public_data
from mome.lm.encoding import answer_ids
from mome.lm.generation import exact, greedy_answers
from mome.lm.loading import Backbone, shipped_backbones
from mome.replication.damage.texts import contains, first_line
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.results import shared_table

DATASETS = ("shipped", "truthfulqa", "mmlu")
LONGEST_MMLU_QUESTION = 200
ANSWERED = "answered_facts"  # the table of what other backbones than the shipped ones know
ANSWERED_KEY = ["backbone", "id"]
ASKED = 128  # facts asked at a time
SENTENCE = 16  # tokens: "The capital of France is Paris." has 7


@dataclass(frozen=True, slots=True)
class FactSelection:
    """Facts the backbone answers wrongly, and `guess_rate`, the share of the facts asked that it answered rightly."""

    facts: list[Fact]
    guess_rate: float
    asked: int


def tuning_pool(dataset: str) -> list[Fact]:
    """Facts that the shipped backbones never saw: "shipped" (our unknown facts), "truthfulqa" or "mmlu".

    The public sets are read from the folder of `public_data()` where it is there, else from the Hub. MMLU is used as
    facts: the question with its right choice as the answer, short questions only (ours).
    """
    if dataset not in DATASETS:
        raise ValueError(f"dataset {dataset!r} is not one of {', '.join(DATASETS)}")
    if dataset == "shipped":
        return shipped_facts("unknown")
    folder = public_data() / dataset
    local = folder if folder.is_dir() else None
    if dataset == "truthfulqa":
        facts = truthfulqa(local)
        seen = set(truthfulqa_seen(fact.question for fact in facts))
        return [fact for fact in facts if fact.question not in seen]
    items = {item.question: item for item in mmlu(local) if len(item.question) <= LONGEST_MMLU_QUESTION}
    return [Fact(item.id, item.question, item.choices[item.answer], source=item.source) for item in items.values()]


def select_facts(
    backbone: Backbone, pool: Sequence[Fact], count: int, seed: int, *, several_relations: bool = False
) -> FactSelection:
    """Draw facts by `seed` and keep the first `count` that the untouched backbone answers wrongly.

    With `several_relations` one fact of each relation is drawn in turn (`in_turn`).

    Raises:
        ValueError: the pool has too few facts that the backbone gets wrong.
    """
    asked = min(len(pool), count + count // 2)
    drawn = in_turn(pool, seed)[:asked] if several_relations else split(pool, [asked], seed)[0]
    right = exact(backbone.model, backbone.tokenizer, drawn)
    wrong = [fact for fact, known in zip(drawn, right, strict=True) if not known]
    if len(wrong) < count:
        raise ValueError(f"{backbone.name} answers only {len(wrong)} of {len(drawn)} drawn facts wrongly, not {count}")
    return FactSelection(wrong[:count], float(numpy.mean(right)), len(drawn))


def in_turn(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """The facts in an order drawn by `seed`, in rounds: each round has one fact of each relation that has some left."""
    turns: Counter[str] = Counter()
    rounds = []
    for fact in split(facts, [], seed)[0]:
        rounds.append((turns[fact.relation], fact))
        turns[fact.relation] += 1
    return [fact for _, fact in sorted(rounds, key=lambda one: one[0])]  # stable: a round keeps the order drawn


def with_answers(facts: Sequence[Fact], answers: str, seed: int) -> list[Fact]:
    """The facts with their "real" answers, with "random" strings, or with the answers "shuffled" among them."""
    if answers == "random":
        return randomize(facts, seed)
    return shuffle_answers(facts, seed) if answers == "shuffled" else list(facts)


def general_facts(count: int, seed: int, backbone: str = "tiny-llama") -> list[Fact]:
    """`count` of the shipped facts that a backbone knows (`facts_known_to`), drawn by `seed`.

    Raises:
        ValueError: there are fewer.
    """
    return split(facts_known_to(backbone), [count], seed)[0]


def facts_known_to(backbone: str) -> list[Fact]:
    """The shipped facts that a backbone answers, by the committed table; else those of the shipped ones' pretraining.

    A backbone that is neither shipped nor in the table is taken to know what the shipped ones know.
    """
    kept = _kept_answers(backbone)
    return shipped_facts("known") if kept is None else kept


def known_facts(backbone: Backbone, count: int, seed: int = 0) -> list[Fact]:
    """The first `count` shipped facts in an order drawn by `seed` that the untouched backbone answers exactly.

    Raises:
        ValueError: it answers fewer of them.
    """
    drawn, found = split(shipped_facts("known"), [], seed)[0], []
    size = min(ASKED, 16 * count)  # few facts are found among few
    for start in range(0, len(drawn), size):
        part = drawn[start : start + size]
        right = exact(backbone.model, backbone.tokenizer, part)
        found += [fact for fact, known in zip(part, right, strict=True) if known]
        if len(found) >= count:
            return found[:count]
    raise ValueError(f"{backbone.name} answers only {len(found)} of {len(drawn)} shipped facts rightly, not {count}")


def random_facts(count: int, seed: int, length: int = 32) -> list[Fact]:
    """`count` shipped facts with random answers; a smaller count gives the first of a larger one.

    Raises:
        ValueError: fewer facts are shipped.
    """
    pool = shipped_facts("unknown")
    if count > len(pool):
        raise ValueError(f"{count} facts: only {len(pool)} are shipped")
    drawn = split(pool, [len(pool)], seed)[0]
    return randomize(drawn[:count], seed, length)


def answered_facts(name: str) -> list[Fact]:
    """The shipped known facts that a backbone answers, in their question and in their held-out wording (`stated`).

    Those of the committed table where it has the backbone, else all are asked, which takes minutes.
    """
    kept = _kept_answers(name)
    if kept is not None:
        return kept
    ids = {row["id"] for row in answered_rows(name)}
    return [fact for fact in shipped_facts("known") if fact.id in ids]


def answered_rows(name: str) -> Iterator[dict[str, Any]]:
    """A row of the table of answered facts for each known fact that the backbone states in both wordings.

    Facts with answers of about the same length are asked together, so that no short answer is waited for.
    """
    loaded = asked_backbone(name)
    ordered = sorted(shipped_facts("known"), key=lambda fact: len(answer_ids(loaded.tokenizer, fact)))
    for start in range(0, len(ordered), ASKED):
        found = ordered[start : start + ASKED]
        for held_out in (False, True):
            right = stated(loaded, found, held_out=held_out) if found else []
            found = [fact for fact, answered in zip(found, right, strict=True) if answered]
        yield from ({"backbone": name, "id": fact.id} for fact in found)


def stated(backbone: Backbone, facts: Sequence[Fact], *, held_out: bool = False) -> list[bool]:
    """Whether each fact's answer stands in the first line of the free answer: a real model answers in sentences.

    `held_out` asks in the first held-out wording. A shipped backbone learned bare answers: its ones must be exact.
    """
    if backbone.name in shipped_backbones():
        return exact(backbone.model, backbone.tokenizer, facts, held_out=held_out)
    right = judge_of(backbone.name)
    questions = [fact.held_out[0] if held_out else fact.question for fact in facts]
    longest = max(SENTENCE, 2 + max(len(answer_ids(backbone.tokenizer, fact)) for fact in facts))
    texts = greedy_answers(backbone.model, backbone.tokenizer, questions, longest)
    return [right(text, fact.answer) for text, fact in zip(texts, facts, strict=True)]


def judge_of(name: str) -> Callable[[str, str], bool]:
    """Whether a free answer (first) of the backbone `name` gives the fact's answer (second), for untrained questions.

    A shipped backbone learned bare answers, so it has to give exactly that; another one may say it in a sentence.
    """
    return operator.eq if name in shipped_backbones() else _stands_in


def _stands_in(text: str, answer: str) -> bool:
    return contains(first_line(text), (answer,))


def _kept_answers(name: str) -> list[Fact] | None:
    """The facts that the committed table says that a backbone answers; None where it says nothing of it."""
    path = shared_table(ANSWERED)
    table = pandas.read_csv(path) if path.is_file() else pandas.DataFrame(columns=ANSWERED_KEY)
    ids = set(table.loc[table["backbone"] == name, "id"])
    return [fact for fact in shipped_facts("known") if fact.id in ids] if ids else None
