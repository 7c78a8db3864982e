"""Suites of benchmarks: each one is checked, timed and written as one table (`run_benchmarks`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from mome.facts.fact import Fact, randomize
from mome.facts.shipped import shipped_facts
from mome.lm.allocator import keep_freed_memory
from mome.lm.loading import Backbone
from mome.replication.bench.end_to_end import tuning_rows
from mome.replication.bench.generation import generation_rows
from mome.replication.bench.goals import cpu, gpu
from mome.replication.bench.lookup import LookupSizes, lookup_rows
from mome.replication.bench.module.step import StepSizes, step_rows
from mome.replication.bench.tables import commit_table, fresh_folder, results_folder, write_table
from mome.replication.bench.timing import Timer
from mome.replication.bench.traffic import ModuleSizes
from mome.replication.bench.tuning import bench_lora_tuning, bench_memory_steps
from mome.replication.bench.whole_model import EndToEndSizes, llama_8b, random_backbone
from mome.replication.notebook.backbones import asked_backbone

TOKENIZER = "tiny-llama"
MOST_FACTS = 32
MEMORY_BATCH = 16


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a suite's benchmarks; `rounds` and `seconds` bound how long each group of contenders is timed."""

    step: StepSizes
    lookup: LookupSizes
    lookup_dtype: torch.dtype
    whole: EndToEndSizes
    rounds: int = 30
    seconds: float = 5.0
    memory_experts: Sequence[int] = ()
    memory_passes: int = 6
    copied: int | None = None


CPU = Sizes(
    step=StepSizes(ModuleSizes(tokens=64, d_in=256, d_out=256, item=4), torch.float32, (2**10, 2**16, 2**20)),
    lookup=LookupSizes((10_000, 100_000, 1_000_000), (1, 16, 256)),
    lookup_dtype=torch.float32,
    whole=EndToEndSizes(prompt_tokens=64),
    memory_experts=(2**10, 2**16, 2**20),
)
GPU = Sizes(
    step=StepSizes(ModuleSizes(), torch.bfloat16, (2**10, 2**14, 2**17, 2**20, 2**22)),
    lookup=LookupSizes((10_000, 100_000, 1_000_000, 4_000_000), (1, 8, 64, 256)),
    lookup_dtype=torch.bfloat16,
    whole=EndToEndSizes(epochs=6, runs=3),
    rounds=50,
)
SUITES: dict[str, tuple[str, ...]] = {
    "cpu": ("lora_tuning", "memory_steps", "module_step", "lookup", "end_to_end"),
    "gpu": ("module_step", "lookup", "end_to_end"),
}


def run_benchmarks(
    suite: str, only: Sequence[str], backbone: str, facts: int, sizes: Sizes | None = None, commits: bool = False
) -> Iterator[str]:
    """Run a suite's benchmarks, or `only` some: each is checked, timed, written to bench/ in the work folder, returned.

    Args:
        suite: "cpu" or "gpu".
        only: names of its benchmarks; empty: all.
        backbone: what the cpu suite tunes and asks.
        facts: how many facts it tunes.
        sizes: other sizes than the suite's.
        commits: whether each table also replaces the committed one in data/results/bench/.

    Raises:
        ValueError: an unknown name, or no CUDA device for the gpu suite.
        CheckError: a contender's result is wrong; its benchmark writes nothing.
    """
    unknown = [name for name in only if name not in SUITES[suite]]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: the {suite} suite has {', '.join(SUITES[suite])}")
    names = [name for name in SUITES[suite] if not only or name in only]
    if "memory_steps" in names and facts < 2 * MEMORY_BATCH:
        raise ValueError(f"--facts {facts}: memory_steps needs {2 * MEMORY_BATCH} at least")
    if suite == "gpu" and not torch.cuda.is_available():
        raise ValueError(f"the gpu suite needs a CUDA device, and torch {torch.__version__} sees none")
    keep_freed_memory()
    run = _Suite(suite, backbone, facts, sizes or (CPU if suite == "cpu" else GPU))
    for name in names:
        yield run.table(name)
        if commits:
            commit_table(run.file(name))
    summary, goals = f"{suite}_summary", {"cpu": cpu, "gpu": gpu}[suite]
    yield write_table(summary, goals.summary_rows(results_folder() if commits else fresh_folder()))
    if commits:
        commit_table(summary)


class _Suite:
    """A suite on its device."""

    def __init__(self, suite: str, backbone: str, facts: int, sizes: Sizes) -> None:
        self.suite, self.backbone, self.count, self.sizes = suite, backbone, facts, sizes
        self.device = torch.device("cuda", torch.cuda.current_device()) if suite == "gpu" else torch.device("cpu")

    @cached_property
    def facts(self) -> list[Fact]:
        """Shipped facts that no backbone knows, with random answers."""
        return randomize(shipped_facts("unknown")[: self.count], seed=0)

    def file(self, name: str) -> str:
        """The name of a benchmark's table, without the suffix."""
        return name if name in ("lora_tuning", "memory_steps") else f"{self.suite}_{name}"

    def table(self, name: str) -> str:
        """Run one benchmark and write its table."""
        sizes = self.sizes
        if name == "lora_tuning":
            return bench_lora_tuning(self.backbone, self.facts, sizes.copied)
        if name == "memory_steps":
            chosen = (self.backbone, self.facts, sizes.memory_experts, MEMORY_BATCH, sizes.memory_passes, sizes.copied)
            return bench_memory_steps(*chosen)
        timer = Timer(self.device, sizes.rounds, sizes.seconds, sizes.copied)
        if name == "module_step":
            rows = step_rows(timer, sizes.step, "reference" if self.suite == "cpu" else "triton")
        elif name == "lookup":
            rows = lookup_rows(timer, sizes.lookup, sizes.lookup_dtype)
        else:
            rows = self._whole(timer)
        return write_table(self.file(name), rows, timer.copy_rate)

    def _whole(self, timer: Timer) -> list[dict[str, Any]]:
        facts = self.facts[:MOST_FACTS]
        backbone = self.backbone if self.suite == "cpu" else "Llama 3 8B's shape, random weights"
        rows = tuning_rows(timer, self._make, facts, self.sizes.whole)
        rows += generation_rows(timer, self._make, facts, self.sizes.whole)
        return [{"backbone": backbone, "facts": len(facts), **row} for row in rows]

    def _make(self) -> Backbone:
        if self.suite == "cpu":
            return asked_backbone(self.backbone, "cpu")
        return random_backbone(llama_8b(), asked_backbone(TOKENIZER, "cpu").tokenizer, self.device)
