"""The gathered LoRA in plain torch: one batched product down and one up, gradients written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mome.kernels.row_sum.reference import group, sum_groups


class Needs(NamedTuple):
    """Which gradients are asked for."""

    x: bool
    a: bool
    b: bool
    w: bool


class Gathered(NamedTuple):
    """What the gradients are made of; the inner size KR holds each question's slices one after another.

    x [Q, T, d_in] for a's; downs [Q, KR, d_in] for x's; ups [Q, KR, d_out] for x's, a's and w's; hidden [Q, T, KR] for
    b's and w's; weights [Q, 1, KR]. All in the dtype of the products; what is not needed may be None.
    """

    x: Tensor | None
    downs: Tensor | None
    ups: Tensor | None
    hidden: Tensor | None
    weights: Tensor


class Gradients(NamedTuple):
    """Of x, a, b and w; None for what is not asked for."""

    x: Tensor | None
    a: Tensor | None
    b: Tensor | None
    w: Tensor | None


def lora_gather(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """See `mome.kernels.lora_gather.op.forward`."""
    out, gathered = _forward(x, a, b, ids, w, y, dtype)
    assert gathered.hidden is not None
    return out, gathered.hidden


def lora_gather_backward(
    gradient: Tensor,
    x: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    ids: Tensor,
    w: Tensor,
    hidden: Tensor | None,
    needs: Needs,
    rank: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """See `mome.kernels.lora_gather.op.backward`."""
    # downs [Q, KR, d_in], ups [Q, KR, d_out]
    downs, ups = (None if table is None else _gather(table, ids, dtype) for table in (a, b))
    inner = None if x is None else x.to(dtype)
    gathered = Gathered(inner, downs, ups, hidden, _spread(w.to(dtype), rank))
    # [Q, KR, d] -> [Q, K, R d]: the R slices of one selection side by side, as a row of a bank has them
    found = _gradients(
        gradient.to(dtype), gathered, needs, ids.shape, lambda rows: rows.view(*ids.shape, rank * rows.shape[2])
    )
    sides = [side for side in (found.a, found.b) if side is not None]
    # [Q, K, R d_in + R d_out]; f32 at least, because the optimizer adds rows of one expert up
    rows = torch.cat(sides, dim=2).to(torch.promote_types(dtype, torch.float32)) if sides else None
    return [value for value in (found.x, rows, found.w) if value is not None]


class LoraGather(Function):
    """`lora_gather` with gradients for whole tables, where the reference computes.

    It stands beside the operators because they cost a CPU more: 30 us a call on one core of an AMD EPYC, and a second
    gathering of the rows.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype
    ) -> Tensor:
        """[Q, T, d_out]; keeps the gathered rows that the gradients asked for take."""
        out, (inner, downs, ups, hidden, weights) = _forward(x, a, b, ids, w, y, dtype)
        needs_x, needs_a, needs_b, _, needs_w, *_ = ctx.needs_input_grad
        needs = Needs(needs_x, needs_a, needs_b, needs_w)
        ctx.save_for_backward(
            inner if needs.a else None,
            downs if needs.x else None,
            ups if needs.x or needs.a or needs.w else None,
            hidden if needs.b or needs.w else None,
            weights,
            ids,
        )
        ctx.needs, ctx.product = needs, dtype
        ctx.tables = (a.shape, b.shape)
        ctx.dtypes = (x.dtype, a.dtype, b.dtype, w.dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, a, b, w and y, only those asked for."""
        *saved, ids = ctx.saved_tensors
        (a_shape, b_shape), (x_type, a_type, b_type, w_type) = ctx.tables, ctx.dtypes
        groups = group(ids.flatten(), a_shape[0]) if ctx.needs.a or ctx.needs.b else None

        def summed(rows: Tensor) -> Tensor:
            assert groups is not None
            return sum_groups(groups, rows.view(-1, a_shape[1] * rows.shape[2]))  # [Q, KR, d] -> [Q K, R d] -> [n, R d]

        found = _gradients(gradient.to(ctx.product), Gathered(*saved), ctx.needs, ids.shape, summed)
        of_x = None if found.x is None else found.x.to(x_type)
        of_a = None if found.a is None else found.a.view(a_shape).to(a_type)  # [n, R d_in] -> [n, R, d_in]
        of_b = None if found.b is None else found.b.view(b_shape).to(b_type)  # [n, R d_out] -> [n, R, d_out]
        of_w = None if found.w is None else found.w.to(w_type)
        return of_x, of_a, of_b, None, of_w, gradient if ctx.needs_input_grad[5] else None, None


def _forward(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Gathered]:
    """The result, and all that its gradients can take."""
    inner = x.to(dtype)  # [Q, T, d_in]
    downs, ups = _gather(a, ids, dtype), _gather(b, ids, dtype)  # [Q, KR, d_in], [Q, KR, d_out]
    weights = _spread(w.to(dtype), a.shape[1])  # [Q, 1, KR]
    hidden = torch.bmm(inner, downs.transpose(1, 2))  # [Q, T, d_in] x [Q, d_in, KR] -> [Q, T, KR]
    added = torch.bmm(hidden * weights, ups)  # [Q, T, KR] x [Q, KR, d_out] -> [Q, T, d_out]
    out = added if y is None else y + added.to(y.dtype)
    return out, Gathered(inner, downs, ups, hidden, weights)


def _gradients(
    gradient: Tensor, gathered: Gathered, needs: Needs, shape: torch.Size, finish: Callable[[Tensor], Tensor]
) -> Gradients:
    """The gradients asked for, in the dtype of the products, but w's in f32 (f64 if the products are).

    `finish` takes a's and b's, [Q, KR, d], each as soon as it is there.
    """
    x, downs, ups, hidden, weights = gathered
    of_x = of_a = of_b = of_w = None
    if needs.b and hidden is not None:
        of_b = finish(torch.bmm((hidden * weights).transpose(1, 2), gradient))  # [Q, KR, T] x [Q, T, d_out]
    if ups is not None:
        of_hidden = torch.bmm(gradient, ups.transpose(1, 2))  # [Q, T, KR], before the weights
        if needs.w and hidden is not None:
            of_w = _weight_gradient(of_hidden, hidden, shape)
        if needs.x or needs.a:
            of_hidden = of_hidden * weights  # after them, as x and a take it
        if needs.a and x is not None:
            of_a = finish(torch.bmm(of_hidden.transpose(1, 2), x))  # [Q, KR, T] x [Q, T, d_in]
        if needs.x and downs is not None:
            of_x = torch.bmm(of_hidden, downs)  # [Q, T, KR] x [Q, KR, d_in] -> [Q, T, d_in]
    return Gradients(of_x, of_a, of_b, of_w)


def _gather(table: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """The slices of each question's experts: [Q, KR, d]."""
    # Casting a small block once is less work than casting each of its copies; a whole table is not to be cast at all.
    if len(table) <= ids.numel():
        table = table.to(dtype)
    rows = table.flatten(1).index_select(0, ids.flatten()).to(dtype)  # [n, R d] -> [Q K, R d]
    return rows.view(len(ids), ids.shape[1] * table.shape[1], table.shape[2])  # [Q, KR, d], expert after expert


def _spread(w: Tensor, rank: int) -> Tensor:
    """Weights [Q, K] as [Q, 1, KR], one for each slice."""
    return (w if rank == 1 else w.repeat_interleave(rank, dim=1)).unsqueeze(1)  # the 1 broadcasts over tokens


def _weight_gradient(of_weighted: Tensor, hidden: Tensor, shape: torch.Size) -> Tensor:
    """Gradient of the weights [Q, K] from both factors' [Q, T, KR], summed over tokens and rank in f32 (or f64)."""
    dtype = torch.promote_types(hidden.dtype, torch.float32)
    per_slice = (of_weighted.to(dtype) * hidden).sum(dim=1)  # [Q, KR]
    return per_slice.view(*shape, hidden.shape[2] // max(1, shape[1])).sum(dim=2)  # [Q, K, R] -> [Q, K]; K may be 0
