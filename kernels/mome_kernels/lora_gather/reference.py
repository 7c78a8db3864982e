"""The gathered LoRA in plain torch: one batched product down and one up, gradients written out."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mome.kernels.row_sum.reference import Groups, group, sum_groups


class LoraGather(Function):
    """See `mome.kernels.lora_gather.lora_gather`; `dtype` is that of the products."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        a: torch.Tensor,
        b: torch.Tensor,
        ids: torch.Tensor,
        w: torch.Tensor,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        """[Q, T, d_out]; the inner size KR holds each question's slices one after another."""
        inner = x.to(dtype)
        downs, ups = _gather(a, ids, dtype), _gather(b, ids, dtype)
        weights = _spread(w.to(dtype), a.shape[1])
        hidden = torch.bmm(inner, downs.transpose(1, 2))
        needs_x, needs_a, needs_b, _, needs_w, _ = ctx.needs_input_grad
        ctx.save_for_backward(
            inner if needs_a else None,
            downs if needs_x else None,
            ups if needs_x or needs_a or needs_w else None,
            hidden if needs_b or needs_w else None,
            weights,
            ids,
        )
        ctx.table = (a.shape, b.shape)
        ctx.dtypes = (x.dtype, a.dtype, b.dtype, w.dtype)
        return torch.bmm(hidden * weights, ups)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of x, a, b and w, only those asked for."""
        inner, downs, ups, hidden, weights, ids = ctx.saved_tensors
        needs_x, needs_a, needs_b, _, needs_w, _ = ctx.needs_input_grad
        x_type, a_type, b_type, w_type = ctx.dtypes
        a_shape, b_shape = ctx.table
        groups = group(ids.flatten(), a_shape[0]) if needs_a or needs_b else None
        of_x = of_a = of_b = of_w = None
        if needs_b:
            per_slice = torch.bmm((hidden * weights).transpose(1, 2), gradient)
            of_b = _scatter(groups, per_slice, b_shape).to(b_type)
        if needs_x or needs_a or needs_w:
            of_hidden = torch.bmm(gradient, ups.transpose(1, 2))
        if needs_w:
            of_w = _weight_gradient(of_hidden, hidden, ids.shape).to(w_type)
        if needs_x or needs_a:
            of_hidden = of_hidden * weights
        if needs_a:
            of_a = _scatter(groups, torch.bmm(of_hidden.transpose(1, 2), inner), a_shape).to(a_type)
        if needs_x:
            of_x = torch.bmm(of_hidden, downs).to(x_type)
        return of_x, of_a, of_b, None, of_w, None


def _gather(table: torch.Tensor, ids: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The slices of each question's experts: [Q, KR, d]."""
    # Casting a small block once is less work than casting each of its copies; a whole table is not to be cast at all.
    if len(table) <= ids.numel():
        table = table.to(dtype)
    rows = table.flatten(1).index_select(0, ids.flatten()).to(dtype)
    return rows.view(len(ids), ids.shape[1] * table.shape[1], table.shape[2])


def _spread(w: torch.Tensor, rank: int) -> torch.Tensor:
    """Weights [Q, K] as [Q, 1, KR], one for each slice."""
    return (w if rank == 1 else w.repeat_interleave(rank, dim=1)).unsqueeze(1)


def _scatter(groups: Groups, per_slice: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Sum gradients [Q, KR, d] of gathered slices into their table [n, R, d]."""
    return sum_groups(groups, per_slice.view(-1, shape[1] * shape[2])).view(shape)


def _weight_gradient(of_weighted: torch.Tensor, hidden: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Gradient of the weights [Q, K] from both factors' [Q, T, KR], summed over tokens and rank in f32 (or f64)."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    per_slice = (of_weighted.to(dtype) * hidden).sum(dim=1)
    return per_slice.view(*shape, -1).sum(dim=2)
