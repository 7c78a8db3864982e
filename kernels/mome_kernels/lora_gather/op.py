"""The gathered LoRA as operators of torch.library, and how gradients flow through them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from mome.kernels.dispatch import implementation
from mome.kernels.lora_gather.reference import Needs
from mome.kernels.row_sum.reference import Groups

KERNEL_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_SLICES = 256


@torch.library.custom_op("mome::lora_gather", mutates_args=())
def forward(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype, impl: str
) -> tuple[Tensor, Tensor]:
    """The result of `lora_gather` with products in `dtype`, and hidden [Q, T, K*R], each question's slices of x A^T."""
    module = implementing(x, a, b, ids, w, y, dtype, impl)
    found: tuple[Tensor, Tensor] = module.lora_gather(x, a, b, ids, w, y, dtype)
    return found


@forward.register_fake
def _(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype, impl: str
) -> tuple[Tensor, Tensor]:
    added = x.new_empty(*x.shape[:2], b.shape[2], dtype=dtype)
    hidden = x.new_empty(*x.shape[:2], ids.shape[1] * a.shape[1], dtype=dtype)
    return added if y is None else y.new_empty(added.shape), hidden


@torch.library.custom_op("mome::lora_gather_backward", mutates_args=())
def backward(
    gradient: Tensor,
    x: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    ids: Tensor,
    w: Tensor,
    hidden: Tensor | None,
    needs: list[bool],
    rank: int,
    dtype: torch.dtype,
    impl: str,
) -> list[Tensor]:
    """Those asked for of: x's gradient in `dtype`, each selection's row gradient, w's gradient.

    `needs` says for which of x, a, b, w a gradient is asked; of x, a, b and hidden just what `taken` says is given.
    `rank` is R.
    """
    module = _module(impl, dtype, ids.shape[1] * rank, (a, b), gradient, x, ids, w, hidden)
    found: list[Tensor] = module.lora_gather_backward(gradient, x, a, b, ids, w, hidden, Needs(*needs), rank, dtype)
    return found


@backward.register_fake
def _(
    gradient: Tensor,
    x: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    ids: Tensor,
    w: Tensor,
    hidden: Tensor | None,
    needs: list[bool],
    rank: int,
    dtype: torch.dtype,
    impl: str,
) -> list[Tensor]:
    wanted, found = Needs(*needs), []
    if wanted.x and a is not None:
        found.append(gradient.new_empty(*gradient.shape[:2], a.shape[2], dtype=dtype))
    exact = torch.promote_types(dtype, torch.float32)
    width = rank * ((x.shape[2] if wanted.a and x is not None else 0) + (gradient.shape[2] if wanted.b else 0))
    if wanted.a or wanted.b:
        found.append(gradient.new_empty(*ids.shape, width, dtype=exact))
    if wanted.w:
        found.append(gradient.new_empty(ids.shape, dtype=exact))
    return found


@torch.library.custom_op("mome::lora_gather_table_gradient", mutates_args=())
def table_gradient(rows: Tensor, ids: Tensor, count: int, impl: str) -> Tensor:
    """Row gradients [Q, K, width] summed by expert: [count, width], each from its first selection to its last."""
    # the groups are made here, so they need no check
    module = implementation("row_sum", impl, rows, ids)
    sums: Tensor = module.segment_sum(*_groups(ids, count), rows.flatten(0, 1))
    return sums


@table_gradient.register_fake
def _(rows: Tensor, ids: Tensor, count: int, impl: str) -> Tensor:
    return rows.new_empty(count, rows.shape[2])


def implementing(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype, impl: str
) -> ModuleType:
    """The module that computes `forward` of these arguments. Raises RuntimeError if `impl` is not possible."""
    return _module(impl, dtype, ids.shape[1] * a.shape[1], (a, b), x, ids, w, y)


def _module(
    impl: str, dtype: torch.dtype, slices: int, tables: tuple[Tensor | None, ...], *others: Tensor | None
) -> ModuleType:
    """The implementation for these arguments."""
    given = [tensor for tensor in (*tables, *others) if tensor is not None]
    obstacle = None if impl == "auto" and not given[0].is_cuda else _obstacle(dtype, slices, tables, given)
    return implementation("lora_gather", impl, *given, obstacle=obstacle)


def _obstacle(dtype: torch.dtype, slices: int, tables: tuple[Tensor | None, ...], given: list[Tensor]) -> str | None:
    """Why the kernel cannot take these arguments."""
    for found in (dtype, *(tensor.dtype for tensor in given if tensor.is_floating_point())):
        if found not in KERNEL_DTYPES:
            return f"{found} is not supported by the kernel"
    if slices > MOST_SLICES:
        return f"the kernel takes at most {MOST_SLICES} slices K*R, got {slices}"
    if any(tensor.numel() == 0 for tensor in given):
        return "the kernel takes no empty tensors"
    for table in tables:
        if table is not None and not table[0].is_contiguous():
            return f"the kernel takes tables in which each expert's slices are contiguous, got strides {table.stride()}"
    return None


def _groups(ids: Tensor, count: int) -> Groups:
    """Selections [Q, K] grouped by expert, as `row_sum.reference.group` does but without a wait for the device."""
    ordered, positions = torch.sort(ids.flatten(), stable=True)
    return Groups(positions, torch.searchsorted(ordered, torch.arange(count, device=ids.device)))


def taken(
    needs: Needs, x: Tensor, a: Tensor, b: Tensor, hidden: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Those of x, a, b and hidden that the gradients asked for are made of."""
    return (
        x if needs.a else None,
        a if needs.x else None,
        b if needs.x or needs.a or needs.w else None,
        hidden if needs.b or needs.w else None,
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """Save for the backward what the gradients asked for take; the tables' rows are read again there."""
    x, a, b, ids, w, _, dtype, impl = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    needs = Needs(*(ctx.needs_input_grad[place] for place in (0, 1, 2, 4)))
    ctx.save_for_backward(*taken(needs, x, a, b, output[1]), ids, w)
    ctx.settings = (needs, a.shape[1], dtype, impl)
    ctx.tables = (a.shape, b.shape)
    ctx.dtypes = (x.dtype, a.dtype, b.dtype, w.dtype)


def _gradients(ctx: Any, gradient: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    """Gradients of x, a, b, w and y, only those asked for."""
    needs, impl = ctx.settings[0], ctx.settings[-1]
    of_x = of_a = of_b = of_w = None
    if gradient is not None and any(needs):
        x, a, b, hidden, ids, w = ctx.saved_tensors
        found = iter(backward(gradient, x, a, b, ids, w, hidden, *ctx.settings))
        x_type, a_type, b_type, w_type = ctx.dtypes
        of_x = next(found).to(x_type) if needs.x else None
        if needs.a or needs.b:
            (count, rank, d_in), (_, _, d_out) = ctx.tables
            sums = table_gradient(next(found), ids, count, impl)
            of_a = sums[:, : rank * d_in].view(ctx.tables[0]).to(a_type) if needs.a else None
            of_b = sums[:, sums.shape[1] - rank * d_out :].view(ctx.tables[1]).to(b_type) if needs.b else None
        of_w = next(found).to(w_type) if needs.w else None
    return of_x, of_a, of_b, None, of_w, gradient if ctx.needs_input_grad[5] else None, None, None


forward.register_autograd(_gradients, setup_context=_keep)
