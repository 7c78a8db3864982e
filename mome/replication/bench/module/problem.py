"""One training step of one adapted linear module: its inputs, and its expected results in f64.

The step: forward `y + sum_k w_k (x a_k^T) b_k` for Q questions of T tokens with K experts each, backward from a given
gradient of the result, and the first step of Adam or Adafactor on the rows (a, b) in use. With the `base` "frozen
linear" y is x W^T of the module itself, and its part of x's gradient is computed too. With "given" y is an input, for
the step of the experts alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from mome.replication.bench.traffic import ModuleSizes

Base = Literal["frozen linear", "given"]
Optimizer = Literal["adam", "adafactor"]

# A step of Adam or Adafactor moves a number by about this much, or ten times what bf16 rounds away at the rows' size.
RATE = 2e-3
BETAS, EPSILON = (0.9, 0.999), 1e-8
ADAFACTOR_EPSILON = 1e-30


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything on one device, in one dtype but for the ids; N rows of experts in all, `rows` are those in use.

    x [Q, T, d_in], weight [d_out, d_in], y and gradient [Q, T, d_out], ids [Q, K], w [Q, K]; used [n] ascending, the
    distinct ids, and rows [n, R (d_in + d_out)], their numbers at the start.
    """

    sizes: ModuleSizes
    experts: int
    base: Base
    x: Tensor
    weight: Tensor
    y: Tensor
    gradient: Tensor
    ids: Tensor
    w: Tensor
    used: Tensor
    rows: Tensor

    @property
    def device(self) -> torch.device:
        return self.x.device

    def slices(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """a [n, R, d_in] and b [n, R, d_out] of rows [n, R (d_in + d_out)], as views."""
        rank, d_in, d_out = self.sizes.rank, self.sizes.d_in, self.sizes.d_out
        a, b = rows.split((rank * d_in, rank * d_out), dim=1)
        return a.unflatten(1, (rank, d_in)), b.unflatten(1, (rank, d_out))

    def shared(self) -> Problem:
        """The same with one set of K R rows for all questions, weights 1: that is LoRA of rank K R."""
        sizes = replace(self.sizes, experts=self.sizes.experts * self.sizes.rank, rank=1)
        used = torch.arange(sizes.experts, device=self.device)
        ids = used.repeat(sizes.questions, 1)
        rows = _random_rows(sizes, len(used), self.x.dtype, self.device, torch.Generator(self.device).manual_seed(1))
        w = torch.ones_like(ids, dtype=self.w.dtype)
        return replace(self, sizes=sizes, experts=sizes.experts, ids=ids, w=w, used=used, rows=rows)


def make_problem(
    sizes: ModuleSizes,
    experts: int,
    base: Base,
    dtype: torch.dtype,
    device: torch.device,
    *,
    repeated: bool = False,
    seed: int = 0,
) -> Problem:
    """A random problem. All Q K experts in use differ, so a larger bank means no more of them; `repeated`: half do.

    Raises:
        ValueError: there are fewer than Q K experts.
    """
    count = sizes.selected
    if experts < count:
        raise ValueError(f"experts: {count} different ones are selected, so there must be as many, got {experts}")
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).to(dtype)

    chosen = torch.randperm(experts, generator=generator, device=device)[:count]
    if repeated:
        chosen = chosen[torch.randperm(count, generator=generator, device=device) // 2]
    x, weight = normal(sizes.questions, sizes.tokens, sizes.d_in), normal(sizes.d_out, sizes.d_in) / sizes.d_in**0.5
    used = chosen.unique()
    return Problem(
        sizes=sizes,
        experts=experts,
        base=base,
        x=x,
        weight=weight,
        y=functional.linear(x, weight),
        gradient=normal(sizes.questions, sizes.tokens, sizes.d_out),
        ids=chosen.view(sizes.questions, sizes.experts),
        w=(0.5 + torch.rand(sizes.questions, sizes.experts, generator=generator, device=device)).to(dtype),
        used=used,
        rows=_random_rows(sizes, len(used), dtype, device, generator),
    )


def _random_rows(
    sizes: ModuleSizes, count: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator
) -> Tensor:
    drawn = torch.rand(count, sizes.width, generator=generator, device=device)
    return ((2 * drawn - 1) / sizes.d_in**0.5).to(dtype)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a step: output [Q, T, d_out], input's gradient, and for each row in use gradient and change."""

    output: Tensor
    input_gradient: Tensor
    row_gradients: Tensor
    change: Tensor


@torch.no_grad()
def expected(problem: Problem, optimizer: Optimizer) -> Outcome:
    """The step in f64, question by question, from the formulas alone."""
    x, gradient, w, rows = (part.double() for part in (problem.x, problem.gradient, problem.w, problem.rows))
    a, b = problem.slices(rows)
    place = torch.searchsorted(problem.used, problem.ids)
    frozen = problem.base == "frozen linear"
    output = x @ problem.weight.double().T if frozen else problem.y.double()
    of_x = gradient @ problem.weight.double() if frozen else torch.zeros_like(x)
    of_rows = torch.zeros_like(rows)
    of_a, of_b = problem.slices(of_rows)
    for question in range(len(x)):
        mine = place[question]
        hidden = torch.einsum("td,krd->tkr", x[question], a[mine])
        weighted = hidden * w[question, :, None]
        output[question] += torch.einsum("tkr,krd->td", weighted, b[mine])
        of_weighted = torch.einsum("td,krd->tkr", gradient[question], b[mine]) * w[question, :, None]
        of_x[question] += torch.einsum("tkr,krd->td", of_weighted, a[mine])
        of_a.index_add_(0, mine, torch.einsum("tkr,td->krd", of_weighted, x[question]))
        of_b.index_add_(0, mine, torch.einsum("tkr,td->krd", weighted, gradient[question]))
    change = _adam(of_rows) if optimizer == "adam" else _adafactor(of_rows)
    return Outcome(output, of_x, of_rows, change)


def _adam(gradient: Tensor) -> Tensor:
    """Adam's first step (arXiv 1412.6980, algorithm 1): both corrected averages are those of this one gradient."""
    return -RATE * gradient / (gradient.abs() + EPSILON)


def _adafactor(gradient: Tensor) -> Tensor:
    """Adafactor's first step on the matrix of the rows (arXiv 1804.04235, algorithm 4) at a fixed rate."""
    squares = gradient.square() + ADAFACTOR_EPSILON
    of_rows, of_columns = squares.mean(dim=1, keepdim=True), squares.mean(dim=0, keepdim=True)
    change = gradient / (of_rows * of_columns / of_rows.mean()).sqrt()
    return -RATE * change / max(1.0, float(change.square().mean().sqrt()))
