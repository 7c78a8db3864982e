"""LoRA whose rank-R slices each question picks for itself from a table of experts."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from mome.kernels.dispatch import check_floats
from mome.kernels.lora_gather import op, reference
from mome.kernels.lora_gather.reference import Needs

ARGUMENTS = ("x", "a", "b", "w")


class Gradients(NamedTuple):
    """What `lora_gather_backward` returns; None for what was not asked for."""

    x: Tensor | None
    rows: Tensor | None
    w: Tensor | None


def lora_gather(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None = None, *, impl: str = "auto"
) -> Tensor:
    """A linear layer's output plus the updates of each question's experts: y + sum over k of w_k (x a_k^T) b_k.

    It has gradients for all but `ids`. Products are computed in autocast's dtype where it is on, else in x's. Gradients
    of an expert picked more than once are added in f32 in a fixed order, so that two runs give the same bits. The
    gradients of a and b have the dtype and the size of a and b. Where that takes too much memory for a large table, use
    `lora_gather_forward` and `lora_gather_backward`.

    Args:
        x: [Q, T, d_in], the layer's input.
        a: [n, R, d_in], the experts' input sides; a view of a table that holds b too will do.
        b: [n, R, d_out], their output sides.
        ids: [Q, K] int64 in [0, n), each question's experts. The range is checked on the CPU only: on a GPU that would
            wait for the device, and an id outside it reads other memory.
        w: [Q, K], their weights.
        y: [Q, T, d_out], the layer's own output, to which the experts add; None counts as zero.
        impl: which implementation computes, "auto", "reference" or "triton". The kernel takes f32, bf16 and f16, and
            up to 256 slices K*R.

    Returns:
        [Q, T, d_out] in the dtype of y, without y in that of the products.

    Raises:
        ValueError: shapes that do not fit each other, numbers that are not floating point, ids that are not int64 or
            name no row of a.
        RuntimeError: `impl` is not possible.
    """
    _check(x, a, b, ids, w, y)
    dtype = _product_dtype(x)
    # two routes to one result: an operator costs a CPU more than the Function, which only the reference has
    if op.implementing(x, a, b, ids, w, y, dtype, impl) is reference:
        return reference.LoraGather.apply(x, a, b, ids, w, y, dtype)
    return op.forward(x, a, b, ids, w, y, dtype, impl)[0]


def lora_gather_forward(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None = None, *, impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """`lora_gather` without gradients: its result, and hidden [Q, T, K*R] for `lora_gather_backward`.

    hidden is x a_k^T for each question's slices, expert after expert, in the dtype of the products. The arguments and
    the errors are those of `lora_gather`.
    """
    _check(x, a, b, ids, w, y)
    with torch.no_grad():
        found: tuple[Tensor, Tensor] = op.forward(x, a, b, ids, w, y, _product_dtype(x), impl)
    return found


def lora_gather_backward(
    gradient: Tensor,
    x: Tensor,
    a: Tensor,
    b: Tensor,
    ids: Tensor,
    w: Tensor,
    hidden: Tensor,
    *,
    needs: Collection[str] = ARGUMENTS,
    impl: str = "auto",
) -> Gradients:
    """The gradients of `lora_gather`, those of a and b for each selection apart: nothing here has the size of a table.

    For a table whose rows are updated where they lie: rows.flatten(0, 1) is what `row_update` takes, and adds up where
    selections share an expert.

    Args:
        gradient: [Q, T, d_out], of the result.
        x, a, b, ids, w: as `lora_gather` had them.
        hidden: [Q, T, K*R] from `lora_gather_forward`; its dtype is that of the products.
        needs: the arguments whose gradients are wanted.
        impl: which implementation computes, "auto", "reference" or "triton".

    Returns:
        x [Q, T, d_in] in x's dtype; rows [Q, K, R*d_in + R*d_out] f32 (f64 if the products are), the gradient of every
        selected expert's slices of a, flattened, then of b, as a row of a bank has them, and only those of a or of b
        where only one is wanted; w [Q, K] in w's dtype.

    Raises:
        ValueError: shapes that do not fit each other, ids that are not int64 or name no row of a, an unknown need.
        RuntimeError: `impl` is not possible.
    """
    _check(x, a, b, ids, w, gradient, "gradient")
    _check_backward(x, a, ids, hidden, needs)
    wanted = Needs(*(name in needs for name in ARGUMENTS))
    with torch.no_grad():
        inputs = op.taken(wanted, x, a, b, hidden)
        found = iter(op.backward(gradient, *inputs[:3], ids, w, inputs[3], wanted, a.shape[1], hidden.dtype, impl))
    of_x = next(found).to(x.dtype) if wanted.x else None
    rows = next(found) if wanted.a or wanted.b else None
    return Gradients(of_x, rows, next(found).to(w.dtype) if wanted.w else None)


def _product_dtype(x: Tensor) -> torch.dtype:
    autocast = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    return torch.get_autocast_dtype(x.device.type) if autocast else x.dtype


def _check(x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, name: str = "y") -> None:
    shapes = {key: tuple(value.shape) for key, value in (("x", x), ("a", a), ("b", b), ("ids", ids), ("w", w))}
    if not (x.dim() == a.dim() == b.dim() == 3 and ids.dim() == w.dim() == 2):
        raise ValueError(
            f"lora_gather: need x [Q, T, d_in], a [n, R, d_in], b [n, R, d_out], ids and w [Q, K]; got {shapes}"
        )
    if a.shape[2] != x.shape[2] or a.shape[:2] != b.shape[:2]:
        raise ValueError(f"lora_gather: a must be [n, R, d_in of x] and b [n, R, d_out]; got {shapes}")
    if ids.shape != w.shape or len(ids) != len(x):
        raise ValueError(f"lora_gather: ids and w must both be [Q of x, K]; got {shapes}")
    if y is not None and y.shape != (*x.shape[:2], b.shape[2]):
        raise ValueError(f"lora_gather: {name} must be [Q, T of x, d_out of b], got {tuple(y.shape)} with {shapes}")
    check_floats("lora_gather", x=x, a=a, b=b, w=w, **({} if y is None else {name: y}))
    if ids.dtype != torch.int64:
        raise ValueError(f"lora_gather: ids must be int64, got {ids.dtype}")
    if ids.numel() and ids.device.type == "cpu":
        low, high = (int(bound) for bound in ids.aminmax())
        if low < 0 or high >= len(a):
            raise ValueError(f"lora_gather: ids must lie in [0, {len(a)}), got {low} to {high}")


def _check_backward(x: Tensor, a: Tensor, ids: Tensor, hidden: Tensor, needs: Collection[str]) -> None:
    expected = (*x.shape[:2], ids.shape[1] * a.shape[1])
    if hidden.shape != expected:
        raise ValueError(f"lora_gather_backward: hidden must be [Q, T, K*R] = {expected}, got {tuple(hidden.shape)}")
    check_floats("lora_gather_backward", hidden=hidden)
    unknown = sorted(set(needs) - set(ARGUMENTS))
    if unknown:
        raise ValueError(f"lora_gather_backward: needs are among {', '.join(ARGUMENTS)}, got {unknown[0]!r}")
