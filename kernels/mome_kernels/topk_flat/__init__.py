"""Exact search of the best keys of all."""

from __future__ import annotations

import torch

from mome.kernels.topk_flat import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def topk_flat(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k keys with the largest inner product, best first, equal scores in the order of their ids.

    A score is the inner product in f64, rounded to f32 once. It depends on its query and key alone: a question finds
    the same ids and the same bits alone and in any batch. Nothing here is differentiable.

    Args:
        queries: [Q, d] f32, bf16 or f16.
        keys: [N, d], one of these too.
        k: at most N.

    Returns:
        (scores [Q, k] f32, ids [Q, k] int64, distinct in each row).

    Raises:
        ValueError: shapes that do not fit, another dtype, k outside [1, N], or a score that is no finite number.
    """
    for name, value in (("queries", queries), ("keys", keys)):
        if value.dim() != 2 or value.dtype not in DTYPES:
            raise ValueError(
                f"topk_flat: {name} must be a matrix of float32, bfloat16 or float16,"
                f" got {list(value.shape)} {value.dtype}"
            )
    if queries.shape[1] != keys.shape[1]:
        raise ValueError(f"topk_flat: queries have width {queries.shape[1]}, keys have width {keys.shape[1]}")
    if not 1 <= k <= len(keys):
        raise ValueError(f"topk_flat: k must lie in [1, {len(keys)}], the number of keys, got {k}")
    return reference.topk_flat(queries, keys, k)
