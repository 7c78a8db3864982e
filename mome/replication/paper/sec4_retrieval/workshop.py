"""Every method by its name, on one draw of facts; shared parts (router, reader, memory experts) are made once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from mome.adapter.config import MomeConfig
from mome.files.records import Count, Settings
from mome.replication.experiments.material import Material
from mome.replication.methods.experts import Joined, MemoryExperts
from mome.replication.methods.knn_lm import KnnLm, KnnSettings
from mome.replication.methods.method import Method
from mome.replication.methods.prompting import Frozen, Prompted
from mome.replication.methods.reader import Reader, bare_reader, trained_reader
from mome.replication.methods.retrieval import Retrieval
from mome.replication.methods.search import Bm25, Dense, Graph, Search, Tfidf
from mome.replication.methods.sql import SqlLookup
from mome.replication.methods.tuned import Tuned
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import routed_backbone
from mome.train.settings import LONG_ROUTER, LoraSettings, MemorySettings, RouterSettings, TuningSettings

SEARCHES = ("bm25", "tfidf", "dense")
FAISS = "index_faiss"
INDEXES = (*(f"index_{name}" for name in SEARCHES), FAISS, "sql")
METHODS = (
    "backbone",
    "prompt",
    "rag_bm25",
    "rag_tfidf",
    "rag_dense",
    "rag_bm25_bare",
    *INDEXES,
    "knn_lm",
    "lora",
    "full",
    "mome",
    "mome_rag",
)

MANY = 10_000


class RetrievalPlan(Settings):
    """Settings of all methods. Every method gets `wordings` of each fact, to be tuned on them or to find it by them.

    Every method with a rejection threshold gets the false-positive rate of memory experts (`router.false_alarms`).
    `reader` trains the model that reads `passages` at a time on so many `exercises`: all weights of a copy, or a LoRA
    where `reader_adapter` is given. LOG.md has the trials.
    """

    unseeded = ("reader",)  # one reader for all seeds

    wordings: Count = 3
    passages: Count = 1
    exercises: Count = 16_000
    reader: TuningSettings = TuningSettings(epochs=2, learning_rate=1e-3)
    reader_adapter: LoraSettings | None = None
    full: TuningSettings = TuningSettings(learning_rate=5e-4, stop_loss=0.01)
    lora: TuningSettings = TuningSettings(learning_rate=1e-3, stop_loss=0.01)
    adapter: LoraSettings = LoraSettings()
    knn: KnnSettings = KnnSettings()
    mome: MomeConfig = MomeConfig(num_experts=2**20)
    router: RouterSettings = LONG_ROUTER.model_copy(update={"false_alarms": 0.01})
    memory: MemorySettings = MemorySettings(wordings=3, prompt_dropout=0.5, state_noise=0.4)

    def sized(self, facts: int) -> RetrievalPlan:
        """The same for so many facts: from `MANY` on, tuning takes smaller steps, and 15 epochs at most (LOG.md)."""
        if facts < MANY:
            return self
        return self.but(full={"learning_rate": 2e-4, "epochs": 15}, lora={"learning_rate": 4e-4, "epochs": 15})


@dataclass(frozen=True, slots=True)
class Fitted:
    """A method that holds its facts, the seconds of fitting it, and those spent once for the backbone."""

    method: Method
    seconds: float
    cpu_seconds: float
    once_seconds: float


class Workshop:
    """Makes and fits methods on `material` and the backbone `name`."""

    def __init__(self, name: str, material: Material, plan: RetrievalPlan) -> None:
        self.name, self.material, self.plan = name, material, plan
        self.kept: dict[str, Fitted] = {}

    @cached_property
    def frozen(self) -> Frozen:
        """The untouched backbone."""
        return Frozen("backbone", self.name)

    @cached_property
    def reader(self) -> Reader:
        """The trained reader; its exercises have passages that TF-IDF finds."""
        plan = self.plan
        return trained_reader(
            self.name,
            self.material.others,
            Tfidf(),
            passages=plan.passages,
            count=plan.exercises,
            tuning=plan.reader,
            adapter=plan.reader_adapter,
        )

    @cached_property
    def routed(self) -> tuple[Any, Any, float]:
        """Model and tokenizer of a backbone with a trained router, and the seconds that training took."""
        plan, loaded = self.plan, asked_backbone(self.name)
        backbone, report = routed_backbone(loaded, plan.mome, plan.router, self.material.others, plan.router.seed)
        return backbone.model, backbone.tokenizer, report.seconds

    def make(self, method: str) -> Method:
        """The method of this name, holding nothing yet; raises ValueError for an unknown name."""
        plan, kind = self.plan, method.rpartition("_")[2]
        if method not in METHODS:
            raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
        if method not in installed_methods():
            raise ValueError(f"method {method!r} needs the package faiss-cpu (extra 'bench')")
        if method == "backbone":
            return self.frozen
        if method == "prompt":
            return Prompted(method, self.name)
        if method == "sql":
            return SqlLookup(method, plan.wordings)
        if method in ("lora", "full"):
            settings, adapter = (plan.lora, plan.adapter) if method == "lora" else (plan.full, None)
            return Tuned(method, self.name, settings, adapter, plan.wordings)
        if method == "knn_lm":
            return KnnLm(method, self.name, plan.knn, wordings=plan.wordings, **self._threshold())
        if method == "mome":
            material = self.material
            parts = (material.others, material.calibration, plan.mome, plan.router, plan.memory)
            return MemoryExperts(method, self.name, *parts)
        if method == "mome_rag":
            return Joined(method, self.make("mome"), self.make("rag_bm25"))
        if method == "rag_bm25_bare":
            return Retrieval(method, Bm25(), bare_reader(self.name), wordings=plan.wordings, passages=1)
        return self._retrieval(method, kind)

    def fit(self, method: str) -> Fitted:
        """The method of this name, holding the material's facts; those that are part of another are kept."""
        if method in self.kept:
            return self.kept[method]
        if method == "mome_rag":
            first, second = self.fit("mome"), self.fit("rag_bm25")
            joined = Joined(method, first.method, second.method)
            both = (first.seconds + second.seconds, first.cpu_seconds + second.cpu_seconds)
            return Fitted(joined, *both, first.once_seconds + second.once_seconds)
        made, once = self.make(method), self._once(method)
        started, cpu = time.perf_counter(), time.process_time()
        made.fit(self.material.facts)
        found = Fitted(made, time.perf_counter() - started, time.process_time() - cpu, once)
        if method in ("mome", "rag_bm25"):
            self.kept[method] = found
        return found

    def _retrieval(self, method: str, kind: str) -> Retrieval:
        reads = method.startswith("rag_")
        searches: dict[str, Any] = {
            "bm25": Bm25,
            "tfidf": Tfidf,
            "dense": lambda: Dense(*self.routed[:2]),
            "faiss": lambda: Graph(*self.routed[:2]),
        }
        search: Search = searches[kind]()
        reader, passages = (self.reader, self.plan.passages) if reads else (None, 1)
        return Retrieval(method, search, reader, wordings=self.plan.wordings, passages=passages, **self._threshold())

    def _threshold(self) -> dict[str, Any]:
        return {"calibration": self.material.calibration, "false_alarms": self.plan.router.false_alarms}

    def _once(self, method: str) -> float:
        router = self.routed[2] if method in ("mome", FAISS) or method.endswith("_dense") else 0.0
        reader = self.reader.seconds if method.startswith("rag_") and not method.endswith("_bare") else 0.0
        return router + reader


def installed_methods() -> list[str]:
    """The methods whose packages are there: `FAISS` needs an optional one."""
    return [method for method in METHODS if method != FAISS or find_spec("faiss")]
