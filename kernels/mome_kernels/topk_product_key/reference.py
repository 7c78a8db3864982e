"""Product-key search in plain torch: the best halves, then the best of their few sums that can still win.

With halves ranked best first, the pair of ranks (a, b) loses to all pairs that rank no lower in both, (a+1)(b+1) with
itself; beyond k of them it is out. This holds for equal sums too, because sums are compared exactly.
"""

from __future__ import annotations

import torch

from mome.kernels.topk_flat.reference import refuse_infinite, topk_flat


@torch.no_grad()
def topk_product_key(
    queries: torch.Tensor, first: torch.Tensor, second: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `mome.kernels.topk_product_key.topk_product_key`."""
    left, right = queries.split(first.shape[1], dim=1)  # [Q, h] each
    left_scores, left_ids = topk_flat(left, first, min(k, len(first)))  # [Q, min(k, n1)], best first
    right_scores, right_ids = topk_flat(right, second, min(k, len(second)))
    left_ranks, right_ranks = _pairs(k, len(first), len(second), queries.device)  # [m] each, ranks from 0
    ids = left_ids[:, left_ranks] * len(second) + right_ids[:, right_ranks]  # [Q, m]: i n2 + j
    scores, ids = _best_sums(left_scores[:, left_ranks].double(), right_scores[:, right_ranks].double(), ids, k)
    refuse_infinite(scores)
    return scores, ids


def count_pairs(k: int, left: int, right: int) -> int:
    """How many pairs can be among the best k of left x right."""
    return sum(min(k // rank, right) for rank in range(1, min(k, left) + 1))


def _pairs(k: int, left: int, right: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ranks of the halves of every pair that can be among the best k."""
    ranks = torch.arange(1, k + 1, device=device)  # counted from 1, so that the product of two counts the pairs ahead
    # [left, right] bool -> [m], [m]: places from 0
    left_ranks, right_ranks = (ranks[:left, None] * ranks[:right] <= k).nonzero(as_tuple=True)
    return left_ranks, right_ranks


def _best_sums(left: torch.Tensor, right: torch.Tensor, ids: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of left + right [Q, m] f64 (from f32), equal sums by ascending id."""
    sums = left + right
    # What the rounding of the sum lost (Knuth's TwoSum); it decides between sums that f64 cannot tell apart.
    virtual = sums - left
    lost = (left - (sums - virtual)) + (right - virtual)
    # three stable sorts, the least important first: by id, by what was lost, by the sum
    order = ids.argsort(dim=1)
    order = order.gather(1, lost.gather(1, order).argsort(dim=1, descending=True, stable=True))
    order = order.gather(1, sums.gather(1, order).argsort(dim=1, descending=True, stable=True))[:, :k]
    return sums.gather(1, order).float(), ids.gather(1, order)
