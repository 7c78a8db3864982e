"""Rows into a table by a Triton kernel, which writes its device's memory or, over the link, page-locked memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from mome.kernels.rows_gather.triton import tile


@triton.jit(do_not_specialize=["count"])
def _scatter_kernel(
    table, ids, rows, count, width, table_stride, rows_stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    places = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    numbers = tl.load(ids + places, mask=places < count, other=0)  # [ROWS] int64, as in rows_gather
    inside = (places < count)[:, None] & (columns < width)[None, :]  # [ROWS, COLUMNS]
    values = tl.load(rows + places[:, None] * rows_stride + columns[None, :], mask=inside)
    tl.store(table + numbers[:, None] * table_stride + columns[None, :], values, mask=inside)


def rows_scatter(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor) -> None:
    """See `mome.kernels.rows_scatter.rows_scatter`."""
    count, width = rows.shape
    if not rows.numel():
        return
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    height, columns = tile(width)
    grid = (triton.cdiv(count, height), triton.cdiv(width, columns))
    ids = ids.to(rows.device, non_blocking=True).contiguous()
    strides = (table.stride(0), rows.stride(0))
    with torch.cuda.device_of(rows):
        _scatter_kernel[grid](table, ids, rows, count, width, *strides, ROWS=height, COLUMNS=columns)
        # the CPU may read its own table next
        if table.device != rows.device and not torch.cuda.is_current_stream_capturing():
            torch.cuda.current_stream().synchronize()
