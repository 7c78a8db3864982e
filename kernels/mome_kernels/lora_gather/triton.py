"""The gathered LoRA in Triton: two launches forward, at most three backward; no copy of a row is ever written.

Both directions are the same two products. `_down` multiplies tokens with the rows of the chosen experts, read from the
table where they lie, and writes partial sums; `_up` adds the parts in a fixed order, weights the slices, and multiplies
with the rows of the other table. Forward these tables are a and b, backward b and a. `_rows` makes the row gradients.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from mome.kernels.dispatch import interpreting
from mome.kernels.lora_gather.programs import _down_kernel, _rows_kernel, _up_kernel
from mome.kernels.lora_gather.reference import Needs

# Two for each multiprocessor of an H100 or H200, on any device: where it runs must not decide the order of a sum.
PROGRAMS = 264
MOST_PARTS = 32  # partial sums of one product, which `_up` has to read again
SHORTEST = 16  # side of a tile that tl.dot takes
PRODUCTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Tile(NamedTuple):
    """How many tokens, slices and columns of d a program takes at a time, and with how many warps.

    Chosen by what the compiler reports for sm_90: no spills, and registers for several programs on a multiprocessor.
    """

    t: int
    k: int
    d: int
    warps: int


def lora_gather(
    x: Tensor, a: Tensor, b: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """See `mome.kernels.lora_gather.op.forward`."""
    return _up(_down(x, a, ids, dtype), b, ids, w, y, dtype)


def lora_gather_backward(
    gradient: Tensor,
    x: Tensor | None,
    a: Tensor | None,
    b: Tensor | None,
    ids: Tensor,
    w: Tensor,
    hidden: Tensor | None,
    needs: Needs,
    rank: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """See `mome.kernels.lora_gather.op.backward`."""
    of_hidden = None if b is None else _down(gradient, b, ids, dtype)
    of_x = []
    if needs.x and of_hidden is not None and a is not None:
        found, summed = _up(of_hidden, a, ids, w, None, dtype)
        # the row gradients then read one sum instead of its parts
        of_x, of_hidden = [found], summed.unsqueeze(0)  # [1, Q, T, K*R]
    if not (needs.a or needs.b or needs.w):
        return of_x
    return of_x + _rows(gradient, x, w, hidden, of_hidden, needs, rank, dtype)


def _down(x: Tensor, table: Tensor, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """Partial sums of x [Q, T, d] times the chosen rows of table [n, R, d]: [parts, Q, T, K*R] f32."""
    (questions, tokens, size), (_, rank, _), experts = x.shape, table.shape, ids.shape[1]
    tile = down_tile(questions, tokens, experts * rank, size, dtype.itemsize)
    tiles, blocks = triton.cdiv(tokens, tile.t), triton.cdiv(size, tile.d)
    # d is cut into as many parts as it takes to keep the device busy, each a whole number of tiles
    chunk = triton.cdiv(blocks, min(blocks, MOST_PARTS, max(1, PROGRAMS // (questions * tiles)))) * tile.d
    shape = (triton.cdiv(size, chunk), questions, tokens, experts * rank)
    parts = torch.empty(shape, dtype=torch.float32, device=x.device)
    _down_kernel[(questions * tiles, len(parts))](
        x.contiguous(),
        table,
        ids.contiguous(),
        parts,
        table.stride(0),
        questions,
        tokens,
        experts,
        size,
        chunk,
        **_settings(tile, rank, dtype, 4),
    )
    return parts


def _up(
    parts: Tensor, table: Tensor, ids: Tensor, w: Tensor, y: Tensor | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """y + (weights * sum of parts) times the chosen rows of table [n, R, d]: [Q, T, d]; and the sum [Q, T, K*R]."""
    (count, questions, tokens, slices), (_, rank, size) = parts.shape, table.shape
    out = torch.empty(questions, tokens, size, dtype=dtype if y is None else y.dtype, device=parts.device)
    stored = max(out.dtype.itemsize, table.dtype.itemsize)
    tile = up_tile(questions, tokens, slices, size, dtype.itemsize, stored)
    summed = torch.empty(questions, tokens, slices, dtype=dtype, device=parts.device)
    _up_kernel[(questions * triton.cdiv(tokens, tile.t), triton.cdiv(size, tile.d))](
        parts,
        table,
        ids.contiguous(),
        w.contiguous(),
        None if y is None else y.contiguous(),
        out,
        summed,
        table.stride(0),
        parts.stride(0),
        tokens,
        ids.shape[1],
        size,
        PARTS=count,
        GROUP=_group(count, tile),
        SLICES=triton.cdiv(slices, tile.k) * tile.k,
        **_settings(tile, rank, dtype, 1),
    )
    return out, summed


def _rows(
    gradient: Tensor,
    x: Tensor | None,
    w: Tensor,
    hidden: Tensor | None,
    of_hidden: Tensor | None,
    needs: Needs,
    rank: int,
    dtype: torch.dtype,
) -> list[Tensor]:
    """Row gradients [Q, K, R*d_in + R*d_out] f32, or those of one side, and weight gradients [Q, K] f32; those needed.

    hidden is [Q, T, K*R], of_hidden [parts, Q, T, K*R].
    """
    (questions, tokens, _), experts = gradient.shape, w.shape[1]
    d_in = x.shape[2] if x is not None and needs.a else 0
    d_out = gradient.shape[2] if needs.b else 0
    tile = rows_tile(questions, tokens, experts * rank, d_in + d_out, dtype.itemsize)
    a_tiles, b_tiles = triton.cdiv(d_in, tile.d), triton.cdiv(d_out, tile.d)
    rows = torch.empty(questions, experts, rank * (d_in + d_out), dtype=torch.float32, device=gradient.device)
    of_w = torch.empty(questions, experts if needs.w else 0, dtype=torch.float32, device=gradient.device)
    count = 1 if of_hidden is None else len(of_hidden)
    _rows_kernel[(questions * (a_tiles + b_tiles + needs.w),)](
        None if x is None else x.contiguous(),
        gradient.contiguous(),
        w.contiguous(),
        None if hidden is None else hidden.contiguous(),
        of_hidden,
        rows,
        of_w,
        0 if of_hidden is None else of_hidden.stride(0),
        tokens,
        experts,
        d_in,
        d_out,
        PARTS=count,
        GROUP=_group(count, tile),
        A_TILES=a_tiles,
        B_TILES=b_tiles,
        WEIGHTS=int(needs.w),
        **_settings(tile, rank, dtype, 3),
    )
    found = [rows] if needs.a or needs.b else []
    return [*found, of_w] if needs.w else found


def down_tile(questions: int, tokens: int, slices: int, size: int, product: int) -> Tile:
    """The tile of `_down`; `product` is the bytes of a product's factor. A tile of tokens reads all the rows again."""
    k = _side(slices)
    many = questions * triton.cdiv(tokens, 64) >= PROGRAMS and k <= 128
    t = min(64 if many else 32, _side(tokens))
    d = max(32, min(128, 16384 // (product * k)))  # a tile of the table takes 16 KiB
    return Tile(t, k, min(d, _side(size)), 8 if product == 4 or t * k > 4096 else 4)


def up_tile(questions: int, tokens: int, slices: int, size: int, product: int, stored: int) -> Tile:
    """The tile of `_up`; `product` and `stored` are the bytes of a product's factor, and of the widest number read."""
    t, k = min(32, _side(tokens)), min(_side(slices), 128 // product)
    most = 64 if product == 4 else min(256, 16384 // (stored * k))  # 16 KiB again
    return Tile(t, k, _columns(questions * triton.cdiv(tokens, t), most, size), 8 if product == 4 else 4)


def rows_tile(questions: int, tokens: int, slices: int, size: int, product: int) -> Tile:
    """The tile of `_rows`; `product` is the bytes of a product's factor."""
    k = _side(slices)
    d = _columns(questions, min(256, 16384 // (product * k)), size)
    return Tile(min(32, _side(tokens)), k, d, 8 if product == 4 or k * d > 4096 else 4)


def _columns(programs: int, most: int, size: int) -> int:
    """How many columns of the rows one program takes: `most`, or fewer where there would be too few programs."""
    d = min(most, _side(size))
    while d > 64 and programs * triton.cdiv(size, d) < PROGRAMS:
        d //= 2
    return d


def _group(parts: int, tile: Tile) -> int:
    """How many parts are read at a time: as many as the registers hold, so that there is one wait for all."""
    return min(triton.next_power_of_2(parts), max(1, 8192 // (tile.t * tile.k)))


def _side(length: int) -> int:
    return max(SHORTEST, triton.next_power_of_2(length))


def _settings(tile: Tile, rank: int, dtype: torch.dtype, stages: int) -> dict[str, object]:
    """What every kernel is compiled for."""
    sides = {"BLOCK_T": tile.t, "BLOCK_K": tile.k, "BLOCK_D": tile.d}
    options = {"num_warps": tile.warps, "num_stages": stages}
    return {"RANK": rank, **sides, "DTYPE": PRODUCTS[dtype], "UPCAST": interpreting(), **options}
