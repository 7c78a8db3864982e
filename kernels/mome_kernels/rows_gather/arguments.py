"""What rows_gather and rows_scatter ask of their table and its row numbers."""

from __future__ import annotations

import torch


def check(op: str, table: torch.Tensor, ids: torch.Tensor, device: torch.device) -> None:
    """Refuse a table or ids that `op` cannot use with a block on `device`.

    Raises:
        ValueError: naming the shape, dtype or device.
    """
    if table.dim() != 2 or table.requires_grad:
        wanted = "must be [N, width] and require no gradient"
        raise ValueError(f"{op}: table {wanted}, got {list(table.shape)}, requires_grad={table.requires_grad}")
    if ids.dim() != 1 or ids.dtype != torch.int64:
        raise ValueError(f"{op}: ids must be [n] int64, got {list(ids.shape)} {ids.dtype}")
    if table.device != device and not table.is_cpu:
        raise ValueError(f"{op}: the table is on {table.device}, so its rows must be too, not on {device}")
    if not ids.is_cpu and ids.device not in (table.device, device):
        raise ValueError(f"{op}: ids must be on the CPU, {table.device} or {device}, got {ids.device}")


def check_range(op: str, ids: torch.Tensor, count: int) -> None:
    """Refuse ids on the CPU that name no row; for those elsewhere it would have to wait for the device.

    Raises:
        IndexError: naming the least and the largest.
    """
    if not ids.is_cpu or not len(ids):
        return
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= count:
        raise IndexError(f"{op}: ids must lie in [0, {count}), got {low} to {high}")


def obstacle(table: torch.Tensor, device: torch.device) -> str | None:
    """Why a kernel on `device` cannot reach `table`, if it cannot."""
    if table.shape[1] > 1 and table.stride(1) != 1:
        return f"the table's columns lie {table.stride(1)} elements apart"
    if table.device != device and not table.is_pinned():
        return "the table is on the CPU, and its memory is not page-locked"
    return None
