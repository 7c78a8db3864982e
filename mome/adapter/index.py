"""Keys of the experts and the search for the nearest: all of them at once, or product keys."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mome.adapter.config import balanced_factor
from mome.kernels.counter import uniform
from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key

FLAT_STREAM, FIRST_STREAM, SECOND_STREAM, POOL_STREAM, PROJECT_STREAM = 101, 102, 103, 104, 105


class FlatIndex(nn.Module):
    """`num_experts` random unit keys of `size` numbers, searched one by one (exact)."""

    keys: Tensor

    def __init__(self, num_experts: int, size: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("keys", _keys(num_experts, size, seed, FLAT_STREAM), persistent=False)

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Ids [Q, k] of the best keys for `queries` [Q, size], best first, ties to the lowest id."""
        return topk_flat(queries, self.keys, k)[1]

    def scores(self, queries: Tensor, ids: Tensor) -> Tensor:
        """Inner products [Q, k] of `queries` with the keys `ids` [Q, k]; has gradients."""
        return torch.einsum("qd,qkd->qk", queries, self.keys[ids])


class ProductKeyIndex(nn.Module):
    """n1 x n2 experts whose keys are pairs of half keys (arXiv 1907.05242): search costs n1 + n2 + k^2."""

    first: Tensor
    second: Tensor

    def __init__(self, num_experts: int, size: int, seed: int) -> None:
        super().__init__()
        rows = balanced_factor(num_experts)
        self.register_buffer("first", _keys(rows, size // 2, seed, FIRST_STREAM), persistent=False)
        self.register_buffer("second", _keys(num_experts // rows, size // 2, seed, SECOND_STREAM), persistent=False)

    def search(self, queries: Tensor, k: int) -> Tensor:
        """Ids [Q, k] of the best keys for `queries` [Q, size], best first, ties to the lowest id."""
        return topk_product_key(queries, self.first, self.second, k)[1]

    def scores(self, queries: Tensor, ids: Tensor) -> Tensor:
        """Inner products [Q, k] of `queries` with the keys `ids` [Q, k]; has gradients."""
        keys = torch.cat([self.first[ids // len(self.second)], self.second[ids % len(self.second)]], dim=2)
        return torch.einsum("qd,qkd->qk", queries, keys)


KINDS: dict[str, type[FlatIndex] | type[ProductKeyIndex]] = {"flat": FlatIndex, "product_key": ProductKeyIndex}


def _keys(count: int, size: int, seed: int, stream: int) -> Tensor:
    return functional.normalize(normal_draws(count, size, seed, stream), dim=1)


def normal_draws(count: int, size: int, seed: int, stream: int) -> Tensor:
    """Standard normal numbers [count, size] f32 from the counter hash (Box-Muller), whatever torch's own state."""
    draws = uniform(seed, stream, torch.arange(count), 2 * size)
    radius, angle = draws.split(size, dim=1)
    return (-2 * torch.log1p(-radius)).sqrt_() * torch.cos(2 * math.pi * angle)
