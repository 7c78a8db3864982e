"""The language model that reads retrieved passages: the bare backbone, or one trained to copy from them.

The shipped backbones never saw a passage in pretraining. To be fair to retrieval, a copy is trained to read. It is
trained on facts other than those held or asked. Most of them have false answers, so that only the passage tells the
answer. If no passage has it, the reader is to say "I don't know". A backbone needs this training once, like phase 1 of
memory experts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy

from mome.facts.fact import ALPHABET, Fact
from mome.files.environment import work_folder
from mome.files.hashing import text_sha256
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone, identity
from mome.replication.experiments.lora import memorize
from mome.replication.methods.method import LONGEST
from mome.replication.methods.search import Search
from mome.replication.notebook.backbones import asked_backbone
from mome.train.settings import LoraSettings, TuningSettings
from mome.train.tuning import digest, tune

UNKNOWN = "I don't know"
UNANSWERED = 1 / 4  # the share of exercises whose passages do not hold the answer
OWN, BORROWED = 0.4, 0.7  # up to here an answer is the fact's own; up to here another fact's; beyond, random letters
CODE_LENGTHS = (3, 9)


def with_passages(question: str, passages: Sequence[Fact]) -> str:
    """A question that follows its passages, each one as a question with its answer, as in `Q: ... A:`."""
    return "\nQ: ".join([*(f"{fact.question}\nA: {fact.answer}" for fact in passages), question])


class Reader:
    """A language model that answers from passages; `seconds` is the time of its training, 0 for a bare backbone."""

    def __init__(self, backbone: Backbone, seconds: float = 0.0) -> None:
        self.model: Any = backbone.model
        self.tokenizer: Any = backbone.tokenizer
        self.seconds = seconds

    def read(self, questions: Sequence[str], passages: Sequence[Sequence[Fact]]) -> list[str]:
        """A greedy answer to each question from its passages."""
        prompts = [with_passages(*pair) for pair in zip(questions, passages, strict=True)]
        return greedy_answers(self.model, self.tokenizer, prompts, LONGEST)


def bare_reader(name: str) -> Reader:
    """The backbone `name` as it is."""
    return Reader(asked_backbone(name))


def trained_reader(
    name: str,
    others: Sequence[Fact],
    search: Search,
    *,
    passages: int,
    count: int,
    tuning: TuningSettings,
    adapter: LoraSettings | None = None,
) -> Reader:
    """Train the backbone `name` to read, by LoRA or all its weights, or take what an earlier run left in runs/.

    Raises as `mome.train.tuning.tune` and `exercises`.
    """
    made = exercises(others, search, passages, count, tuning.seed)
    if adapter is not None:
        done = memorize(name, made, tuning, adapter)
        return Reader(done.backbone, done.run.seconds)
    backbone = asked_backbone(name)
    backbone.model.requires_grad_(True)
    labels = {"backbone": identity(backbone), "trained": "all weights"}
    key = json.dumps([labels, digest(made), tuning.model_dump(mode="json")])
    kept = work_folder() / "readers" / f"{text_sha256(key, 16)}.safetensors"
    run = tune(backbone.model, backbone.tokenizer, made, tuning, kept, labels)
    return Reader(backbone, run.seconds)


def exercises(others: Sequence[Fact], search: Search, passages: int, count: int, seed: int) -> list[Fact]:
    """`count` exercises in reading, each for one wording of `others`: passages, a question, and the answer to be given.

    The passages are those `search` finds among `others`, their answers changed anew for each exercise. In the share
    `UNANSWERED` the right fact is taken out of them, and the answer is "I don't know".

    Raises:
        ValueError: too few facts to find `passages` others among.
    """
    if len(others) <= passages:
        raise ValueError(f"{len(others)} facts are too few to learn to read {passages} passages at a time")
    generator = numpy.random.default_rng([seed, passages])
    every = [(number, text) for number, fact in enumerate(others) for text in fact.all_wordings()]
    asked = [every[index] for index in generator.permutation(len(every))[:count]]
    search.index([fact.wordings() for fact in others])
    found, _ = search.best([text for _, text in asked], passages + 1)
    made = []
    for row, (number, text) in enumerate(asked):
        near = [index for index in found[row].tolist() if index != number]
        if generator.random() < UNANSWERED or number not in found[row]:
            read, answer = [_changed(others[index], others, generator) for index in near[:passages]], UNKNOWN
        else:
            kept = [index for index in found[row].tolist() if index == number or index in near[: passages - 1]]
            read = [_changed(others[index], others, generator) for index in kept]
            answer = read[kept.index(number)].answer
        made.append(Fact(f"{others[number].id}#{row}", with_passages(text, read), answer))
    return made


def _changed(fact: Fact, others: Sequence[Fact], generator: numpy.random.Generator) -> Fact:
    """The fact with its own answer, another fact's, or random letters and digits."""
    draw = generator.random()
    if draw < OWN:
        return fact
    if draw < BORROWED:
        return replace(fact, answer=others[int(generator.integers(len(others)))].answer)
    length = int(generator.integers(*CODE_LENGTHS))
    return replace(fact, answer="".join(ALPHABET[index] for index in generator.integers(len(ALPHABET), size=length)))
