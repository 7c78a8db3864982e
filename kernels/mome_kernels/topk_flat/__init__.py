"""Exact search of the best keys of all."""

from __future__ import annotations

import torch
from torch import Tensor

from mome.kernels.dispatch import check_count, implementation

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST = 248  # keys that a Triton program can find among the 16384 that it ranks


def topk_flat(queries: Tensor, keys: Tensor, k: int, *, impl: str = "auto") -> tuple[Tensor, Tensor]:
    """The k keys with the largest inner product, best first, equal scores in the order of their ids.

    A score is the inner product in f64, rounded to f32 once. It depends on its query and key alone: a question finds
    the same ids and the same bits alone and in any batch. Nothing here is differentiable.

    Args:
        queries: [Q, d] f32, bf16 or f16.
        keys: [N, d], one of these too.
        k: at most N.
        impl: which implementation searches, "auto", "reference" or "triton" (k up to 248).

    Returns:
        (scores [Q, k] f32, ids [Q, k] int64, distinct in each row).

    Raises:
        ValueError: shapes that do not fit, another dtype, k outside [1, N], or a score that is no finite number.
        RuntimeError: `impl` is not possible.
    """
    for name, value in (("queries", queries), ("keys", keys)):
        if value.dim() != 2 or value.dtype not in DTYPES:
            raise ValueError(
                f"topk_flat: {name} must be a matrix of float32, bfloat16 or float16,"
                f" got {list(value.shape)} {value.dtype}"
            )
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"topk_flat: queries have width {queries.shape[1]}, keys have width {keys.shape[1]}")
    check_count("topk_flat", "k", k)
    if not 1 <= k <= len(keys):
        raise ValueError(f"topk_flat: k must lie in [1, {len(keys)}], the number of keys, got {k}")
    if not torch.compiler.is_compiling():  # where an op's call would only add to a lookup of some hundred microseconds
        return _search(queries, keys, k, impl)
    with torch.no_grad():
        scores, ids = _op(queries, keys, k, impl)
        return scores, ids


def _search(queries: Tensor, keys: Tensor, k: int, impl: str) -> tuple[Tensor, Tensor]:
    obstacle = f"it ranks no more than {MOST} keys, and k is {k}" if k > MOST else None
    scores, ids = implementation("topk_flat", impl, queries, keys, obstacle=obstacle).topk_flat(queries, keys, k)
    return scores, ids


_op = torch.library.custom_op("mome::topk_flat", _search, mutates_args=())


@_op.register_fake
def _(queries: Tensor, keys: Tensor, k: int, impl: str) -> tuple[Tensor, Tensor]:
    ids = queries.new_empty(len(queries), k, dtype=torch.int64)
    return ids.float(), ids
