"""Rows of a table by a Triton kernel, which reads its device's memory or, over the link, page-locked memory."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

TILE = 2048  # numbers of one program: rows x columns
MOST_ROWS = 128  # where rows are a number or a few


@triton.jit(do_not_specialize=["count"])
def _gather_kernel(table, ids, out, count, width, table_stride, out_stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    places = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    rows = tl.load(ids + places, mask=places < count, other=0)  # [ROWS] int64: times a stride it may pass 2^31
    inside = (places < count)[:, None] & (columns < width)[None, :]  # [ROWS, COLUMNS]
    values = tl.load(table + rows[:, None] * table_stride + columns[None, :], mask=inside)
    tl.store(out + places[:, None] * out_stride + columns[None, :], values, mask=inside)


def rows_gather(table: torch.Tensor, ids: torch.Tensor, device: torch.device) -> torch.Tensor:
    """See `mome.kernels.rows_gather.rows_gather`."""
    count, width = len(ids), table.shape[1]
    out = torch.empty((count, width), dtype=table.dtype, device=device)
    if not out.numel():
        return out
    rows, columns = tile(width)
    grid = (triton.cdiv(count, rows), triton.cdiv(width, columns))
    ids = ids.to(device, non_blocking=True).contiguous()
    strides = (table.stride(0), out.stride(0))
    with torch.cuda.device_of(out):
        _gather_kernel[grid](table, ids, out, count, width, *strides, ROWS=rows, COLUMNS=columns)
    return out


def tile(width: int) -> tuple[int, int]:
    """Rows and columns of one program's part: wide rows are cut, narrow ones are taken several at a time."""
    columns = min(triton.next_power_of_2(width), TILE)
    return min(TILE // columns, MOST_ROWS), columns
