"""Segment sums in Triton: a program adds one group's members, from first to last, in one tile of columns.

`heads_of` and `run_sums` do the same for runs of equal ids inside other kernels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

LARGEST_TILE = 1024  # columns of one program; wider rows are cut
UNROLLED = tl.constexpr(2)  # members whose loads wait together


def segment_sum(positions: torch.Tensor, starts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """See `mome.kernels.row_sum.segment_sum`."""
    width = rows.shape[1]
    dtype = torch.float64 if rows.dtype == torch.float64 else torch.float32
    sums = torch.empty(len(starts), width, dtype=dtype, device=rows.device)
    if sums.numel() == 0:
        return sums
    tile = column_tile(width)
    grid = (len(starts), triton.cdiv(width, tile))
    _segment_sum_kernel[grid](
        positions.contiguous(),
        starts.contiguous(),
        rows,
        sums,
        len(starts),
        len(positions),
        width,
        *rows.stride(),
        TILE=tile,
        num_warps=max(1, tile // 256),
    )
    return sums


def column_tile(width: int) -> int:
    """How many columns one program takes: 8 for each thread of a warp at most, so that 2-byte loads are 16 bytes."""
    return min(LARGEST_TILE, max(32, triton.next_power_of_2(width)))


@triton.jit(do_not_specialize=["groups", "members"])
def _segment_sum_kernel(
    positions, starts, rows, sums, groups, members, width, row_stride, column_stride, TILE: tl.constexpr
):
    group = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    first = tl.load(starts + group)
    end = tl.load(starts + group + 1, mask=group + 1 < groups, other=members)  # the last group takes all that remain
    total = tl.zeros([TILE], sums.dtype.element_ty)
    for member in tl.range(first, end, loop_unroll_factor=4):
        row = tl.load(positions + member)
        values = tl.load(rows + row * row_stride + columns * column_stride, mask=inside, other=0.0)
        total += values.to(sums.dtype.element_ty)
    tl.store(sums + group * width + columns, total, mask=inside)


@triton.jit
def heads_of(ids, positions, count):
    """The ids at some positions of the `count` sorted ones, and which of the positions are the first of their id."""
    inside = positions < count
    here = tl.load(ids + positions, mask=inside, other=0)
    before = tl.load(ids + positions - 1, mask=inside & (positions > 0), other=-1)  # no id is -1: the first is a head
    return here, inside & (here != before)


@triton.jit
def run_sums(ids, order, rows, stride, count, positions, numbers, head, columns, inside):
    """The rows of each head's id, added from first to last: f32 [positions, columns], zero where there is no head.

    `numbers` and `head` are what `heads_of` gave; the row of position i is rows[order[i]], or rows[i] if order is None.
    """
    total = tl.zeros([positions.shape[0], columns.shape[0]], tl.float32)
    members, member = positions, head  # where each position reads next, and whether it still does
    while tl.max(member.to(tl.int32), axis=0) > 0:  # until the longest run among these positions is over
        for _ in tl.static_range(UNROLLED):
            source = members
            if order is not None:
                source = tl.load(order + members, mask=member, other=0)
            places = rows + source[:, None] * stride + columns[None, :]
            total += tl.load(places, mask=member[:, None] & inside[None, :], other=0.0).to(tl.float32)
            members += 1
            member = member & (members < count)
            member = member & (tl.load(ids + members, mask=member, other=-1) == numbers)
    return total
