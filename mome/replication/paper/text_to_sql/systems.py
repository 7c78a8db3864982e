"""Systems that turn questions into SQL: backbone with schema, retrieved examples, LoRA, memory experts, and both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy

from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_queries, question_routes
from mome.facts.fact import Fact, with_wordings
from mome.files.records import Count, Settings
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.replication.experiments.lora import memorize
from mome.replication.experiments.plan import Memorized
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.paper.text_to_sql.database import TUNED, practice_pairs, schema
from mome.replication.paper.text_to_sql.examples import ANSWER_ROOM, Examples, practice_prompts
from mome.train.attach import router_facts, trained_memory
from mome.train.settings import LoraSettings, MemorySettings, RouterSettings, TuningSettings

BACKBONE, BARE, COPY, RAG = "backbone", "rag_bare", "rag_copy", "rag"
LORA, MOME, ELSE_COPY, MOME_RAG = "lora", "mome", "mome_else_copy", "mome_rag"
SYSTEMS = (BACKBONE, BARE, COPY, RAG, LORA, MOME, ELSE_COPY, MOME_RAG)
WORDINGS = 3
LIKENESS = 0.5  # weight of the router's cosine beside BM25; chosen on the practice pairs, seed 3 (LOG.md)
LONGEST_CONTEXT = 2_048  # tokens of a prompt; the shipped backbones hold 512


class TextToSqlPlan(Settings):
    """Settings of how each system is trained; the values are ours (LOG.md has the trials, on seed 0).

    `reader` tunes what reads retrieved examples, on `practice` prompts of other databases; `lora` and `memory` tune on
    the pairs in three wordings. `router_questions` of the shipped facts, as many practice pairs and the pairs
    themselves train the router.
    """

    adapter: LoraSettings = LoraSettings()
    reader: TuningSettings = TuningSettings(epochs=1, learning_rate=2e-3)
    practice: Count = 3_000
    lora: TuningSettings = TuningSettings(epochs=20, learning_rate=2e-3, stop_loss=0.02)
    mome: MomeConfig = MomeConfig(num_experts=2**20)
    router: RouterSettings = RouterSettings()
    memory: MemorySettings = MemorySettings(
        epochs=30,
        wordings=WORDINGS,
        prompt_dropout=0.3,
        state_noise=0.3,
        target_loss=0.1,
        repair_loss=0.3,
        repairs=1,
    )
    router_questions: Count = 4_000


class Contest:
    """All systems on one backbone and one set of tuned pairs; what a system needs is trained when it is first asked.

    `parts` are the pairs by part (`workshop_pairs`); only those of `TUNED` are learned from. The reader, LoRA and the
    router are kept in runs/ and taken from there by a later run of the same settings.
    """

    def __init__(self, name: str, parts: Mapping[str, Sequence[Fact]], plan: TextToSqlPlan, database: Path) -> None:
        self.name, self.plan, self.database = name, plan, database
        self.pairs = list(parts[TUNED])
        self.answered: dict[tuple[str, tuple[str, ...]], list[str]] = {}

    def sql(self, system: str, questions: Sequence[str]) -> list[str]:
        """The statement that a system writes for each question: one line, possibly empty.

        Raises:
            ValueError: there is no such system.
        """
        ways: dict[str, Callable[[Sequence[str]], list[str]]] = {
            BACKBONE: self._with_schema,
            BARE: lambda asked: self._read(self.backbone, asked),
            COPY: lambda asked: [self.examples.nearest(question, 1)[0].answer for question in asked],
            RAG: lambda asked: self._read(self.reader, asked),
            LORA: lambda asked: _greedy(self.lora, asked),
            MOME: lambda asked: _greedy(self.mome, asked),
            ELSE_COPY: self._else_copy,
            MOME_RAG: lambda asked: _greedy(self.mome, [pair.question for pair in self.picked(asked)]),
        }
        if system not in ways:
            raise ValueError(f"system {system!r} is not one of {', '.join(SYSTEMS)}")
        key = system, tuple(questions)
        if key not in self.answered:
            self.answered[key] = ways[system](questions)
        return self.answered[key]

    def recognized(self, questions: Sequence[str]) -> list[bool]:
        """Whether the memory experts recognize each question, as it resembles a memorized one."""
        routes = question_routes(self.mome.model, self.mome.tokenizer, questions)
        return [bool(found) for found in routes.weights.any(dim=1).tolist()]

    def picked(self, questions: Sequence[str]) -> list[Fact]:
        """The memorized pair that each question is taken for by retrieval and router together (the sum is our choice).

        A pair's sum is its BM25 score over the best one of the question, plus `LIKENESS` times the cosine of the
        question's router query and that of the pair's nearest tuned wording. The first of the highest sums is picked.
        """
        found = numpy.stack([self.examples.scores(question) for question in questions])
        best = found.max(axis=1, keepdims=True)
        shares = numpy.divide(found, best, out=numpy.zeros_like(found), where=best > 0)  # no word known: all 0
        sums = shares + LIKENESS * self._likeness(questions)
        return [self.pairs[place] for place in sums.argmax(axis=1).tolist()]

    def _likeness(self, questions: Sequence[str]) -> numpy.ndarray:
        """Cosine of each question's router query and the nearest of each pair's tuned wordings: f32 [Q, pairs]."""
        wordings = [pair.wordings(WORDINGS) for pair in self.pairs]
        asked, held = (
            question_queries(self.mome.model, self.mome.tokenizer, texts)
            for texts in (questions, [text for texts in wordings for text in texts])
        )
        starts = numpy.cumsum([0, *map(len, wordings[:-1])])
        return numpy.maximum.reduceat((asked @ held.T).cpu().numpy(), starts, axis=1)

    @cached_property
    def backbone(self) -> Backbone:
        """The untouched backbone."""
        return asked_backbone(self.name)

    @cached_property
    def examples(self) -> Examples:
        """The tuned pairs, to retrieve from."""
        return Examples(self.pairs)

    @cached_property
    def reader(self) -> Backbone:
        """A LoRA trained to answer from retrieved examples of other databases; it never saw this one's pairs."""
        prompts = practice_prompts(
            practice_pairs(), self.backbone.tokenizer, self.context, self.plan.practice, self.plan.reader.seed
        )
        return memorize(self.name, prompts, self.plan.reader, self.plan.adapter).backbone

    @cached_property
    def lora(self) -> Backbone:
        """LoRA tuned on the pairs, each wording a row of its own."""
        done: Memorized = memorize(self.name, with_wordings(self.pairs, WORDINGS), self.plan.lora, self.plan.adapter)
        return done.backbone

    @cached_property
    def mome(self) -> Backbone:
        """Memory experts that hold the pairs: first the router (`router_material`), then three wordings of each."""
        plan, backbone = self.plan, asked_backbone(self.name)
        train, others = router_material(plan, self.pairs)
        return trained_memory(
            backbone, self.pairs, plan.mome, plan.router, plan.memory, learn_from=train, others=others
        ).backbone

    @property
    def context(self) -> int:
        """Tokens that the backbone reads at once."""
        return min(LONGEST_CONTEXT, int(self.backbone.model.config.max_position_embeddings))

    def _with_schema(self, questions: Sequence[str]) -> list[str]:
        tables = schema(self.database)
        return _greedy(self.backbone, [f"{tables}\n{question}" for question in questions])

    def _read(self, reader: Backbone, questions: Sequence[str]) -> list[str]:
        prompts = [self.examples.prompt(reader.tokenizer, question, self.context) for question in questions]
        return _greedy(reader, prompts)

    def _else_copy(self, questions: Sequence[str]) -> list[str]:
        """The experts' statement where they recognize the question, else the SQL of the nearest pair.

        Copying is the strongest kind of retrieval here (LOG.md).
        """
        pairs = zip(self.recognized(questions), self.sql(MOME, questions), self.sql(COPY, questions), strict=True)
        return [own if known else copied for known, own, copied in pairs]


def router_material(plan: TextToSqlPlan, pairs: Sequence[Fact]) -> tuple[list[Fact], list[str]]:
    """Facts that train the router, and questions that set its rejection threshold.

    The facts are shipped ones, the practice pairs in all their wordings, and `pairs` in their tuned wordings: it is
    known beforehand which of these are paraphrases. The questions are of shipped facts alone.
    """
    shipped, calibration, _ = router_facts([], plan.memory.seed)
    most = plan.router_questions
    practice = [replace(pair, phrasings=pair.phrasings + pair.held_out) for pair in practice_pairs()]
    order = numpy.random.default_rng(plan.memory.seed).permutation(len(practice))[:most].tolist()
    train = [*shipped[:most], *(practice[place] for place in order), *pairs]
    return train, [fact.question for fact in calibration[: max(1, most // 4)]]


def _greedy(backbone: Backbone, questions: Sequence[str]) -> list[str]:
    return greedy_answers(backbone.model, backbone.tokenizer, questions, ANSWER_ROOM)
