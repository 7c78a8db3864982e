# mypy: allow-untyped-defs, allow-incomplete-defs, no-check-untyped-defs
"""The Triton programs of the gathered LoRA; `triton.py` says what they are for and starts them.

Sizes are those of Q `questions`, T `tokens`, K `experts` of R `RANK` slices each, and d `size`. Everything is
contiguous, but for the tables, whose rows lie `row_stride` elements apart. Sums are f32, in an order that depends on
the sizes alone.
"""

import triton
import triton.language as tl


@triton.jit
def _dot(left, right, total, DTYPE: tl.constexpr, UPCAST: tl.constexpr):
    """total + left @ right, the factors rounded to DTYPE; the interpreter multiplies nothing narrower than f32."""
    left, right = left.to(DTYPE), right.to(DTYPE)
    if UPCAST:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision="ieee")


@triton.jit
def _chosen(table, ids, row_stride, question, j, experts, size, RANK: tl.constexpr):
    """Where slices j of a question's experts start in a table [n, R, size]."""
    row = tl.load(ids + question * experts + j // RANK, mask=j < experts * RANK, other=0)
    return table + row * row_stride + (j % RANK) * size


@triton.jit
def _weights(w, question, j, experts, RANK: tl.constexpr, DTYPE: tl.constexpr):
    """The weights of slices j of a question, rounded to DTYPE; as f32."""
    weights = tl.load(w + question * experts + j // RANK, mask=j < experts * RANK, other=0.0)
    return weights.to(DTYPE).to(tl.float32)


@triton.jit
def _matrix(rows, there, columns, size):
    """The tile at some rows' starts (`there` or not) and columns, zero where there is none."""
    return tl.load(rows[:, None] + columns[None, :], mask=there[:, None] & (columns < size)[None, :], other=0.0)


@triton.jit
def _sum_parts(
    parts, part_stride, question, t, tokens, j, slices, PARTS: tl.constexpr, GROUP: tl.constexpr, DTYPE: tl.constexpr
):
    """Slices j of tokens t, added up over the parts, and rounded to DTYPE; as f32. GROUP parts are read at a time."""
    cells = (question * tokens + t)[:, None] * slices + j[None, :]
    inside = (t < tokens)[:, None] & (j < slices)[None, :]
    total = tl.zeros(inside.shape, tl.float32)
    for first in range(0, PARTS, GROUP):
        part = first + tl.arange(0, GROUP).to(tl.int64)
        group = tl.load(
            parts + part[:, None, None] * part_stride + cells[None, :, :],
            mask=(part < PARTS)[:, None, None] & inside[None, :, :],
            other=0.0,
        )
        total += tl.sum(group.to(tl.float32), axis=0)
    return total.to(DTYPE).to(tl.float32)


@triton.jit
def _down_kernel(
    x,
    table,
    ids,
    parts,
    row_stride,
    questions,
    tokens,
    experts,
    size,
    chunk,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DTYPE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    tiles = tl.cdiv(tokens, BLOCK_T)
    question = (tl.program_id(0) // tiles).to(tl.int64)
    t = (tl.program_id(0) % tiles) * BLOCK_T + tl.arange(0, BLOCK_T)
    j = tl.arange(0, BLOCK_K)
    x_rows = x + (question * tokens + t) * size
    table_rows = _chosen(table, ids, row_stride, question, j, experts, size, RANK)
    total = tl.zeros((BLOCK_T, BLOCK_K), tl.float32)
    first = tl.program_id(1) * chunk
    for start in range(first, tl.minimum(first + chunk, size), BLOCK_D):
        d = start + tl.arange(0, BLOCK_D)
        left = _matrix(x_rows, t < tokens, d, size)
        right = _matrix(table_rows, j < experts * RANK, d, size)
        total = _dot(left, tl.trans(right), total, DTYPE, UPCAST)
    rows = parts + ((tl.program_id(1) * questions + question) * tokens + t) * experts * RANK
    tl.store(rows[:, None] + j[None, :], total, mask=(t < tokens)[:, None] & (j < experts * RANK)[None, :])


@triton.jit
def _up_kernel(
    parts,
    table,
    ids,
    w,
    y,
    out,
    summed,
    row_stride,
    part_stride,
    tokens,
    experts,
    size,
    PARTS: tl.constexpr,
    GROUP: tl.constexpr,
    RANK: tl.constexpr,
    SLICES: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DTYPE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    tiles = tl.cdiv(tokens, BLOCK_T)
    question = (tl.program_id(0) // tiles).to(tl.int64)
    t = (tl.program_id(0) % tiles) * BLOCK_T + tl.arange(0, BLOCK_T)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    token = question * tokens + t
    if y is not None:  # asked for first, so that it is there when it is needed
        own = _matrix(y + token * size, t < tokens, d, size)
    total = tl.zeros((BLOCK_T, BLOCK_D), tl.float32)
    # SLICES, K*R or more, is known when this is compiled: a single round is then no loop, and takes half the registers
    for first in range(0, SLICES, BLOCK_K):
        j = first + tl.arange(0, BLOCK_K)
        table_rows = _chosen(table, ids, row_stride, question, j, experts, size, RANK)
        right = _matrix(table_rows, j < experts * RANK, d, size)
        left = _sum_parts(parts, part_stride, question, t, tokens, j, experts * RANK, PARTS, GROUP, DTYPE)
        if tl.program_id(1) == 0:
            rows = summed + token * experts * RANK
            tl.store(rows[:, None] + j[None, :], left, mask=(t < tokens)[:, None] & (j < experts * RANK)[None, :])
        left *= _weights(w, question, j, experts, RANK, DTYPE)[None, :]
        total = _dot(left, right, total, DTYPE, UPCAST)
    if y is not None:
        total += own.to(tl.float32)
    rows = out + token * size
    tl.store(rows[:, None] + d[None, :], total, mask=(t < tokens)[:, None] & (d < size)[None, :])


@triton.jit
def _rows_kernel(
    x,
    gradient,
    w,
    hidden,
    parts,
    rows,
    of_w,
    stride,
    tokens,
    experts,
    d_in,
    d_out,
    PARTS: tl.constexpr,
    GROUP: tl.constexpr,
    A_TILES: tl.constexpr,
    B_TILES: tl.constexpr,
    WEIGHTS: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
    DTYPE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """A question's programs are its tiles of a's columns, then those of b's, then one for its weights."""
    TILES: tl.constexpr = A_TILES + B_TILES + WEIGHTS
    q = (tl.program_id(0) // TILES).to(tl.int64)
    tile = tl.program_id(0) % TILES
    j = tl.arange(0, BLOCK_K)
    into = rows + (q * experts + j // RANK) * (d_in + d_out) * RANK  # of the rows of slices j
    weights = _weights(w, q, j, experts, RANK, DTYPE)
    # the outer conditions are known when the kernel is compiled, and guard tensors that are not there
    if A_TILES > 0:  # noqa: SIM102
        if tile < A_TILES:
            d = tile * BLOCK_D + tl.arange(0, BLOCK_D)
            _row_tile(
                parts, stride, x, weights, into, q, tokens, experts, d, d_in, PARTS, GROUP, RANK, BLOCK_T, DTYPE, UPCAST
            )
    if B_TILES > 0:  # noqa: SIM102
        if (tile >= A_TILES) & (tile < A_TILES + B_TILES):
            d = (tile - A_TILES) * BLOCK_D + tl.arange(0, BLOCK_D)
            of_b = into + RANK * d_in  # a row of b stands behind that of a
            _row_tile(
                hidden, 0, gradient, weights, of_b, q, tokens, experts, d, d_out, 1, 1, RANK, BLOCK_T, DTYPE, UPCAST
            )
    if WEIGHTS > 0:  # noqa: SIM102
        if tile == A_TILES + B_TILES:
            total = _weight_tile(parts, stride, hidden, q, tokens, experts, PARTS, GROUP, RANK, BLOCK_T, BLOCK_K, DTYPE)
            tl.store(of_w + q * experts + j, total, mask=j < experts)


@triton.jit
def _row_tile(
    parts,
    part_stride,
    values,
    weights,
    into,
    question,
    tokens,
    experts,
    d,
    size,
    PARTS: tl.constexpr,
    GROUP: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    DTYPE: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """Store, at the columns d of the rows that start at `into`, (weight * slice)^T times values [Q, T, size].

    That is summed over the question's tokens.
    """
    j = tl.arange(0, weights.shape[0])
    total = tl.zeros((weights.shape[0], d.shape[0]), tl.float32)
    for start in range(0, tokens, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        right = _matrix(values + (question * tokens + t) * size, t < tokens, d, size)
        left = (
            _sum_parts(parts, part_stride, question, t, tokens, j, experts * RANK, PARTS, GROUP, DTYPE)
            * weights[None, :]
        )
        total = _dot(tl.trans(left), right, total, DTYPE, UPCAST)
    here = (into + (j % RANK) * size)[:, None] + d[None, :]
    tl.store(here, total, mask=(j < experts * RANK)[:, None] & (d < size)[None, :])


@triton.jit
def _weight_tile(
    parts,
    part_stride,
    hidden,
    question,
    tokens,
    experts,
    PARTS: tl.constexpr,
    GROUP: tl.constexpr,
    RANK: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """The sum over a question's tokens and an expert's slices of the product of both sides' slices."""
    k = tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_K,), tl.float32)
    for start in range(0, tokens, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        for r in range(RANK):
            # an expert past the last gets slices past the last, which are zero
            j = k * RANK + r
            left = _sum_parts(parts, part_stride, question, t, tokens, j, experts * RANK, PARTS, GROUP, DTYPE)
            right = _sum_parts(hidden, 0, question, t, tokens, j, experts * RANK, 1, 1, DTYPE)
            total += tl.sum(left * right, axis=0)
    return total
