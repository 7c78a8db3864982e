"""Exact search among the sums of two half keys (product keys, Lample et al., arXiv 1907.05242)."""

from __future__ import annotations

import torch

from mome.kernels.topk_product_key import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def topk_product_key(
    queries: torch.Tensor, first: torch.Tensor, second: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of the n1 x n2 keys (first_i, second_j), best first, equal scores in the order of their ids.

    Key (i, j) has the id i * n2 + j. Its score is the sum of two half scores, each the inner product of a half query
    and a half key in f64, rounded to f32 once. Sums are compared exactly and rounded to f32 when returned, so two
    different ones may read the same. As in `topk_flat`, a score does not depend on the batch.

    Args:
        queries: [Q, 2h] f32, bf16 or f16; the first h columns ask for first, the others for second.
        first: [n1, h], one of these dtypes too.
        second: [n2, h].
        k: at most n1 * n2.

    Returns:
        (scores [Q, k] f32, ids [Q, k] int64, distinct in each row).

    Raises:
        ValueError: shapes that do not fit, another dtype, k outside [1, n1 * n2], or a score that is no finite number.
    """
    for name, value in (("queries", queries), ("first", first), ("second", second)):
        if value.dim() != 2 or value.dtype not in DTYPES:
            raise ValueError(
                f"topk_product_key: {name} must be a matrix of float32, bfloat16 or float16,"
                f" got {list(value.shape)} {value.dtype}"
            )
    if first.shape[1] != second.shape[1] or queries.shape[1] != 2 * first.shape[1]:
        raise ValueError(
            f"topk_product_key: queries of width {queries.shape[1]} need half keys of half that width,"
            f" got {first.shape[1]} and {second.shape[1]}"
        )
    if not 1 <= k <= len(first) * len(second):
        raise ValueError(f"topk_product_key: k must lie in [1, {len(first) * len(second)}], got {k}")
    return reference.topk_product_key(queries, first, second, k)
