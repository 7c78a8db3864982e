"""Rows of a table in plain torch: picked where the table is, and carried to a device through page-locked memory."""

from __future__ import annotations

import torch


def rows_gather(table: torch.Tensor, ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """See `mome.kernels.rows_gather.rows_gather`."""
    if ids.device != table.device:
        ids = ids.to(table.device)
    if table.device == device:
        return table.index_select(0, ids)  # [n, width]
    # The copy out of page-locked memory runs beside the CPU; torch keeps that memory until the copy is done.
    staging = torch.empty((len(ids), table.shape[1]), dtype=table.dtype, pin_memory=True)  # [n, width]
    torch.index_select(table, 0, ids, out=staging)
    return staging.to(device, non_blocking=True)
