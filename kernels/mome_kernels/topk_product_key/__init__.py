"""Exact search among the sums of two half keys (product keys, Lample et al., arXiv 1907.05242)."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from mome.kernels.dispatch import check_count, implementation
from mome.kernels.topk_product_key import reference

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_HALVES, MOST_PAIRS = 2**13, 2**8  # what one Triton program can rank


def topk_product_key(
    queries: Tensor, first: Tensor, second: Tensor, k: int, *, impl: str = "auto"
) -> tuple[Tensor, Tensor]:
    """The k best of the n1 x n2 keys (first_i, second_j), best first, equal scores in the order of their ids.

    Key (i, j) has the id i * n2 + j. Its score is the sum of two half scores, each the inner product of a half query
    and a half key in f64, rounded to f32 once. Sums are compared exactly and rounded to f32 when returned, so two
    different ones may read the same. As in `topk_flat`, a score does not depend on the batch.

    Args:
        queries: [Q, 2h] f32, bf16 or f16; the first h columns ask for first, the others for second.
        first: [n1, h], one of these dtypes too.
        second: [n2, h].
        k: at most n1 * n2.
        impl: which implementation searches, "auto", "reference" or "triton" (n1 and n2 up to 8192, k up to 59, or more
            where n1 or n2 is below k).

    Returns:
        (scores [Q, k] f32, ids [Q, k] int64, distinct in each row).

    Raises:
        ValueError: shapes that do not fit, another dtype, k outside [1, n1 * n2], or a half score or a score returned
            that is no finite number.
        RuntimeError: `impl` is not possible.
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
    check_count("topk_product_key", "k", k)
    if not 1 <= k <= len(first) * len(second):
        raise ValueError(f"topk_product_key: k must lie in [1, {len(first) * len(second)}], got {k}")
    if not torch.compiler.is_compiling():  # where an op's call would only add to a lookup of some hundred microseconds
        return _search(queries, first, second, k, impl)
    with torch.no_grad():
        scores, ids = _op(queries, first, second, k, impl)
        return scores, ids


def _search(queries: Tensor, first: Tensor, second: Tensor, k: int, impl: str) -> tuple[Tensor, Tensor]:
    obstacle = _obstacle(len(first), len(second), k)
    module = implementation("topk_product_key", impl, queries, first, second, obstacle=obstacle)
    scores, ids = module.topk_product_key(queries, first, second, k)
    return scores, ids


_op = torch.library.custom_op("mome::topk_product_key", _search, mutates_args=())


@_op.register_fake
def _(queries: Tensor, first: Tensor, second: Tensor, k: int, impl: str) -> tuple[Tensor, Tensor]:
    ids = queries.new_empty(len(queries), k, dtype=torch.int64)
    return ids.float(), ids


@cache
def _obstacle(first: int, second: int, k: int) -> str | None:
    """Why a Triton program cannot rank these keys, if it cannot."""
    if max(first, second) > MOST_HALVES:
        return f"it ranks no more than {MOST_HALVES} half keys, and there are {max(first, second)}"
    pairs = reference.count_pairs(k, first, second)
    if pairs > MOST_PAIRS:
        return f"it ranks no more than {MOST_PAIRS} pairs of halves, and k = {k} needs {pairs}"
    return None
