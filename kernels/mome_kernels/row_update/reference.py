"""Row-sparse Adam and Adafactor in plain torch.

`adam_block` and `adafactor_blocks` work on rows that were gathered before; `adam_` and `adafactor_` on whole tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mome.kernels.counter.reference import stochastic_round
from mome.kernels.row_sum.reference import Groups, sum_groups


class Adam(NamedTuple):
    """What decides a step of Adam; see `mome.kernels.row_update.adam_`."""

    rate: float
    betas: tuple[float, float]
    epsilon: float


class Adafactor(NamedTuple):
    """What decides a step of Adafactor; see `mome.kernels.row_update.adafactor_`."""

    rate: float
    epsilon: float
    clip_threshold: float
    decay_rate: float


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
    distinct, sums = _summed(ids, gradients, order)
    block, counts = rows.index_select(0, distinct).float(), steps.index_select(0, distinct)  # [n, width], [n]
    # [n] -> [n, 1], to broadcast over columns; f64, because 1 - beta^t loses digits while beta^t is near 1
    sizes = adam_sizes(counts[:, None].double(), settings)
    adam_block(block, exp_avg, exp_avg_sq, distinct, sums, sizes, settings)
    _write(rows, distinct, block, counts, seed, stream)


def adam_sizes(steps: Tensor, settings: Adam) -> tuple[Tensor, Tensor]:
    """Adam's bias corrections for rows updated `steps` (f64 [n, 1]) times, this one included.

    Returns f32 [n, 1]: the factor of the first average, with the learning rate, and that of the second one's root.
    """
    beta1, beta2 = settings.betas
    return (-settings.rate / (1 - beta1**steps)).float(), (1 - beta2**steps).sqrt_().reciprocal_().float()


def adam_block(
    rows: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    ids: Tensor,
    gradients: Tensor,
    sizes: tuple[Tensor, Tensor],
    settings: Adam,
) -> None:
    """Adam on `rows` (f32 [n, width]) in place, and on the rows `ids` ([n], distinct) of the tables of averages."""
    beta1, beta2 = settings.betas
    size, correction = sizes
    first = exp_avg.index_select(0, ids).lerp_(gradients, 1 - beta1)
    second = exp_avg_sq.index_select(0, ids).mul_(beta2)
    second.addcmul_(gradients, gradients, value=1 - beta2)
    exp_avg.index_copy_(0, ids, first)
    exp_avg_sq.index_copy_(0, ids, second)
    rows.addcdiv_(first.mul_(size), second.sqrt_().mul_(correction).add_(settings.epsilon))


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
    distinct, sums = _summed(ids, gradients, order)
    block, counts = rows.index_select(0, distinct).float(), steps.index_select(0, distinct)
    statistics = (row_average[:, None], [column_average])  # [N, 1] and one [width]: a single table
    adafactor_blocks([block], *statistics, distinct, [sums], counts[:, None].double(), int(updates), settings)
    _write(rows, distinct, block, counts, seed, stream)


def adafactor_blocks(
    rows: Sequence[Tensor],
    row_averages: Tensor,
    column_averages: Sequence[Tensor],
    ids: Tensor,
    gradients: Sequence[Tensor],
    steps: Tensor,
    updates: int,
    settings: Adafactor,
) -> None:
    """Adafactor on several tables' rows (each f32 [n, width]) in place, and on the statistics.

    `row_averages` [N, tables] holds the statistic of each table's rows, of which `ids` ([n], distinct) are updated, and
    `column_averages` ([width] each) those of the columns. `steps` (f64 [n, 1]) and `updates` count this update.
    """
    means = gradients[0].new_empty(len(ids), len(rows))
    weight = updates**settings.decay_rate
    for index, (gradient, column) in enumerate(zip(gradients, column_averages, strict=True)):
        squares = gradient.square()
        means[:, index] = squares.mean(1)  # [n, width] -> [n]
        column.mul_(1 - weight).add_(squares.mean(0).add_(settings.epsilon), alpha=weight)  # [width]
    scales = _row_scales(row_averages, ids, means.add_(settings.epsilon), steps.pow(settings.decay_rate))
    for index, (block, gradient, column) in enumerate(zip(rows, gradients, column_averages, strict=True)):
        change = (gradient * column.rsqrt()).mul_(scales[:, index, None])  # [n, width] * [width] * [n, 1]
        size = float(torch.linalg.vector_norm(change)) / math.sqrt(change.numel())  # the root mean square
        block.add_(change, alpha=-settings.rate / max(1.0, size / settings.clip_threshold))


def _row_scales(row_averages: Tensor, ids: Tensor, means: Tensor, weights: Tensor) -> Tensor:
    """Average `means` [n, tables] into the rows' statistic; returns 1/sqrt of it over its mean, [n, tables]."""
    average = row_averages.index_select(0, ids).mul_((1 - weights).float()).addcmul_(means, weights.float())
    row_averages.index_copy_(0, ids, average)
    return (average / average.mean(0)).rsqrt_()  # the mean of each table over the rows: [n, tables] / [tables]


def _summed(ids: Tensor, gradients: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor]:
    """The distinct rows among the ascending ids, and each one's gradients added up: [n] int64 and [n, width] f32."""
    distinct, sizes = torch.unique_consecutive(ids, return_counts=True)
    positions = torch.arange(len(ids), device=ids.device) if order is None else order
    return distinct, sum_groups(Groups(positions, sizes.cumsum(0) - sizes), gradients)


def _write(rows: Tensor, ids: Tensor, values: Tensor, steps: Tensor, seed: int, stream: int) -> None:
    """Store f32 `values` at the rows `ids`, rounded as `mome.adapter.bank.Bank.write` rounds them."""
    if rows.dtype == torch.bfloat16:
        # row + N t differs for every update of every row, so each is rounded by draws of its own
        values = stochastic_round(values, seed, stream, ids + len(rows) * steps.long())
    rows.index_copy_(0, ids, values)
