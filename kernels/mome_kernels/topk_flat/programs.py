# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
"""The Triton programs of exact search; `triton.py` says what they are for and starts them."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 64  # keys that share a maximum
UNCERTAIN, NOT_FINITE = 1, 2  # why a query can be in doubt

_BLOCK, _UNCERTAIN, _NOT_FINITE = tl.constexpr(BLOCK), tl.constexpr(UNCERTAIN), tl.constexpr(NOT_FINITE)
_LOWEST, _LOWEST_32, _HIGHEST_32 = tl.constexpr(-(2**63)), tl.constexpr(-(2**31)), tl.constexpr(2**31 - 1)
_INFINITY, _LARGE = tl.constexpr(float("inf")), tl.constexpr(2.0**126)


@triton.jit
def inner_products(
    query, query_column, keys, rows, inside, key_row, key_column, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Scores [ROWS] f32 of the keys `rows` with one query; inf for what is no finite number, -inf outside."""
    sums = tl.zeros([ROWS, COLUMNS], tl.float64)
    for start in tl.range(0, width, COLUMNS, num_stages=3):
        columns = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        left = tl.load(query + columns * query_column, mask=columns < width, other=0.0)
        mask = inside[:, None] & (columns < width)[None, :]
        right = tl.load(keys + rows[:, None] * key_row + columns[None, :] * key_column, mask=mask, other=0.0)
        # by way of f32, which Triton's interpreter needs for bf16; both steps are exact, and so is the product
        sums += left.to(tl.float32).to(tl.float64)[None, :] * right.to(tl.float32).to(tl.float64)
    scores = tl.sum(sums, axis=1).to(tl.float32)
    return tl.where(inside, tl.where(tl.abs(scores) < _INFINITY, scores, _INFINITY), -_INFINITY)


@triton.jit
def ordered(values):
    """int32 numbers in the order of f32 `values`, the two zeros alike."""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & _HIGHEST_32)


@triton.jit
def codes_of(scores, places):
    """Distinct int64 numbers in the order of the scores, equal scores in the opposite order of their places."""
    return (ordered(scores).to(tl.int64) << 32) | (places ^ _HIGHEST_32).to(tl.int64)


@triton.jit
def place_of(code):
    """The place that `codes_of` put into a code."""
    return (code & _HIGHEST_32).to(tl.int32) ^ _HIGHEST_32


@triton.jit
def maxima_kernel(
    queries,
    keys,
    maxima,
    lengths,
    num_queries,
    num_keys,
    width,
    blocks,
    query_row,
    query_column,
    key_row,
    key_column,
    QUERIES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    UPCAST: tl.constexpr,
):
    # neighbouring programs take the same keys, so that several tiles of queries read them from memory once
    tiles = tl.cdiv(num_queries, QUERIES)
    tile, group = tl.program_id(0) % tiles, tl.program_id(0) // tiles
    asked = tile.to(tl.int64) * QUERIES + tl.arange(0, QUERIES)
    rows = group.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    rough = tl.zeros([ROWS, QUERIES], tl.float32)
    squares = tl.zeros([ROWS], tl.float32)
    for start in range(0, width, COLUMNS):
        columns = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        inside = columns < width
        mask = (rows < num_keys)[:, None] & inside[None, :]
        key = tl.load(keys + rows[:, None] * key_row + columns[None, :] * key_column, mask=mask, other=0.0)
        mask = (asked < num_queries)[None, :] & inside[:, None]
        query = tl.load(queries + asked[None, :] * query_row + columns[:, None] * query_column, mask=mask, other=0.0)
        if UPCAST:
            key, query = key.to(tl.float32), query.to(tl.float32)
        rough = tl.dot(key, query, rough, input_precision="ieee")
        squares += tl.sum(key.to(tl.float32) * key.to(tl.float32), axis=1)
    rough = tl.where((rows < num_keys)[:, None], rough, -_INFINITY)
    best = tl.max(tl.reshape(rough, [ROWS // _BLOCK, _BLOCK, QUERIES]), axis=1)
    block = group * (ROWS // _BLOCK) + tl.arange(0, ROWS // _BLOCK)
    mask = (block < blocks)[:, None] & (asked < num_queries)[None, :]
    tl.store(maxima + asked[None, :] * blocks + block[:, None], best, mask=mask)
    # NaN would be lost in a maximum: a key that holds one counts as endless, which puts its block into doubt
    squares = tl.where(squares < _INFINITY, squares, _INFINITY)
    tl.store(lengths + group, tl.max(squares, axis=0), mask=tile == 0)


@triton.jit
def _margin(
    query, query_column, lengths, groups, first, width, slope, floor, lost, COLUMNS: tl.constexpr, GROUPS: tl.constexpr
):
    """How far the rough scores can be off for the keys of GROUPS groups; inf where a score might be infinite."""
    squares = tl.zeros([COLUMNS], tl.float64)
    for start in range(0, width, COLUMNS):
        columns = (start + tl.arange(0, COLUMNS)).to(tl.int64)
        numbers = tl.load(query + columns * query_column, mask=columns < width, other=0.0).to(tl.float32)
        squares += numbers.to(tl.float64) * numbers.to(tl.float64)
    group = first + tl.arange(0, GROUPS)
    longest = tl.sqrt(tl.max(tl.load(lengths + group, mask=group < groups, other=0.0), axis=0).to(tl.float64))
    reach = tl.sqrt(tl.sum(squares, axis=0)) * (longest + lost)
    return tl.where(reach < _LARGE, reach * slope + floor, _INFINITY).to(tl.float32)


@triton.jit
def _lowest_chosen(order, inside, count, SLOTS: tl.constexpr):
    """A number that `count` or more of `order` [n] int32 reach, and no more than SLOTS unless equal ones force it."""
    low = tl.min(tl.where(inside, order, _HIGHEST_32), axis=0).to(tl.int64)
    high = tl.max(tl.where(inside, order, _LOWEST_32), axis=0).to(tl.int64) + 1
    reached = tl.sum(inside.to(tl.int32), axis=0)
    while (reached > SLOTS) & (high - low > 1):
        middle = (low + high) >> 1
        many = tl.sum((inside & (order >= middle.to(tl.int32))).to(tl.int32), axis=0)
        low, high = tl.where(many >= count, middle, low), tl.where(many >= count, high, middle)
        reached = tl.where(many >= count, many, reached)
    return low.to(tl.int32)


@triton.jit
def choose_kernel(
    queries,
    lengths,
    bounds,
    names,
    chosen,
    best,
    outside,
    width,
    query_row,
    query_column,
    groups,
    members,
    chunks,
    outside_row,
    count,
    slope,
    floor,
    lost,
    COLUMNS: tl.constexpr,
    GROUPS: tl.constexpr,
    CHUNK: tl.constexpr,
    SLOTS: tl.constexpr,
):
    query, chunk = (tl.program_id(0) // chunks).to(tl.int64), tl.program_id(0) % chunks
    places = chunk * CHUNK + tl.arange(0, CHUNK)
    inside = places < members
    bound = tl.load(bounds + query * members + places, mask=inside, other=-_INFINITY)
    if names is None:
        numbers = queries + query * query_row
        first = chunk * GROUPS
        bound += _margin(
            numbers, query_column, lengths, groups, first, width, slope, floor, lost, COLUMNS=COLUMNS, GROUPS=GROUPS
        )
        bound = tl.where(bound == bound, bound, _INFINITY)
        tl.store(bounds + query * members + places, bound, mask=inside)
        name = places
    else:
        name = tl.load(names + query * members + places, mask=inside, other=-1)
        inside = name >= 0
    order = ordered(bound)
    kept = inside & (order >= _lowest_chosen(order, inside, count, SLOTS))
    slot = tl.cumsum(kept.to(tl.int32), axis=0) - 1
    # which of equal ones are left out does not matter: their bounds are in `outside`
    kept = kept & (slot < SLOTS)
    row = (query * chunks + chunk) * SLOTS
    tl.store(chosen + row + slot, name, mask=kept)
    tl.store(best + row + slot, bound, mask=kept)
    slots = tl.arange(0, SLOTS)
    tl.store(chosen + row + slots, -1, mask=slots >= tl.sum(kept.to(tl.int32), axis=0))
    highest = tl.max(tl.where(inside & (kept == 0), bound, -_INFINITY), axis=0)
    tl.store(outside + query * outside_row + chunk, highest)


@triton.jit
def score_kernel(
    queries,
    keys,
    chosen,
    scores,
    num_keys,
    width,
    slots,
    query_row,
    query_column,
    key_row,
    key_column,
    COLUMNS: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    block = (program % slots) if chosen is None else tl.load(chosen + program).to(tl.int64)
    rows = block * _BLOCK + tl.arange(0, _BLOCK)
    found = inner_products(
        queries + (program // slots) * query_row,
        query_column,
        keys,
        rows,
        (rows >= 0) & (rows < num_keys),
        key_row,
        key_column,
        tl.where(block >= 0, width, 0),
        ROWS=_BLOCK,
        COLUMNS=COLUMNS,
    )
    tl.store(scores + program * _BLOCK + tl.arange(0, _BLOCK), found)


@triton.jit
def best_kernel(
    scores,
    chosen,
    outside,
    best,
    ids,
    doubts,
    candidates,
    outsides,
    k,
    CANDIDATES: tl.constexpr,
    OUTSIDES: tl.constexpr,
    RANKS: tl.constexpr,
):
    query = tl.program_id(0).to(tl.int64)
    places, ranks = tl.arange(0, CANDIDATES), tl.arange(0, RANKS)
    scores += query * candidates
    codes = codes_of(tl.load(scores + places, mask=places < candidates, other=-_INFINITY), places)
    picked = tl.zeros([RANKS], tl.int32)
    for rank in range(k):
        code = tl.max(codes, axis=0)
        picked = tl.where(ranks == rank, place_of(code), picked)
        codes = tl.where(codes == code, _LOWEST, codes)
    values = tl.load(scores + picked)
    block = picked // _BLOCK
    if chosen is not None:
        block = tl.load(chosen + query * (candidates // _BLOCK) + block)
    tl.store(best + query * k + ranks, values, mask=ranks < k)
    tl.store(ids + query * k + ranks, block.to(tl.int64) * _BLOCK + picked % _BLOCK, mask=ranks < k)
    doubt = tl.max(tl.where(ranks < k, values, -_INFINITY), axis=0) == _INFINITY
    doubt = doubt.to(tl.int32) * _NOT_FINITE
    if outside is not None:
        columns = tl.arange(0, OUTSIDES)
        bounds = tl.load(outside + query * outsides + columns, mask=columns < outsides, other=-_INFINITY)
        last = tl.min(tl.where(ranks < k, values, _INFINITY), axis=0)
        doubt = tl.where((doubt == 0) & (tl.max(bounds, axis=0) >= last), _UNCERTAIN, doubt)
    tl.store(doubts + query, doubt)
