"""Row-sparse Adam and Adafactor in Triton, without atomics and without waiting for the device.

A program takes a few neighbouring positions of the sorted ids and a tile of columns. A position whose id differs from
the one before is a head: it adds the gradients of its id, from first to last, and updates the row; other positions do
nothing. Adafactor needs means over all heads, so it passes over the gradients three times: what a program sums it puts
into a small scratch table, and whoever needs the total adds these in one fixed order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mome.kernels.counter.reference import start_of
from mome.kernels.counter.triton import store_rounded
from mome.kernels.row_sum.triton import column_tile, heads_of, run_sums
from mome.kernels.row_update.reference import Adafactor, Adam

ADAM_ELEMENTS = 1024  # numbers that a program of Adam updates: rows x columns
ADAFACTOR_ELEMENTS = 4096  # those that a program of Adafactor holds at a time
MOST_PROGRAMS = 2048  # of one pass of Adafactor, so that their partial sums stay few
SIZE = 128  # rows or columns whose averages one program takes
PARTS = tl.constexpr(1024)  # partial sums added at a time
LINES = tl.constexpr(32)  # lines of partial sums by column added at a time


class Blocks(NamedTuple):
    """How the work is shared out: `span` positions for a program, `rows` x `tile` at a time."""

    rows: int
    tile: int
    span: int
    grid: tuple[int, int]


class Scratch(NamedTuple):
    """What the passes of Adafactor tell each other; f32, and written before it is read."""

    row_squares: Tensor  # [tiles, m]: sum of a head's squared gradients in each tile of columns
    column_squares: Tensor  # [spans, width]: sum of each column's over the heads of a span
    heads: Tensor  # [spans]: how many there are
    averages: Tensor  # [m]: a head's new row statistic
    totals: Tensor  # [m / SIZE]: sums of these
    norms: Tensor  # [spans * tiles]: sums of the squared changes


def adam_(
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None,
    settings: Adam,
    seed: int,
    stream: int,
) -> None:
    """See `mome.kernels.row_update.adam_`."""
    blocks = _blocks(len(ids), rows.shape[1], ADAM_ELEMENTS)
    selections, tables = _selections(ids, order, gradients), (rows, exp_avg, exp_avg_sq, steps)
    strides = [table.stride(0) for table in tables]
    numbers = (len(rows), start_of(seed, stream), settings.rate, settings.epsilon)
    betas = (*settings.betas, *(math.log(beta) if beta else -math.inf for beta in settings.betas))
    _adam_kernel[blocks.grid](*selections, *tables, *strides, *numbers, *betas, blocks.rows, blocks.tile)


def adafactor_(
    rows: Tensor,
    row_average: Tensor,
    column_average: Tensor,
    steps: Tensor,
    updates: Tensor,
    ids: Tensor,
    gradients: Tensor,
    order: Tensor | None,
    settings: Adafactor,
    seed: int,
    stream: int,
) -> None:
    """See `mome.kernels.row_update.adafactor_`."""
    count, width = len(ids), rows.shape[1]
    blocks = _blocks(count, width, ADAFACTOR_ELEMENTS, MOST_PROGRAMS)
    part = _scratch(count, width, blocks, rows.device)
    selections, share = _selections(ids, order, gradients), (blocks.span, blocks.rows, blocks.tile)
    _squares_kernel[blocks.grid](*selections, part.row_squares, part.column_squares, part.heads, *share)

    tables = (row_average, column_average, steps, updates, row_average.stride(0), steps.stride(0))
    sizes = (count, width, *blocks.grid, len(part.totals), settings.epsilon, settings.decay_rate, SIZE)
    _averages_kernel[(len(part.totals) + triton.cdiv(width, SIZE),)](ids, *tables, *part[:-1], *sizes)

    scales = (column_average, part.averages, part.totals, part.heads, len(part.totals), blocks.grid[0])
    _norms_kernel[blocks.grid](*selections, *scales, part.norms, *share)

    table = (rows, steps, rows.stride(0), steps.stride(0), len(rows), start_of(seed, stream))
    limits = (settings.rate, settings.clip_threshold)
    _descend_kernel[blocks.grid](*selections, *scales, part.norms, *table, *limits, *share)


def _blocks(count: int, width: int, elements: int, most_programs: int | None = None) -> Blocks:
    tile = column_tile(width)
    rows, tiles = min(elements // tile, triton.next_power_of_2(count)), triton.cdiv(width, tile)
    span = rows * triton.cdiv(triton.cdiv(count, rows) * tiles, most_programs) if most_programs else rows
    return Blocks(rows, tile, span, (triton.cdiv(count, span), tiles))


def _scratch(count: int, width: int, blocks: Blocks, device: torch.device) -> Scratch:
    spans, tiles = blocks.grid
    shapes = ((tiles, count), (spans, width), (spans,), (count,), (triton.cdiv(count, SIZE),), (spans * tiles,))
    return Scratch(*(torch.empty(shape, dtype=torch.float32, device=device) for shape in shapes))


def _selections(ids: Tensor, order: Tensor | None, gradients: Tensor) -> tuple[Tensor | int | None, ...]:
    """The first arguments of every kernel that reads gradients."""
    gradients = gradients if gradients.stride(1) == 1 else gradients.contiguous()
    order = None if order is None else order.contiguous()
    return ids.contiguous(), order, gradients, gradients.stride(0), len(ids), gradients.shape[1]


@triton.jit(do_not_specialize=["count", "table_rows", "start"])
def _adam_kernel(
    ids, order, gradients, gradient_stride, count, width,
    rows, exp_avg, exp_avg_sq, steps, row_stride, first_stride, second_stride, step_stride,
    table_rows, start: tl.uint64, rate: tl.float64, epsilon,
    BETA1: tl.constexpr, BETA2: tl.constexpr, LOG1: tl.constexpr, LOG2: tl.constexpr,
    ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    positions = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    numbers, head = heads_of(ids, positions, count)
    mask = head[:, None] & inside[None, :]
    # all that does not depend on the gradient is loaded before it, so that the loads wait together
    step = tl.load(steps + numbers * step_stride, mask=head, other=1)
    places = rows + numbers[:, None] * row_stride + columns[None, :]
    firsts = exp_avg + numbers[:, None] * first_stride + columns[None, :]
    seconds = exp_avg_sq + numbers[:, None] * second_stride + columns[None, :]
    values = tl.load(places, mask=mask, other=0.0).to(tl.float32)
    first = tl.load(firsts, mask=mask, other=0.0)
    second = tl.load(seconds, mask=mask, other=0.0)
    gradient = run_sums(ids, order, gradients, gradient_stride, count, positions, numbers, head, columns, inside)
    first = first * BETA1 + gradient * (1 - BETA1)
    second = second * BETA2 + gradient * gradient * (1 - BETA2)
    tl.store(firsts, first, mask=mask)
    tl.store(seconds, second, mask=mask)
    size = (-rate / (1 - tl.exp(step.to(tl.float64) * LOG1))).to(tl.float32)  # beta^t as exp(t ln beta), in f64
    correction = (1 / tl.sqrt(1 - tl.exp(step.to(tl.float64) * LOG2))).to(tl.float32)
    values += first * size[:, None] / (tl.sqrt_rn(second) * correction[:, None] + epsilon)
    draws = numbers + step.to(tl.int64) * table_rows
    store_rounded(places, values, start, draws[:, None], columns[None, :], mask)


@triton.jit(do_not_specialize=["count", "span"])
def _squares_kernel(
    ids, order, gradients, gradient_stride, count, width,
    row_squares, column_squares, heads,
    span, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Sums of the squared gradients of a span's heads in a tile, by row and by column, and how many heads there are."""
    place, tile = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    by_column = tl.zeros([TILE], tl.float32)
    found = tl.zeros([ROWS], tl.float32)
    for offset in range(0, span, ROWS):
        positions = place * span + offset + tl.arange(0, ROWS)
        numbers, head = heads_of(ids, positions, count)
        gradient = run_sums(ids, order, gradients, gradient_stride, count, positions, numbers, head, columns, inside)
        squares = gradient * gradient
        tl.store(row_squares + tile * count + positions, tl.sum(squares, axis=1), mask=head)
        by_column += tl.sum(squares, axis=0)
        found += head.to(tl.float32)
    tl.store(column_squares + place * width + columns, by_column, mask=inside)
    tl.store(heads + place, tl.sum(found, axis=0), mask=tile == 0)


@triton.jit
def _total(parts, count):
    """The sum of `count` f32 numbers."""
    total = tl.zeros([PARTS], tl.float32)
    for offset in range(0, count, PARTS):
        places = offset + tl.arange(0, PARTS)
        total += tl.load(parts + places, mask=places < count, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit
def _column_totals(parts, count, stride, columns, mask):
    """The sums of some columns of f32 [count, stride]."""
    total = tl.zeros([columns.shape[0]], tl.float32)
    for offset in range(0, count, LINES):
        lines = (offset + tl.arange(0, LINES))[:, None]
        places = parts + lines.to(tl.int64) * stride + columns[None, :]
        total += tl.sum(tl.load(places, mask=(lines < count) & mask[None, :], other=0.0), axis=0)
    return total


@triton.jit
def _averaged(average, new, step, DECAY: tl.constexpr):
    """The average after `step` values, of which `new` is the last."""
    weight = tl.exp(tl.log(step.to(tl.float64)) * DECAY)
    return average * (1 - weight).to(tl.float32) + new * weight.to(tl.float32)


@triton.jit(do_not_specialize=["count", "spans", "tiles", "blocks"])
def _averages_kernel(
    ids, row_average, column_average, steps, updates, average_stride, step_stride,
    row_squares, column_squares, heads, averages, totals,
    count, width, spans, tiles, blocks, epsilon, DECAY: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Takes the mean squares into the statistics: the first programs of SIZE rows each, the others of SIZE columns."""
    place = tl.program_id(0)
    if place < blocks:
        positions = place.to(tl.int64) * SIZE + tl.arange(0, SIZE)
        numbers, head = heads_of(ids, positions, count)
        squares = _column_totals(row_squares, tiles, count, positions, head)
        step = tl.load(steps + numbers * step_stride, mask=head, other=1)
        places = row_average + numbers * average_stride
        average = _averaged(tl.load(places, mask=head, other=0.0), squares / width + epsilon, step, DECAY)
        tl.store(places, average, mask=head)
        tl.store(averages + positions, average, mask=head)
        tl.store(totals + place, tl.sum(tl.where(head, average, 0.0), axis=0))
    else:
        columns = (place - blocks) * SIZE + tl.arange(0, SIZE)
        inside = columns < width
        squares = _column_totals(column_squares, spans, width, columns, inside)
        places = column_average + columns
        mean = squares / _total(heads, spans) + epsilon
        average = _averaged(tl.load(places, mask=inside, other=0.0), mean, tl.load(updates), DECAY)
        tl.store(places, average, mask=inside)


@triton.jit
def _scale(column_average, averages, mean, positions, head, columns, inside):
    """What a gradient is multiplied with: one over the roots of its column's and its row's statistic."""
    of_column = tl.load(column_average + columns, mask=inside, other=1.0)
    of_row = tl.load(averages + positions, mask=head, other=1.0) / mean
    return tl.rsqrt(of_column)[None, :], tl.rsqrt(of_row)[:, None]


@triton.jit(do_not_specialize=["count", "span", "spans", "blocks"])
def _norms_kernel(
    ids, order, gradients, gradient_stride, count, width,
    column_average, averages, totals, heads, blocks, spans, norms,
    span, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """The sum of the squared changes of a span's heads in a tile."""
    place = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    mean = _total(totals, blocks) / _total(heads, spans)
    squares = tl.zeros([TILE], tl.float32)
    for offset in range(0, span, ROWS):
        positions = place * span + offset + tl.arange(0, ROWS)
        numbers, head = heads_of(ids, positions, count)
        by_column, by_row = _scale(column_average, averages, mean, positions, head, columns, inside)
        gradient = run_sums(ids, order, gradients, gradient_stride, count, positions, numbers, head, columns, inside)
        change = gradient * by_column * by_row
        squares += tl.sum(change * change, axis=0)
    tl.store(norms + tl.program_id(1) * spans + place, tl.sum(squares, axis=0))


@triton.jit(do_not_specialize=["count", "span", "spans", "blocks", "table_rows", "start"])
def _descend_kernel(
    ids, order, gradients, gradient_stride, count, width,
    column_average, averages, totals, heads, blocks, spans, norms,
    rows, steps, row_stride, step_stride, table_rows, start: tl.uint64, rate, clip_threshold,
    span, ROWS: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Moves a span's rows in a tile by the change, scaled down where its root mean square is above the threshold."""
    place = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = columns < width
    found = _total(heads, spans)
    mean = _total(totals, blocks) / found
    size = tl.sqrt_rn(_total(norms, spans * tl.num_programs(1)) / (found * width))
    factor = -rate / tl.maximum(size / clip_threshold, 1.0)
    for offset in range(0, span, ROWS):
        positions = place * span + offset + tl.arange(0, ROWS)
        numbers, head = heads_of(ids, positions, count)
        mask = head[:, None] & inside[None, :]
        step = tl.load(steps + numbers * step_stride, mask=head, other=1)
        by_column, by_row = _scale(column_average, averages, mean, positions, head, columns, inside)
        gradient = run_sums(ids, order, gradients, gradient_stride, count, positions, numbers, head, columns, inside)
        places = rows + numbers[:, None] * row_stride + columns[None, :]
        values = tl.load(places, mask=mask, other=0.0).to(tl.float32)
        values += factor * (gradient * by_column * by_row)
        draws = numbers + step.to(tl.int64) * table_rows
        store_rounded(places, values, start, draws[:, None], columns[None, :], mask)
