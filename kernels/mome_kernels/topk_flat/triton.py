"""Exact search in Triton: one pass over the keys finds the blocks worth a second look, f64 decides in those.

1. Rough scores on the tensor cores, of which only each block's maximum is written, and the longest keys' lengths.
2. Per query the k + SPARE blocks with the highest maxima, or some more.
3. The exact score of every key in these blocks: the inner product in f64, rounded to f32 once.
4. The k best of them, equal scores in the order of their ids.

No key elsewhere scores above its block's maximum and a margin. Where the k-th score is above the highest of these
bounds, the k are final. Elsewhere, which is rare, every block whose bound reaches the k-th score is searched.

A sum in f64 is added in one order, whatever the batch, but not in the reference's. Both give the same bits unless a
boundary of f32's rounding falls between their sums, which happens to about one f32 score in 10^8.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from mome.kernels.dispatch import interpreting
from mome.kernels.topk_flat.programs import (
    BLOCK,
    NOT_FINITE,
    UNCERTAIN,
    best_kernel,
    choose_kernel,
    maxima_kernel,
    score_kernel,
)
from mome.kernels.topk_flat.reference import ROUNDED, SHORTENED, SPARE, UNDERFLOWN, best_of, not_finite

ROWS = 128  # keys of one program of the first pass
CHUNK = 2**12  # blocks that one program chooses among
NUMBERS = 2**26  # maxima or scores in memory at once
AT_ONCE = 2**14  # blocks that the rare search scores at once


class Found(NamedTuple):
    """What `search` finds, on the device."""

    scores: Tensor  # [Q, k] f32
    ids: Tensor  # [Q, k] int64
    doubts: Tensor  # [Q] int32: 0, UNCERTAIN or NOT_FINITE
    bounds: Tensor  # [Q, blocks] f32, no score in a block is higher; [Q, 0] where every key was scored exactly


@torch.no_grad()
def topk_flat(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See `mome.kernels.topk_flat.topk_flat`. Waits for the device once: a query may be in doubt."""
    blocks = triton.cdiv(len(keys), BLOCK)
    at_once = max(1, NUMBERS // max(blocks, min(blocks, slots_for(k)) * BLOCK))
    starts = range(0, max(1, len(queries)), at_once)
    parts = [_search_all(queries[start : start + at_once], keys, k, start) for start in starts]
    if len(parts) == 1:
        return parts[0]
    scores, ids = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(ids)


def _search_all(queries: Tensor, keys: Tensor, k: int, start: int) -> tuple[Tensor, Tensor]:
    """The final answers to queries of which the first has the number `start`."""
    scores, ids, doubts, bounds = search(queries, keys, k)
    for query, doubt in enumerate(doubts.tolist()):
        if doubt == UNCERTAIN:
            near = (bounds[query] >= scores[query, k - 1]).nonzero().flatten().int()
            scores[query], ids[query] = _best_among(queries[query, None], keys, near, k)
        if doubt == NOT_FINITE or (doubt == UNCERTAIN and scores[query].isinf().any()):
            raise not_finite(start + query)
    return scores, ids


def search(queries: Tensor, keys: Tensor, k: int) -> Found:
    """The k best keys as far as the second look tells, without waiting for the device: fit for a CUDA graph.

    Arguments and errors are those of `mome.kernels.topk_flat.topk_flat`, except for scores that are no finite numbers:
    they only leave NOT_FINITE in `doubts`, as a query for which other keys may be better leaves UNCERTAIN.
    """
    blocks, slots = triton.cdiv(len(keys), BLOCK), slots_for(k)
    if len(queries) == 0 or blocks <= slots:
        bounds = queries.new_empty(len(queries), 0, dtype=torch.float32)
        return Found(*_best(_score(queries, keys, None, blocks), None, None, k), bounds)
    maxima, lengths = _maxima(queries, keys)
    chosen, outside = _choose(queries, maxima, lengths, k + SPARE, slots)
    return Found(*_best(_score(queries, keys, chosen, slots), chosen, outside, k), maxima)


def slots_for(k: int) -> int:
    """How many blocks at most get the second look."""
    return triton.next_power_of_2(k + SPARE)


def _best_among(query: Tensor, keys: Tensor, blocks: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best keys [k] in `blocks` [m] for one query [1, d], an infinite score first."""
    inside = torch.arange(BLOCK, device=keys.device)
    scores, ids = query.new_empty(1, 0, dtype=torch.float32), blocks.new_empty(1, 0, dtype=torch.int64)
    for part in blocks.split(AT_ONCE):
        more = _score(query, keys, part, len(part))
        ids = torch.cat([ids, (part.long()[:, None] * BLOCK + inside).view(1, -1)], dim=1)
        scores, ids = best_of(torch.cat([scores, more], dim=1), ids, k)
    return scores[0], ids[0]


def _maxima(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Each block's highest rough score [Q, blocks] f32, and the squared length of the longest of every ROWS keys."""
    num_queries, (num_keys, width) = len(queries), keys.shape
    wide = interpreting() or queries.dtype != keys.dtype or keys.dtype == torch.float32
    # Compiled for sm_90, 16 queries take 80 registers and 38 KiB in bf16, 128 take 124 registers and 80 KiB. f32
    # products run outside the tensor cores: 64 queries take 128 registers. Nothing is spilled.
    tile = min(max(16, triton.next_power_of_2(num_queries)), 64 if wide else 128)
    blocks, groups = triton.cdiv(num_keys, BLOCK), triton.cdiv(num_keys, ROWS)
    maxima = torch.empty(num_queries, blocks, dtype=torch.float32, device=keys.device)
    lengths = torch.empty(groups, dtype=torch.float32, device=keys.device)
    maxima_kernel[(groups * triton.cdiv(num_queries, tile),)](
        *(queries, keys, maxima, lengths, num_queries, num_keys, width, blocks),
        *(*queries.stride(), *keys.stride()),
        QUERIES=tile,
        ROWS=ROWS,
        COLUMNS=32 if wide else 64,
        UPCAST=wide,
        num_warps=8 if tile > (16 if wide else 32) else 4,
        num_stages=3,
    )
    return maxima, lengths


def _choose(queries: Tensor, maxima: Tensor, lengths: Tensor, count: int, slots: int) -> tuple[Tensor, Tensor]:
    """The blocks [Q, slots] int32 with the `count` highest maxima and perhaps more, -1 in the slots left over.

    Also the highest bounds of blocks left out [Q, any number]. `maxima` is overwritten by the bounds.
    """
    num_queries, blocks = maxima.shape
    width = queries.shape[1]
    # Twice the reference's margin, which is 2^-22 for each of the d products. A tensor core lines up the 16 products of
    # a step (bf16, f16) and the sum so far with the largest of them, cuts off what lies below 2^-23 of it, and cuts the
    # new sum likewise (Fasi et al., PeerJ Computer Science 2021): d + 2 ceil(d / 16) cuts at most, so the bound would
    # hold with one bit less. The rest is for the lengths, summed in f32, and for the rounding of the bound.
    slope, floor, lost = 2 * width * ROUNDED, 2 * width * UNDERFLOWN, width * SHORTENED
    chunks = [triton.cdiv(blocks, CHUNK)]
    while chunks[-1] > 1:
        chunks.append(triton.cdiv(chunks[-1] * slots, CHUNK))
    outside = maxima.new_empty(num_queries, sum(chunks))
    bounds, names, column = maxima, None, 0
    for number in chunks:
        chosen = maxima.new_empty(num_queries, number * slots, dtype=torch.int32)
        best = maxima.new_empty(num_queries, number * slots)
        members = bounds.shape[1]
        chunk = min(CHUNK, triton.next_power_of_2(members))
        choose_kernel[(num_queries * number,)](
            *(queries, lengths, bounds, names, chosen, best, outside[:, column:]),
            *(width, *queries.stride(), len(lengths), members, number, outside.stride(0), count, slope, floor, lost),
            COLUMNS=128,
            GROUPS=triton.cdiv(chunk * BLOCK, ROWS),
            CHUNK=chunk,
            SLOTS=slots,
            num_warps=max(4, chunk // 512),
        )
        bounds, names, column = best, chosen, column + number
    return chosen, outside


def _score(queries: Tensor, keys: Tensor, chosen: Tensor | None, slots: int) -> Tensor:
    """Exact scores [Q, slots * BLOCK] f32 of the keys in each query's `chosen` blocks, or in all of them.

    A key past the last one scores -inf; a score that is no finite number reads inf.
    """
    scores = torch.empty(len(queries), slots * BLOCK, dtype=torch.float32, device=keys.device)
    if len(queries):
        score_kernel[(len(queries) * slots,)](
            *(queries, keys, chosen, scores, len(keys), keys.shape[1], slots, *queries.stride(), *keys.stride()),
            COLUMNS=columns_for(keys.shape[1]),
            num_warps=4,
        )
    return scores


def columns_for(width: int) -> int:
    """How many columns of a row are multiplied at once: it fixes the order of the sum, so it follows from d alone."""
    return min(64, triton.next_power_of_2(max(1, width)))


def _best(scores: Tensor, chosen: Tensor | None, outside: Tensor | None, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k best of the candidates [Q, slots * BLOCK], their ids, and what is in doubt about them [Q]."""
    num_queries, candidates = scores.shape
    best = scores.new_empty(num_queries, k)
    ids = scores.new_empty(num_queries, k, dtype=torch.int64)
    doubts = scores.new_empty(num_queries, dtype=torch.int32)
    outsides = 0 if outside is None else outside.shape[1]
    size = triton.next_power_of_2(candidates)
    if num_queries:
        best_kernel[(num_queries,)](
            *(scores, chosen, outside, best, ids, doubts, candidates, outsides, k),
            CANDIDATES=size,
            OUTSIDES=triton.next_power_of_2(max(1, outsides)),
            RANKS=triton.next_power_of_2(k),
            num_warps=min(16, max(4, size // 512)),
        )
    return best, ids, doubts
