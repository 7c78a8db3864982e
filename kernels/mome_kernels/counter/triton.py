"""The hash of `reference.py` on the device: SplitMix64 on unsigned 64-bit words, the same bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from mome.kernels.counter import reference

GOLDEN = tl.constexpr(reference.GOLDEN)
FIRST_SHIFT, FIRST_FACTOR = (tl.constexpr(number) for number in reference.FIRST)
SECOND_SHIFT, SECOND_FACTOR = (tl.constexpr(number) for number in reference.SECOND)
LAST_SHIFT = tl.constexpr(reference.LAST_SHIFT)
MOST_ELEMENTS = 2048  # numbers of one program: rows x columns of its block
LARGEST_TILE = 1024  # columns of a block; wider rows are cut


def uniform(seed: int, stream: int, ids: torch.Tensor, width: int) -> torch.Tensor:
    """See `mome.kernels.counter.uniform`."""
    numbers = torch.empty(len(ids), width, dtype=torch.float32, device=ids.device)
    if numbers.numel():
        rows, tile, grid = _blocks(len(ids), width)
        start = reference.start_of(seed, stream)
        _uniform_kernel[grid](ids.contiguous(), numbers, start, len(ids), width, ROWS=rows, TILE=tile)
    return numbers


def stochastic_round(rows: torch.Tensor, seed: int, step: int, ids: torch.Tensor) -> torch.Tensor:
    """See `mome.kernels.counter.stochastic_round`."""
    rounded = torch.empty(rows.shape, dtype=torch.bfloat16, device=rows.device)
    if rounded.numel():
        count, width = rows.shape
        block, tile, grid = _blocks(count, width)
        start = reference.start_of(seed, step)
        _round_kernel[grid](rows, ids.contiguous(), rounded, start, count, width, *rows.stride(), ROWS=block, TILE=tile)
    return rounded


def _blocks(count: int, width: int) -> tuple[int, int, tuple[int, int]]:
    """Rows and columns of a program's block, and the grid of blocks."""
    tile = min(LARGEST_TILE, max(16, triton.next_power_of_2(width)))  # a power of two, as tl.arange asks
    rows = min(MOST_ELEMENTS // tile, triton.next_power_of_2(count))
    return rows, tile, (triton.cdiv(count, rows), triton.cdiv(width, tile))


@triton.jit
def mixed(words):
    """SplitMix64's output function on uint64."""
    words = (words ^ (words >> FIRST_SHIFT)) * FIRST_FACTOR
    words = (words ^ (words >> SECOND_SHIFT)) * SECOND_FACTOR
    return words ^ (words >> LAST_SHIFT)


@triton.jit
def hashes(start, ids, words):
    """64 random bits for each id (int64) and word (int32), which broadcast with each other; start is unsigned."""
    bases = mixed(ids.to(tl.uint64) * GOLDEN + start.to(tl.uint64))
    return mixed(bases + (words + 1).to(tl.uint64) * GOLDEN)


@triton.jit
def rounded_stochastically(values, start, ids, columns):
    """f32 values to bf16, up or down by the hash of (start, id, column); columns are int32 that broadcast with ids."""
    # four columns share a word: the compiler sees that, and hashes once for the four of a thread
    chances = (hashes(start, ids, columns >> 2) >> ((columns & 3) * 16).to(tl.uint64)).to(tl.uint32) & 0xFFFF
    carried = values.to(tl.uint32, bitcast=True) + chances
    halves = tl.where(values == values, carried >> 16, 0x7FC0)  # 0x7FC0 is NaN in bf16, which a carry could destroy
    return halves.to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def store_rounded(places, values, start, ids, columns, mask):
    """Store f32 values in an f32 table as they are, in a bf16 table as `rounded_stochastically` rounds them."""
    if places.dtype.element_ty == tl.bfloat16:
        tl.store(places, rounded_stochastically(values, start, ids, columns), mask=mask)
    else:
        tl.store(places, values, mask=mask)


@triton.jit(do_not_specialize=["start", "count"])
def _uniform_kernel(ids, numbers, start: tl.uint64, count, width, ROWS: tl.constexpr, TILE: tl.constexpr):
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    draws = tl.load(ids + rows, mask=rows < count, other=0)  # [ROWS]
    words = hashes(start, draws[:, None], (columns >> 1)[None, :])  # [ROWS, TILE], two columns share a word
    halves = (words >> ((columns & 1) * 32).to(tl.uint64)[None, :]).to(tl.uint32)  # even: lower half, odd: upper
    values = (halves >> 8).to(tl.float32) * (2.0**-24)  # f32 holds 24 bits exactly
    inside = (rows < count)[:, None] & (columns < width)[None, :]
    tl.store(numbers + rows[:, None] * width + columns[None, :], values, mask=inside)


@triton.jit(do_not_specialize=["start", "count"])
def _round_kernel(
    rows,
    ids,
    rounded,
    start: tl.uint64,
    count,
    width,
    row_stride,
    column_stride,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    numbers = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = (numbers < count)[:, None] & (columns < width)[None, :]
    draws = tl.load(ids + numbers, mask=numbers < count, other=0)
    places = numbers[:, None] * row_stride + columns[None, :] * column_stride
    values = tl.load(rows + places, mask=inside, other=0.0)  # [ROWS, TILE]
    halves = rounded_stochastically(values, start, draws[:, None], columns[None, :])
    tl.store(rounded + numbers[:, None] * width + columns[None, :], halves, mask=inside)
