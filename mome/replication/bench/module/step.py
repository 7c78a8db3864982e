"""Benchmark 1: the whole training step of one adapted linear module, over the number of experts N.

All contenders take the step of `problem` from the same inputs. LoRA has one set of matrices for all questions, of as
many numbers as one question's experts. So its problem is another one, and its times do not depend on N.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, get_args

import psutil
import torch

from mome.replication.bench import traffic
from mome.replication.bench.module.contenders import Experts, ModuleContender, Tables, checked
from mome.replication.bench.module.problem import Base, Optimizer, make_problem
from mome.replication.bench.module.rivals import Embedding, Gathered, Lora
from mome.replication.bench.tables import OUT_OF_MEMORY, unmeasured
from mome.replication.bench.timing import Case, Timer
from mome.replication.bench.traffic import ModuleSizes

# of the memory that is free, the share that an embedding table with its gradients and averages may take on a CPU
FREE_SHARE = 0.5
IDENTITY = ("contender", "experts", "optimizer", "base", "mode", "cache")


@dataclass(frozen=True, slots=True)
class StepSizes:
    """The module, the dtype of all its numbers, and the numbers of experts."""

    module: ModuleSizes
    dtype: torch.dtype
    experts: Sequence[int]


def step_rows(timer: Timer, sizes: StepSizes, impl: str) -> list[dict[str, Any]]:
    """Rows of a table: contender, optimizer, base, experts, the module's sizes, and times as `Timer` gives them.

    `impl` is that of our ops. `over_ours` is the median over that of our ops with the same optimizer, base, experts and
    mode; `over_smallest` that over the contender's own with the fewest experts.

    Raises:
        CheckError: a contender's result, gradients or change of the rows are wrong.
    """
    rows = []
    for experts, base in product(sizes.experts, get_args(Base)):
        rows += _Step(timer, sizes, experts, base, impl).rows()
    return with_ratios(rows)


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `over_ours` and `over_smallest`, NaN where either time was not measured."""
    medians = {tuple(row.get(name) for name in IDENTITY): row.get("median_us", math.nan) for row in rows}
    fewest = min(row["experts"] for row in rows)
    found = []
    for row in rows:
        own, _, *others = (row.get(name) for name in IDENTITY)
        median = row.get("median_us", math.nan)
        ours = medians.get((Experts.name, row["experts"], *others), math.nan)
        smallest = medians.get((own, fewest, *others), math.nan)
        found.append({**row, "over_ours": median / ours, "over_smallest": median / smallest})
    return found


class _Step:
    """All contenders for one number of experts and one base."""

    def __init__(self, timer: Timer, sizes: StepSizes, experts: int, base: Base, impl: str) -> None:
        self.timer, self.sizes, self.impl = timer, sizes, impl
        made = (sizes.module, experts, base, sizes.dtype, timer.device)
        self.problem, self.repeated = make_problem(*made), make_problem(*made, repeated=True)

    def rows(self) -> list[dict[str, Any]]:
        """Those that need little beside the shared table take turns; each embedding table is timed alone, and whole."""
        rows = self._timed(list(self._together()))
        if self.problem.base == "frozen linear":
            for sparse in (True, False):
                rows += self._timed([self._embedding(sparse)])
        return rows

    def _timed(self, found: list[Case | dict[str, Any]]) -> list[dict[str, Any]]:
        rows = self.timer.rows([case for case in found if isinstance(case, Case)])
        return rows + [row for row in found if isinstance(row, dict)]

    def _together(self) -> Iterator[Case | dict[str, Any]]:
        module, shared = self.sizes.module, self.problem.shared()
        tables = Tables(self.problem)
        for optimizer in get_args(Optimizer):
            moved = traffic.expert_step(module, optimizer)
            for kind in (Experts, Gathered):
                make = partial(self._on_tables, kind, tables, optimizer)
                yield self._case(kind.name, optimizer, moved, make)
        for dtype in dict.fromkeys((self.sizes.dtype, torch.float32)):
            moved = traffic.lora_step(module, dtype.itemsize)
            yield self._case(Lora.title(shared, dtype), "adam", moved, partial(Lora, shared, dtype))

    def _on_tables(self, kind: type[Experts] | type[Gathered], tables: Tables, optimizer: Optimizer) -> ModuleContender:
        """A contender that was also right where half the selected experts are selected twice."""
        for problem in (self.repeated, self.problem):
            if kind is Experts:
                made: ModuleContender = Experts(problem, tables, optimizer, self.impl)
            else:
                made = Gathered(problem, tables, optimizer)
            if problem is self.repeated:
                checked(f"{kind.name}, {optimizer}, rows selected twice", made)(made.step)
        return made

    def _embedding(self, sparse: bool) -> Case | dict[str, Any]:
        module, experts = self.sizes.module, self.problem.experts
        moved = traffic.table_step(module, experts, dense=not sparse)
        name = Embedding.title(sparse)
        needed = experts * module.width * module.item * (3 if sparse else 4)
        free = FREE_SHARE * psutil.virtual_memory().available
        if self.timer.device.type == "cpu" and needed > free:
            note = f"needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB may be taken"
            return unmeasured(self._labels(name, "adam"), note)
        return self._case(name, "adam", moved, partial(Embedding, self.problem, sparse))

    def _case(
        self, name: str, optimizer: Optimizer, moved: int, make: Callable[[], ModuleContender]
    ) -> Case | dict[str, Any]:
        labels = self._labels(name, optimizer)
        if self.problem.base == "frozen linear":
            moved += traffic.frozen_linear(self.sizes.module)
        try:
            made = make()
        except torch.OutOfMemoryError:
            return unmeasured(labels, OUT_OF_MEMORY)
        title = ", ".join(str(labels[column]) for column in ("contender", "optimizer", "base", "experts"))
        return Case(labels, moved, made.step, checked(title, made), made.step if made.capturable else None)

    def _labels(self, name: str, optimizer: Optimizer) -> dict[str, Any]:
        module, dtype = self.sizes.module, str(self.sizes.dtype).removeprefix("torch.")
        labels = {"contender": name, "impl": self.impl if name == Experts.name else "", "optimizer": optimizer}
        labels["base"] = self.problem.base
        sizes = {"questions": module.questions, "tokens": module.tokens, "k": module.experts, "rank": module.rank}
        widths = {"d_in": module.d_in, "d_out": module.d_out, "dtype": dtype}
        return {**labels, "experts": self.problem.experts, **sizes, **widths}
