"""Rows of a table, brought to the device that computes with them."""

from __future__ import annotations

import torch

from mome.kernels.dispatch import implementation
from mome.kernels.rows_gather import reference
from mome.kernels.rows_gather.arguments import check, check_range, obstacle


def rows_gather(
    table: torch.Tensor, ids: torch.Tensor, device: torch.device | str | None = None, *, impl: str = "auto"
) -> torch.Tensor:
    """The rows `ids` of `table` as a new block on `device`; the bytes moved are those of the rows, whatever N is.

    A table on the CPU may have its block on a CUDA device. If its memory is page-locked, the kernel reads it over the
    link, so nothing may write to it before the device is done. Rows of other memory, such as a memory-mapped file, are
    picked by the CPU into page-locked memory and copied from there.

    Args:
        table: [N, width], its rows any distance apart.
        ids: [n] int64 in [0, N), in any order, with repeats, on the CPU, the table's device or `device`. Numbers on the
            CPU are checked; to check others would be to wait for the device.
        device: the table's own by default.
        impl: "auto", "reference" or "triton".

    Returns:
        [n, width] in the table's dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, or a table that requires a gradient.
        IndexError: an id on the CPU that names no row.
        RuntimeError: `impl` is "triton" where the kernel cannot run.
    """
    where = table.device
    if device is not None and device != where:
        where = torch.empty(0, device=device).device  # cuda:0, say, for cuda
    check("rows_gather", table, ids, where)
    if impl == "auto" and table.is_cpu and where == table.device:  # the detour through an operation costs microseconds
        try:
            return reference.rows_gather(table, ids, where)
        except (IndexError, RuntimeError):  # the latter where the table has no row
            check_range("rows_gather", ids, len(table))
            raise
    result: torch.Tensor = _op(table, ids, where, impl)
    return result


@torch.library.custom_op("mome::rows_gather", mutates_args=())
def _op(table: torch.Tensor, ids: torch.Tensor, device: torch.device, impl: str) -> torch.Tensor:
    check_range("rows_gather", ids, len(table))
    place = torch.empty(0, device=device)
    module = implementation("rows_gather", impl, place, obstacle=obstacle(table, device))
    block: torch.Tensor = module.rows_gather(table, ids, device)
    return block


@_op.register_fake
def _(table: torch.Tensor, ids: torch.Tensor, device: torch.device, impl: str) -> torch.Tensor:
    return table.new_empty((len(ids), table.shape[1]), device=device)
