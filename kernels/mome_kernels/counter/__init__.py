"""Random numbers without a state: each is a hash of who asks (seed, stream or step, row, column).

A row's numbers depend neither on the other rows asked for nor on the order of asking, so a bank of any size has initial
values that need no storage, and a resumed run rounds as the uninterrupted one would have.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mome.kernels.counter import reference
from mome.kernels.counter.reference import signed
from mome.kernels.dispatch import check_count, implementation


def uniform(seed: int, stream: int, ids: Tensor, width: int, *, impl: str = "auto") -> Tensor:
    """Uniform numbers in [0, 1), one row for each id: [n, width] f32, multiples of 2^-24, the same bits on any device.

    Args:
        seed: any integer; only its lowest 64 bits count, and likewise for `stream`.
        stream: tells uses of one seed apart, e.g. one stream for each table.
        ids: [n] int64 row numbers, in any order; a repeated id gets the same row again.
        width: columns; the first columns do not depend on how many are asked for.
        impl: which implementation draws, "auto", "reference" or "triton".

    Raises:
        ValueError: ids are not a vector of int64, or width is no whole number of at least 0.
        RuntimeError: `impl` is not possible.
    """
    _check_ids(ids)
    check_count("uniform", "width", width)
    if width < 0:
        raise ValueError(f"uniform: width must not be negative, got {width}")
    if impl == "auto" and ids.is_cpu:  # the first call of any operator of torch.library costs a second of imports
        return reference.uniform(seed, stream, ids, width)
    result: Tensor = _uniform(signed(seed), signed(stream), ids, width, impl)
    return result


def stochastic_round(rows: Tensor, seed: int, step: int, ids: Tensor, *, impl: str = "auto") -> Tensor:
    """Round [n, width] f32 to bf16, up or down at random so that the mean is the value itself.

    The 16 bits that decide are a hash of (seed, step, id, column); a value that bf16 can represent stays, and so
    do infinities and NaN.

    Args:
        rows: [n, width] f32.
        seed: any integer; give each table its own.
        step: the number of the update, so that each rounds anew.
        ids: [n] int64, the rows' numbers.
        impl: which implementation rounds, "auto", "reference" or "triton"; only the bits of a NaN may differ.

    Raises:
        ValueError: rows are not a matrix of f32, or there is not one int64 id for each.
        RuntimeError: `impl` is not possible.
    """
    _check_ids(ids)
    if rows.dim() != 2 or rows.dtype != torch.float32:
        raise ValueError(f"stochastic_round: rows must be [n, width] float32, got {list(rows.shape)} {rows.dtype}")
    if len(rows) != len(ids):
        raise ValueError(f"stochastic_round: {len(rows)} rows but {len(ids)} ids")
    if impl == "auto" and rows.is_cpu and ids.is_cpu:
        return reference.stochastic_round(rows, seed, step, ids)
    result: Tensor = _stochastic_round(rows, signed(seed), signed(step), ids, impl)
    return result


@torch.library.custom_op("mome::uniform", mutates_args=())
def _uniform(seed: int, stream: int, ids: Tensor, width: int, impl: str) -> Tensor:
    result: Tensor = implementation("counter", impl, ids).uniform(seed, stream, ids, width)
    return result


@_uniform.register_fake
def _(seed: int, stream: int, ids: Tensor, width: int, impl: str) -> Tensor:
    return ids.new_empty(len(ids), width, dtype=torch.float32)


@torch.library.custom_op("mome::stochastic_round", mutates_args=())
def _stochastic_round(rows: Tensor, seed: int, step: int, ids: Tensor, impl: str) -> Tensor:
    result: Tensor = implementation("counter", impl, rows, ids).stochastic_round(rows, seed, step, ids)
    return result


@_stochastic_round.register_fake
def _(rows: Tensor, seed: int, step: int, ids: Tensor, impl: str) -> Tensor:
    return rows.new_empty(rows.shape, dtype=torch.bfloat16)


def _check_ids(ids: Tensor) -> None:
    if ids.dim() != 1 or ids.dtype != torch.int64:
        raise ValueError(f"ids must be [n] int64, got {list(ids.shape)} {ids.dtype}")
