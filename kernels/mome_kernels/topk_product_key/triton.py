"""Product-key search in Triton, in two launches: all half scores, then one program per query that ranks them.

The ranking follows `reference.py`. The halves are taken one by one, best first; their pairs are few enough to compare
each with each, and the number of pairs ahead of one is its rank.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mome.kernels.topk_flat.programs import codes_of, inner_products, place_of
from mome.kernels.topk_flat.reference import not_finite
from mome.kernels.topk_flat.triton import columns_for
from mome.kernels.topk_product_key.reference import count_pairs

ROWS = 32  # half keys that one program scores

_LOWEST, _INFINITY = tl.constexpr(-(2**63)), tl.constexpr(float("inf"))


class Found(NamedTuple):
    """What `search` finds, on the device."""

    scores: Tensor  # [Q, k] f32
    ids: Tensor  # [Q, k] int64
    doubts: Tensor  # [Q] int32, 1 where a score is no finite number


@torch.no_grad()
def topk_product_key(queries: Tensor, first: Tensor, second: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `mome.kernels.topk_product_key.topk_product_key`. Waits for the device once: a score may be no number."""
    scores, ids, doubts = search(queries, first, second, k)
    for query, doubt in enumerate(doubts.tolist()):
        if doubt:
            raise not_finite(query)
    return scores, ids


def search(queries: Tensor, first: Tensor, second: Tensor, k: int) -> Found:
    """The k best pairs without waiting for the device: fit for a CUDA graph.

    Arguments and errors are those of `mome.kernels.topk_product_key.topk_product_key`, except for scores that are no
    finite numbers: they only show in `doubts`.
    """
    num_queries = len(queries)
    best = queries.new_empty(num_queries, k, dtype=torch.float32)
    ids = queries.new_empty(num_queries, k, dtype=torch.int64)
    doubts = queries.new_empty(num_queries, dtype=torch.int32)
    if num_queries:
        halves = _score_halves(queries, first, second)
        pairs = triton.next_power_of_2(count_pairs(k, len(first), len(second)))
        _pairs_kernel[(num_queries,)](
            *(halves, best, ids, doubts, len(first), len(second), k, min(k, max(len(first), len(second)))),
            FIRST=triton.next_power_of_2(len(first)),
            SECOND=triton.next_power_of_2(len(second)),
            RANKS=triton.next_power_of_2(k),
            PAIRS=pairs,
            num_warps=16,  # with 8 it takes all 255 registers in Triton 3.9; 256 pairs spill with either
        )
    return Found(best, ids, doubts)


def _score_halves(queries: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """The half scores of every query [Q, n1 + n2] f32; one that is no finite number reads inf."""
    scores = queries.new_empty(len(queries), len(first) + len(second), dtype=torch.float32)
    first_tiles, second_tiles = triton.cdiv(len(first), ROWS), triton.cdiv(len(second), ROWS)
    _halves_kernel[(len(queries) * (first_tiles + second_tiles),)](
        *(queries, first, second, scores, len(first), len(second), first.shape[1]),
        *(*queries.stride(), *first.stride(), *second.stride(), first_tiles, first_tiles + second_tiles),
        ROWS=ROWS,
        COLUMNS=columns_for(first.shape[1]),
        num_warps=4,
    )
    return scores


@triton.jit
def _halves_kernel(
    queries,
    first,
    second,
    scores,
    num_first,
    num_second,
    width,
    query_row,
    query_column,
    first_row,
    first_column,
    second_row,
    second_column,
    first_tiles,
    tiles,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    query, tile = (tl.program_id(0) // tiles).to(tl.int64), tl.program_id(0) % tiles
    queries += query * query_row
    scores += query * (num_first + num_second)
    if tile < first_tiles:
        rows = tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = rows < num_first
        found = inner_products(
            queries, query_column, first, rows, inside, first_row, first_column, width, ROWS=ROWS, COLUMNS=COLUMNS
        )
        tl.store(scores + rows, found, mask=inside)
    else:
        queries += width * query_column
        rows = (tile - first_tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        inside = rows < num_second
        found = inner_products(
            queries, query_column, second, rows, inside, second_row, second_column, width, ROWS=ROWS, COLUMNS=COLUMNS
        )
        tl.store(scores + num_first + rows, found, mask=inside)


@triton.jit
def _pairs_kernel(
    scores,
    best,
    ids,
    doubts,
    num_first,
    num_second,
    k,
    most,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    RANKS: tl.constexpr,
    PAIRS: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    scores += query * (num_first + num_second)
    places = tl.arange(0, FIRST)  # n1 rounded up to a power of two; what is past it scores -inf
    left = codes_of(tl.load(scores + places, mask=places < num_first, other=-_INFINITY), places)
    places = tl.arange(0, SECOND)
    right = codes_of(tl.load(scores + num_first + places, mask=places < num_second, other=-_INFINITY), places)
    left_rank, right_rank, inside = _ranks_of_pairs(num_first, num_second, k, RANKS, PAIRS)
    left_place = tl.zeros([PAIRS], tl.int32)
    right_place = tl.zeros([PAIRS], tl.int32)
    for rank in range(most):
        left_code, right_code = tl.max(left, axis=0), tl.max(right, axis=0)
        left_place = tl.where(left_rank == rank, place_of(left_code), left_place)
        right_place = tl.where(right_rank == rank, place_of(right_code), right_place)
        left = tl.where(left == left_code, _LOWEST, left)
        right = tl.where(right == right_code, _LOWEST, right)
    left_score = tl.load(scores + left_place, mask=inside, other=0.0).to(tl.float64)
    right_score = tl.load(scores + num_first + right_place, mask=inside, other=0.0).to(tl.float64)
    sums = left_score + right_score
    # what the rounding of the sum lost (Knuth's TwoSum)
    virtual = sums - left_score
    lost = (left_score - (sums - virtual)) + (right_score - virtual)
    number = left_place.to(tl.int64) * num_second + right_place
    # [PAIRS, PAIRS]: whether the pair of a column comes before that of a row, by sum, then lost, then id
    before = (lost[None, :] > lost[:, None]) | ((lost[None, :] == lost[:, None]) & (number[None, :] < number[:, None]))
    before = (sums[None, :] > sums[:, None]) | ((sums[None, :] == sums[:, None]) & before)
    place = tl.sum((before & inside[None, :]).to(tl.int32), axis=1)
    kept = inside & (place < k)
    rounded = sums.to(tl.float32)
    tl.store(best + query * k + place, rounded, mask=kept)
    tl.store(ids + query * k + place, number, mask=kept)
    wrong = kept & (tl.abs(rounded) == _INFINITY)  # an infinite half makes the highest sum infinite
    tl.store(doubts + query, tl.max(wrong.to(tl.int32), axis=0))


@triton.jit
def _ranks_of_pairs(num_first, num_second, k, RANKS: tl.constexpr, PAIRS: tl.constexpr):
    """The two ranks [PAIRS] of every pair (a, b) with (a+1)(b+1) <= k, in the order of a, and which are there."""
    ranks, pairs = tl.arange(0, RANKS), tl.arange(0, PAIRS)
    partners = tl.where(ranks < num_first, tl.minimum(k // (ranks + 1), num_second), 0)
    starts = tl.cumsum(partners, axis=0) - partners
    begun = (partners > 0)[None, :] & (starts[None, :] <= pairs[:, None])
    right = pairs - tl.max(tl.where(begun, starts[None, :], 0), axis=1)
    return tl.sum(begun.to(tl.int32), axis=1) - 1, right, pairs < tl.sum(partners, axis=0)
