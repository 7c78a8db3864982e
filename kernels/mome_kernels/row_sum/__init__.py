"""Sums of rows that share an id, the same bits in every run."""

from __future__ import annotations

import torch

from mome.kernels.row_sum import reference


def row_sum(ids: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Add up the rows of each id, in f32 and in the order given, without atomics.

    Args:
        ids: [m] int64, with repeats.
        rows: [m, width] floating point; f64 is summed in f64, everything else in f32.

    Returns:
        (distinct ids [n] int64 ascending, sums [n, width] f32).

    Raises:
        ValueError: ids are not a vector of int64, or rows are not one floating-point row for each.
    """
    if ids.dim() != 1 or ids.dtype != torch.int64:
        raise ValueError(f"row_sum: ids must be [m] int64, got {list(ids.shape)} {ids.dtype}")
    if rows.dim() != 2 or not rows.is_floating_point():
        raise ValueError(f"row_sum: rows must be [m, width] floating point, got {list(rows.shape)} {rows.dtype}")
    if len(ids) != len(rows):
        raise ValueError(f"row_sum: {len(ids)} ids but {len(rows)} rows")
    return reference.row_sum(ids, rows)
