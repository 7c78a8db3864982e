"""Segment sums in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn import functional


class Groups(NamedTuple):
    """Positions sorted by the group they belong to (stable), and where each group starts among them."""

    positions: torch.Tensor
    starts: torch.Tensor


def group(group_of: torch.Tensor, count: int) -> Groups:
    """Sort positions [m] into `count` groups, some of them perhaps empty."""
    # one place more, with a zero in front: the running sum of sizes before a group is where it starts
    sizes = torch.zeros(count + 1, dtype=torch.int64, device=group_of.device)
    sizes[1:] = torch.bincount(group_of, minlength=count)  # [count]
    # stable, so that members of a group stay in the order given: the order of the sum
    return Groups(torch.argsort(group_of, stable=True), sizes.cumsum(0)[:-1])  # [m], [count]


def sum_groups(groups: Groups, rows: torch.Tensor) -> torch.Tensor:
    """Sums of rows [m, width] by group [count, width], f32 (f64 if the rows are), each from first to last."""
    rows = rows if rows.dtype == torch.float64 else rows.float()
    if rows.numel() == 0:
        return rows.new_zeros(len(groups.starts), rows.shape[1])
    # a bag is a group; its rows are added from first to last
    return functional.embedding_bag(groups.positions, rows, groups.starts, mode="sum")  # [count, width]


def segment_sum(positions: torch.Tensor, starts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """See `mome.kernels.row_sum.segment_sum`."""
    return sum_groups(Groups(positions, starts), rows)
