"""The contenders for the training step of `problem`: what each one is, and our kernels.

A step is a function without arguments that never waits for the device, so that it can become a CUDA graph. What it
computed last stays in the contender's attributes, where the check finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from mome.adapter.bank import ROWS, Bank
from mome.kernels.lora_gather import lora_gather_backward, lora_gather_forward
from mome.kernels.row_update import adafactor_, adam_
from mome.replication.bench.module.problem import (
    ADAFACTOR_EPSILON,
    BETAS,
    EPSILON,
    RATE,
    Optimizer,
    Outcome,
    Problem,
    expected,
)
from mome.replication.bench.tables import EXPERTS
from mome.replication.bench.timing import Run, difference, require

MODULE = "module"


# Of results and gradients, and of changes of rows. The first step of Adam is the gradient's sign, whatever its size, so
# the few numbers whose gradient is next to nothing may move the other way.
BOUNDS = {torch.float32: (1e-4, 0.02), torch.bfloat16: (0.02, 0.2)}


class ModuleContender(ABC):
    """A way to take the step. After `step`, `output` and `input_gradient` hold what it computed.

    `capturable`: whether a CUDA graph can hold the step.
    """

    name: str
    optimizer: Optimizer = "adam"
    capturable = True

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.output = self.input_gradient = problem.y

    @abstractmethod
    def step(self) -> None:
        """Forward, backward and update, once."""

    @abstractmethod
    def rows(self) -> Tensor:
        """The numbers [n, width] of the rows in use, as they are now."""

    @abstractmethod
    def row_gradients(self) -> Tensor:
        """Their gradients in the last step."""

    @abstractmethod
    def reset(self) -> None:
        """Put rows and optimizer back to the start, in place."""

    def outcome(self, run: Run) -> Outcome:
        """What one step from the start leaves."""
        with torch.no_grad():
            self.reset()
            before = self.rows().double()
        run()
        with torch.no_grad():
            change = self.rows().double() - before
            return Outcome(self.output.detach(), self.input_gradient, self.row_gradients(), change)


class Tables:
    """Rows [N, width] of a bank with the optimizers' state, for all problems of one size, on their device.

    On a CPU they are a bank's, whose memory the system provides row by row as it is written.
    """

    def __init__(self, problem: Problem) -> None:
        sizes, self.bank = problem.sizes, None
        self.experts, self.width, self.device = problem.experts, sizes.width, problem.device
        if problem.device.type == "cpu":
            shapes = {MODULE: (sizes.d_in, sizes.d_out)}
            self.bank = Bank(problem.experts, shapes, sizes.rank, problem.x.dtype)
        self.rows = self._table(ROWS + MODULE, sizes.width, problem.x.dtype)
        self.steps = self._table("steps", 1, torch.int32).view(-1)
        self.columns = torch.zeros(sizes.width, device=problem.device)
        self.updates = torch.zeros((), dtype=torch.int64, device=problem.device)

    def _table(self, name: str, width: int, dtype: torch.dtype) -> Tensor:
        if self.bank is not None:
            return self.bank.table(name, width, dtype)
        return torch.zeros(self.experts, width, dtype=dtype, device=self.device)

    @cached_property
    def averages(self) -> tuple[Tensor, Tensor]:
        """Adam's, made when first asked for: f32 of 4 N width bytes each."""
        return self._table("first", self.width, torch.float32), self._table("second", self.width, torch.float32)

    @cached_property
    def row_average(self) -> Tensor:
        """Adafactor's of the rows [N]."""
        return self._table("row", 1, torch.float32).view(-1)

    def count(self, ids: Tensor) -> None:
        """One more update for the rows `ids` [m], whether an id is there once or more often."""
        self.steps.index_copy_(0, ids, self.steps.index_select(0, ids) + 1)
        self.updates.add_(1)

    def reset(self, problem: Problem, optimizer: Optimizer) -> None:
        """Rows in use as the problem has them, statistics zero."""
        used = problem.used
        self.rows.index_copy_(0, used, problem.rows)
        kept = [self.steps, *(self.averages if optimizer == "adam" else (self.row_average,))]
        for table in kept:
            table.index_fill_(0, used, 0)
        self.columns.zero_()
        self.updates.zero_()


class Experts(ModuleContender):
    """Ours: `lora_gather` on views of the table, its backward with a gradient for each selection, `row_update`."""

    name = EXPERTS

    def __init__(self, problem: Problem, tables: Tables, optimizer: Optimizer, impl: str) -> None:
        super().__init__(problem)
        self.tables, self.optimizer, self.impl = tables, optimizer, impl
        self.a, self.b = problem.slices(tables.rows)
        self.selected = tables.rows[:0]
        self.reset()

    @torch.no_grad()
    def step(self) -> None:
        problem = self.problem
        frozen = problem.base == "frozen linear"
        y = functional.linear(problem.x, problem.weight) if frozen else problem.y
        experts = (problem.x, self.a, self.b, problem.ids, problem.w)
        self.output, hidden = lora_gather_forward(*experts, y, impl=self.impl)
        of = lora_gather_backward(problem.gradient, *experts, hidden, needs=("x", "a", "b"), impl=self.impl)
        assert of.x is not None and of.rows is not None
        self.input_gradient, self.selected = of.x, of.rows.flatten(0, 1)
        if frozen:
            flat = torch.addmm(of.x.flatten(0, 1), problem.gradient.flatten(0, 1), problem.weight)
            self.input_gradient = flat.view_as(of.x)
        self._update()

    def _update(self) -> None:
        tables, (ids, order) = self.tables, self.problem.ids.flatten().sort(stable=True)
        tables.count(ids)
        update = (ids, self.selected, order)
        if self.optimizer == "adam":
            state = (*tables.averages, tables.steps)
            adam_(tables.rows, *state, *update, rate=RATE, betas=BETAS, epsilon=EPSILON, impl=self.impl)
        else:
            statistics = (tables.row_average, tables.columns, tables.steps, tables.updates)
            adafactor_(tables.rows, *statistics, *update, rate=RATE, epsilon=ADAFACTOR_EPSILON, impl=self.impl)

    def rows(self) -> Tensor:
        return self.tables.rows.index_select(0, self.problem.used)

    def row_gradients(self) -> Tensor:
        place = torch.searchsorted(self.problem.used, self.problem.ids.flatten())
        return torch.zeros_like(self.problem.rows, dtype=torch.float64).index_add_(0, place, self.selected.double())

    def reset(self) -> None:
        self.tables.reset(self.problem, self.optimizer)


def checked(name: str, contender: ModuleContender) -> Callable[[Run], None]:
    """A check of one step of the contender, taken by `run`, against the step in f64; raises CheckError."""

    def check(run: Run) -> None:
        found, right = contender.outcome(run), expected(contender.problem, contender.optimizer)
        of_results, of_change = BOUNDS[contender.problem.x.dtype]
        require(difference(found.output, right.output), of_results, f"{name}: output")
        require(difference(found.input_gradient, right.input_gradient), of_results, f"{name}: gradient of the input")
        require(difference(found.row_gradients, right.row_gradients), of_results, f"{name}: gradients of the rows")
        require(difference(found.change, right.change), of_change, f"{name}: change of the rows")

    return check
