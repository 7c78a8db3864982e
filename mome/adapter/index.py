"""The experts' keys, and the search for those nearest to a query: flat (all keys) or by product keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mome.adapter.config import balanced_factor
from mome.kernels.counter import uniform
from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key

# streams of the counter hash: each table of random numbers has its own, so none shares numbers with another
FLAT_STREAM = 101
FIRST_STREAM = 102
SECOND_STREAM = 103
POOL_STREAM = 104
PROJECT_STREAM = 105
DRAWN_ROWS = 2**11  # rows drawn at a time, so that what is made on the way stays in the cache


class FlatIndex(nn.Module):
    """`num_experts` random unit keys of `size` numbers, searched one by one (exact)."""

    keys: Tensor

    def __init__(self, num_experts: int, size: int, seed: int) -> None:
        super().__init__()
        # [N, size]; not saved, as the seed gives it again
        self.register_buffer("keys", _keys(num_experts, size, seed, FLAT_STREAM), persistent=False)

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Ids [Q, k] of the best keys for `queries` [Q, size], best first, ties to the lowest id."""
        return topk_flat(queries, self.keys, k)[1]

    def scores(self, queries: Tensor, ids: Tensor) -> Tensor:
        """Inner products [Q, k] of `queries` with the keys `ids` [Q, k]; has gradients."""
        return torch.einsum("qd,qkd->qk", queries, self.keys[ids])  # keys[ids]: [Q, k, size]


class ProductKeyIndex(nn.Module):
    """N = n1 x n2 experts, whose keys are pairs of half keys (arXiv 1907.05242): a search scores n1 + n2 halves."""

    first: Tensor
    second: Tensor

    def __init__(self, num_experts: int, size: int, seed: int) -> None:
        super().__init__()
        rows = balanced_factor(num_experts)  # n1, at most sqrt(N): n1 + n2 is then smallest
        # [n1, size / 2] and [n2, size / 2]; expert i * n2 + j has the key (first[i], second[j])
        self.register_buffer("first", _keys(rows, size // 2, seed, FIRST_STREAM), persistent=False)
        self.register_buffer("second", _keys(num_experts // rows, size // 2, seed, SECOND_STREAM), persistent=False)

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Ids [Q, k] of the best keys for `queries` [Q, size], best first, ties to the lowest id."""
        return topk_product_key(queries, self.first, self.second, k)[1]

    def scores(self, queries: Tensor, ids: Tensor) -> Tensor:
        """Inner products [Q, k] of `queries` with the keys `ids` [Q, k]; has gradients."""
        keys = torch.cat([self.first[ids // len(self.second)], self.second[ids % len(self.second)]], dim=2)  # [Q, k, d]
        return torch.einsum("qd,qkd->qk", queries, keys)


KINDS: dict[str, type[FlatIndex] | type[ProductKeyIndex]] = {"flat": FlatIndex, "product_key": ProductKeyIndex}


def _keys(count: int, size: int, seed: int, stream: int) -> Tensor:
    return functional.normalize(normal_draws(count, size, seed, stream), dim=1)


def normal_draws(count: int, size: int, seed: int, stream: int) -> Tensor:
    """Standard normal numbers [count, size] f32 from the counter hash (Box-Muller), whatever torch's own state."""
    found = torch.empty(count, size)
    for start in range(0, count, DRAWN_ROWS):
        ids = torch.arange(start, min(start + DRAWN_ROWS, count))
        found[start : start + DRAWN_ROWS] = _normal_rows(ids, size, seed, stream)
    return found


def _normal_rows(ids: Tensor, size: int, seed: int, stream: int) -> Tensor:
    draws = uniform(seed, stream, ids, 2 * size)  # [n, 2 * size] in [0, 1)
    radius, angle = draws.split(size, dim=1)  # [n, size] each
    # log(1 - u), not log(u): u can be 0 and is never 1
    return (-2 * torch.log1p(-radius)).sqrt_() * torch.cos(2 * math.pi * angle)
