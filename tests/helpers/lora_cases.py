"""Cases of lora_gather, its definition one expert at a time, and how near a kernel must come to it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Case(NamedTuple):
    """Arguments of the operation."""

    x: torch.Tensor
    a: torch.Tensor
    b: torch.Tensor
    ids: torch.Tensor
    w: torch.Tensor


def make_case(
    sizes: tuple[int, ...] = (3, 5, 7, 11, 4, 2, 9), repeats: float = 0.5, dtype: torch.dtype = torch.float64
) -> Case:
    """Random arguments of sizes (Q, T, d_in, d_out, K, R, n); a share of the ids is expert 0."""
    questions, tokens, d_in, d_out, k, rank, count = sizes
    generator = torch.Generator().manual_seed(sum(sizes))

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    picks = torch.arange(questions * k).remainder(count).view(questions, k)
    picks[torch.rand(questions, k, generator=generator) < repeats] = 0
    return Case(
        normal(questions, tokens, d_in),
        normal(count, rank, d_in),
        normal(count, rank, d_out),
        picks,
        normal(questions, k),
    )


def by_definition(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ids: torch.Tensor, w: torch.Tensor
) -> torch.Tensor:
    """The sum of the definition, one question and expert at a time, differentiated by autograd."""
    rows = []
    for question in range(len(x)):
        parts = [w[question, k] * (x[question] @ a[i].T) @ b[i] for k, i in enumerate(ids[question].tolist())]
        rows.append(torch.stack(parts).sum(dim=0))
    return torch.stack(rows)


def gradients(result: torch.Tensor, case: Case, towards: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(result, (case.x, case.a, case.b, case.w), towards.to(result.dtype))


F32, BF16 = torch.float32, torch.bfloat16
TOLERANCE = {F32: 2e-6, BF16: 0.02}


def moved(values: tuple[Tensor, ...], device: str, dtype: torch.dtype | None = None) -> tuple[Tensor, ...]:
    """Leaves on another device, of another dtype where they are no ids."""
    return tuple(
        value.detach()
        .to(device, dtype if dtype and value.is_floating_point() else None)
        .requires_grad_(value.requires_grad)
        for value in values
    )


def assert_near(found: Tensor, right: Tensor, tolerance: float) -> None:
    """As a whole: by the norm of the difference, which no NaN passes."""
    assert found.shape == right.shape
    assert (found.detach().cpu().double() - right).norm() <= tolerance * right.norm() + 1e-30
