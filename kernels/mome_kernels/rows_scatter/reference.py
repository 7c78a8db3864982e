"""Rows into a table in plain torch; those of a device come to the CPU through page-locked memory."""

from __future__ import annotations

import torch


def rows_scatter(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor) -> None:
    """See `mome.kernels.rows_scatter.rows_scatter`."""
    if rows.device != table.device:
        staging = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        staging.copy_(rows, non_blocking=True)
        torch.cuda.current_stream(rows.device).synchronize()  # the CPU reads the copy next
        rows = staging
    if ids.device != table.device:
        ids = ids.to(table.device)
    table.index_copy_(0, ids, rows)  # [n, width] into [N, width]
