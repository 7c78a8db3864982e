"""Rows of a block, put back into the table they belong to."""

from __future__ import annotations

import torch

from mome.kernels.dispatch import implementation
from mome.kernels.rows_gather.arguments import check, check_range, obstacle
from mome.kernels.rows_scatter import reference


def rows_scatter(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, *, impl: str = "auto") -> None:
    """Write `rows` over the rows `ids` of `table`, in place; the other rows are not touched, read or moved.

    A table on the CPU takes rows of a CUDA device too: the kernel writes page-locked memory over the link, other memory
    is written by the CPU from a page-locked copy of the rows. Either way the call returns when the table holds them,
    except where a CUDA graph is being captured: then the table holds them when a replay is done.

    Args:
        table: [N, width], its rows any distance apart.
        ids: [n] int64 in [0, N), distinct, on the CPU, the table's device or that of the rows. Numbers on the CPU are
            checked for lying in the table; to check others would be to wait for the device.
        rows: [n, width] in the table's dtype; no gradient passes through here.
        impl: "auto", "reference" or "triton".

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, or a table that requires a gradient.
        IndexError: an id on the CPU that names no row; the table is then unchanged.
        RuntimeError: `impl` is "triton" where the kernel cannot run.
    """
    check("rows_scatter", table, ids, rows.device)
    if rows.shape != (len(ids), table.shape[1]) or rows.dtype != table.dtype:
        wanted = f"{[len(ids), table.shape[1]]} {table.dtype}"
        raise ValueError(f"rows_scatter: rows must be {wanted}, got {list(rows.shape)} {rows.dtype}")
    if rows.requires_grad:
        rows = rows.detach()
    if impl == "auto" and rows.is_cpu:  # as in rows_gather
        check_range("rows_scatter", ids, len(table))
        reference.rows_scatter(table, ids, rows)
    else:
        _op(table, ids, rows, impl)


@torch.library.custom_op("mome::rows_scatter", mutates_args=("table",))
def _op(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, impl: str) -> None:
    check_range("rows_scatter", ids, len(table))
    module = implementation("rows_scatter", impl, rows, obstacle=obstacle(table, rows.device))
    module.rows_scatter(table, ids, rows)


@_op.register_fake
def _(table: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, impl: str) -> None:
    return None
