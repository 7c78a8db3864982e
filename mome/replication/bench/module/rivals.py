"""Contenders without our kernels: gather and bmm in plain torch, PEFT's LoRA, an embedding table.

All use autograd on a module that is the frozen linear layer itself or, where y is given, returns y.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from mome.replication.bench.module.contenders import ModuleContender, Tables
from mome.replication.bench.module.problem import ADAFACTOR_EPSILON, BETAS, EPSILON, RATE, Optimizer, Problem
from mome.replication.bench.tables import GATHERED

DECAY = -0.8


class Given(nn.Linear):
    """A linear module whose result is given."""

    y: Tensor

    def forward(self, input: Tensor) -> Tensor:
        return self.y


def base_layer(problem: Problem) -> nn.Linear:
    """The frozen module under the adapter."""
    kind = nn.Linear if problem.base == "frozen linear" else Given
    with torch.device("meta"):
        layer = kind(problem.sizes.d_in, problem.sizes.d_out, bias=False)
    layer.weight = nn.Parameter(problem.weight, requires_grad=False)
    if isinstance(layer, Given):
        layer.y = problem.y
    return layer


def gradient_of(leaf: Tensor) -> Tensor:
    """The gradient that the last backward left at a leaf."""
    if leaf.grad is None:
        raise RuntimeError("no gradient has reached this tensor")
    return leaf.grad


class Autograd(ModuleContender):
    """Forward and backward by autograd, then an update."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.x, self.layer = problem.x.detach().requires_grad_(), base_layer(problem)
        self.flat = problem.ids.flatten()

    def step(self) -> None:
        self.x.grad = None
        self.clear()
        output = self.forward()
        output.backward(self.problem.gradient)
        # a kept graph would keep its gradients' stream, on which no other stream could capture a CUDA graph
        self.output = output.detach()
        self.input_gradient = gradient_of(self.x)
        self.update()

    @abstractmethod
    def clear(self) -> None:
        """Drop the gradients of the step before."""

    @abstractmethod
    def forward(self) -> Tensor:
        """The module's result [Q, T, d_out]."""

    @abstractmethod
    def update(self) -> None:
        """Use the gradients."""

    def with_experts(self, block: Tensor) -> Tensor:
        """The module's result with the selected rows [Q K, width] by two batched products."""
        problem = self.problem
        a, b = (part.reshape(len(problem.ids), -1, part.shape[2]) for part in problem.slices(block))
        weights = problem.w.repeat_interleave(problem.sizes.rank, dim=1)[:, None]
        return torch.baddbmm(self.layer(self.x), torch.bmm(self.x, a.transpose(1, 2)) * weights, b)


class Gathered(Autograd):
    """Gather + bmm in plain torch, autograd on the gathered block, the optimizer's formulas on that block.

    Without kernels and without waiting for the device: every selection carries its row's whole gradient, so rows that
    were selected more than once are written more than once, with the same numbers.
    """

    name = GATHERED

    def __init__(self, problem: Problem, tables: Tables, optimizer: Optimizer) -> None:
        super().__init__(problem)
        self.tables, self.optimizer = tables, optimizer
        self.block = tables.rows[:0]
        self.reset()

    def clear(self) -> None:
        self.block = self.tables.rows.index_select(0, self.flat).requires_grad_()

    def forward(self) -> Tensor:
        return self.with_experts(self.block)

    @torch.no_grad()
    def update(self) -> None:
        tables, flat = self.tables, self.flat
        gradient, same = self._summed()
        tables.count(flat)
        steps = tables.steps.index_select(0, flat)[:, None].double()
        block = self.block.detach().float()
        if self.optimizer == "adam":
            block += self._adam(gradient, steps)
        else:
            block += self._adafactor(gradient, steps, same)
        tables.rows.index_copy_(0, flat, block.to(tables.rows.dtype))

    def _summed(self) -> tuple[Tensor, Tensor]:
        """Each selection's row gradient [m, width] f32, and how often its row was selected [m, 1]."""
        first = torch.searchsorted(self.flat.sort().values, self.flat)
        gradient = gradient_of(self.block).float()
        sums = torch.zeros_like(gradient).index_add_(0, first, gradient)
        counts = torch.zeros(len(first), 1, device=first.device).index_add_(0, first, torch.ones_like(gradient[:, :1]))
        return sums.index_select(0, first), counts.index_select(0, first)

    def _adam(self, gradient: Tensor, steps: Tensor) -> Tensor:
        beta1, beta2 = BETAS
        first, second = (table.index_select(0, self.flat) for table in self.tables.averages)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        for table, values in zip(self.tables.averages, (first, second), strict=True):
            table.index_copy_(0, self.flat, values)
        size, correction = (-RATE / (1 - beta1**steps)).float(), (1 - beta2**steps).rsqrt().float()
        return first.mul_(size).div_(second.sqrt_().mul_(correction).add_(EPSILON))

    def _adafactor(self, gradient: Tensor, steps: Tensor, same: Tensor) -> Tensor:
        tables, share = self.tables, 1 / same  # a row selected twice counts half each time
        distinct = share.sum()
        squares = gradient.square().add_(ADAFACTOR_EPSILON)
        weight, row_weight = tables.updates.double().pow(DECAY).float(), steps.pow(DECAY).float().squeeze(1)
        tables.columns.lerp_((squares * share).sum(dim=0) / distinct, weight)
        average = tables.row_average.index_select(0, self.flat).lerp(squares.mean(dim=1), row_weight)
        tables.row_average.index_copy_(0, self.flat, average)
        mean = (average * share.squeeze(1)).sum() / distinct
        change = gradient * tables.columns.rsqrt() * (mean / average).sqrt()[:, None]
        size = ((change.square() * share).sum() / (distinct * change.shape[1])).sqrt()
        return change * (-RATE / size.clamp_min(1.0))

    def rows(self) -> Tensor:
        return self.tables.rows.index_select(0, self.problem.used)

    def row_gradients(self) -> Tensor:
        gradient, _ = self._summed()
        place = torch.searchsorted(self.problem.used, self.flat)
        return torch.zeros_like(self.problem.rows, dtype=torch.float32).index_copy_(0, place, gradient)

    def reset(self) -> None:
        self.tables.reset(self.problem, self.optimizer)


class ByOptimizer(Autograd):
    """Parameters updated by an optimizer of torch."""

    optimizer_of_torch: torch.optim.Optimizer

    def clear(self) -> None:
        self.optimizer_of_torch.zero_grad(set_to_none=True)

    def update(self) -> None:
        self.optimizer_of_torch.step()

    def restart(self) -> None:
        """The optimizer's state as at the start, in place."""
        for state in self.optimizer_of_torch.state.values():
            for name, value in state.items():
                state[name] = value.zero_() if isinstance(value, Tensor) else 0


def fast_adam(parameters: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Torch's fastest Adam."""
    on_gpu = device.type == "cuda"
    return torch.optim.Adam(parameters, lr=RATE, betas=BETAS, eps=EPSILON, fused=True, capturable=on_gpu)


class Lora(ByOptimizer):
    """PEFT's LoRA of rank K R on the module, for the problem that all questions share; adapters of `dtype`."""

    def __init__(self, problem: Problem, dtype: torch.dtype) -> None:
        super().__init__(problem)
        rank = problem.sizes.experts
        self.name = self.title(problem, dtype)
        holder = nn.Module()
        holder.layer = self.layer
        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["layer"])
        # by default PEFT keeps adapters in f32
        peft: Any = get_peft_model(holder, config, autocast_adapter_dtype=dtype == torch.float32)
        self.adapted = peft.base_model.model.layer
        self.parts: list[nn.Parameter] = [self.adapted.lora_A.default.weight, self.adapted.lora_B.default.weight]
        if {part.dtype for part in self.parts} != {dtype}:
            raise RuntimeError(f"{self.name}: PEFT made adapters of {[part.dtype for part in self.parts]}")
        self.optimizer_of_torch = fast_adam(self.parts, problem.device)
        with torch.no_grad():
            self.reset()

    @staticmethod
    def title(problem: Problem, dtype: torch.dtype) -> str:
        """Its name."""
        return f"PEFT LoRA r={problem.sizes.experts}, {str(dtype).removeprefix('torch.')}"

    def forward(self) -> Tensor:
        result: Tensor = self.adapted(self.x)
        return result

    def rows(self) -> Tensor:
        down, up = self.parts
        return torch.cat([down, up.T], dim=1)

    def row_gradients(self) -> Tensor:
        down, up = (gradient_of(part) for part in self.parts)
        return torch.cat([down, up.T], dim=1)

    def reset(self) -> None:
        down, up = self.problem.rows.split((self.problem.sizes.d_in, self.problem.sizes.d_out), dim=1)
        self.parts[0].copy_(down)
        self.parts[1].copy_(up.T)
        self.restart()


class Embedding(ByOptimizer):
    """All rows as an embedding table, with SparseAdam on sparse gradients or Adam on dense ones."""

    def __init__(self, problem: Problem, sparse: bool) -> None:
        super().__init__(problem)
        self.name = self.title(sparse)
        self.capturable = not sparse
        table = torch.zeros(problem.experts, problem.sizes.width, dtype=problem.x.dtype, device=problem.device)
        self.table = nn.Embedding.from_pretrained(table, freeze=False, sparse=sparse)
        self.optimizer_of_torch = (
            torch.optim.SparseAdam([self.table.weight], lr=RATE, betas=BETAS, eps=EPSILON)
            if sparse
            else fast_adam([self.table.weight], problem.device)
        )
        with torch.no_grad():
            self.reset()

    @staticmethod
    def title(sparse: bool) -> str:
        """Its name."""
        return "nn.Embedding(sparse=True) + SparseAdam" if sparse else "nn.Embedding + Adam"

    def forward(self) -> Tensor:
        return self.with_experts(self.table(self.flat))

    def rows(self) -> Tensor:
        return self.table.weight.index_select(0, self.problem.used)

    def row_gradients(self) -> Tensor:
        gradient = gradient_of(self.table.weight)
        found = gradient.coalesce() if gradient.is_sparse else gradient
        return found.index_select(0, self.problem.used).to_dense()

    def reset(self) -> None:
        self.table.weight.index_copy_(0, self.problem.used, self.problem.rows)
        self.restart()
