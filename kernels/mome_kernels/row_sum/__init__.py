"""Sums of rows that share an id, the same bits in every run."""

from __future__ import annotations

import torch
from torch import Tensor

from mome.kernels.dispatch import implementation

KERNEL_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def row_sum(ids: Tensor, rows: Tensor, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """Add up the rows of each id, in f32 and in the order given, without atomics.

    The number of distinct ids is read back from the device; `segment_sum` does without where the groups are known.

    Args:
        ids: [m] int64, with repeats.
        rows: [m, width] floating point; f64 is summed in f64, everything else in f32.
        impl: which implementation adds, "auto", "reference" or "triton".

    Returns:
        (distinct ids [n] int64 ascending, sums [n, width] f32).

    Raises:
        ValueError: ids are not a vector of int64, or rows are not one floating-point row for each.
        RuntimeError: `impl` is not possible.
    """
    if ids.dim() != 1 or ids.dtype != torch.int64:
        raise ValueError(f"row_sum: ids must be [m] int64, got {list(ids.shape)} {ids.dtype}")
    _check_rows("row_sum", rows)
    if len(ids) != len(rows):
        raise ValueError(f"row_sum: {len(ids)} ids but {len(rows)} rows")
    ordered, positions = torch.sort(ids, stable=True)
    distinct, sizes = torch.unique_consecutive(ordered, return_counts=True)
    return distinct, segment_sum(positions, sizes.cumsum(0) - sizes, rows, impl=impl)


def segment_sum(positions: Tensor, starts: Tensor, rows: Tensor, *, impl: str = "auto") -> Tensor:
    """Sums of groups of rows, each added from its first member to its last; no atomics. Not differentiable.

    Group g has the members positions[starts[g] : starts[g + 1]], the last group all that remain: what
    `reference.group` returns. An empty group sums to zero.

    Args:
        positions: [p] int64, row numbers of the groups' members, one group after another.
        starts: [groups] int64, ascending from 0 where there is a member, each at most p.
        rows: [m, width] floating point; f64 is summed in f64, everything else in f32.
        impl: which implementation adds, "auto", "reference" or "triton".

    Returns:
        [groups, width] f32, or f64 if the rows are. What the numbers in positions and starts say is checked on the
        CPU only; on a GPU that would wait for the device.

    Raises:
        ValueError: positions or starts are no vectors of int64 or name no row, or rows are no floating-point matrix.
        RuntimeError: `impl` is not possible.
    """
    for name, value in (("positions", positions), ("starts", starts)):
        if value.dim() != 1 or value.dtype != torch.int64:
            raise ValueError(f"segment_sum: {name} must be a vector of int64, got {list(value.shape)} {value.dtype}")
    _check_rows("segment_sum", rows)
    if positions.device.type == "cpu":
        _check_groups(positions, starts, len(rows))
    result: Tensor = _op(positions, starts, rows, impl)
    return result


@torch.library.custom_op("mome::segment_sum", mutates_args=())
def _op(positions: Tensor, starts: Tensor, rows: Tensor, impl: str) -> Tensor:
    obstacle = None if rows.dtype in KERNEL_DTYPES else f"{rows.dtype} is not supported by the kernel"
    module = implementation("row_sum", impl, positions, starts, rows, obstacle=obstacle)
    result: Tensor = module.segment_sum(positions, starts, rows)
    return result


@_op.register_fake
def _(positions: Tensor, starts: Tensor, rows: Tensor, impl: str) -> Tensor:
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    return rows.new_empty(len(starts), rows.shape[1], dtype=dtype)


def _check_rows(name: str, rows: Tensor) -> None:
    if rows.dim() != 2 or not rows.is_floating_point():
        raise ValueError(f"{name}: rows must be [m, width] floating point, got {list(rows.shape)} {rows.dtype}")


def _check_groups(positions: Tensor, starts: Tensor, count: int) -> None:
    if len(positions):
        low, high = (int(end) for end in positions.aminmax())
        if low < 0 or high >= count:
            raise ValueError(f"segment_sum: positions must lie in [0, {count}), got {low} to {high}")
    if len(starts):
        first, last = int(starts[0]), int(starts[-1])
        if first != 0 or last > len(positions) or bool((starts.diff() < 0).any()):
            raise ValueError(
                f"segment_sum: starts must ascend from 0 to {len(positions)} at most, got {first} to {last}"
            )
    elif len(positions):
        raise ValueError(f"segment_sum: {len(positions)} positions but no group")
