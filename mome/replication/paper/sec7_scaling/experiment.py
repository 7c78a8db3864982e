"""Time of a lookup as the number of experts grows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy
import pandas
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mome.adapter.index import FlatIndex, ProductKeyIndex

TORCH_TOPK = "torch.topk"


def time_lookups(
    experts: Sequence[int], *, k: int = 32, size: int = 128, queries: int = 50, seed: int = 0
) -> pandas.DataFrame:
    """Time the choice of `k` experts for one question by product keys, by flat keys, and by torch.topk(q @ K.T).

    Columns: index, experts, query, ms. The flat keys have `size` numbers; the router's own `size` is 128.

    Raises:
        RuntimeError: an index misses an expert that a search of all keys finds.
    """
    asked = torch.nn.functional.normalize(
        torch.randn(queries, size, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    searches = {key: search for count in experts for key, search in _searches(count, k, size, seed, asked[:2]).items()}
    keys, order, rows = list(searches), numpy.random.default_rng(seed), []
    for number, query in tqdm(enumerate(asked), total=queries, desc="timing lookups", leave=False):
        for place in order.permutation(len(keys)):
            started = time.perf_counter()
            searches[keys[place]](query[None])
            milliseconds = 1e3 * (time.perf_counter() - started)
            rows.append({"index": keys[place][0], "experts": keys[place][1], "query": number, "ms": milliseconds})
    return pandas.DataFrame(rows)


Lookup = Callable[[Tensor], Tensor]


def _searches(experts: int, k: int, size: int, seed: int, checked: Tensor) -> dict[tuple[str, int], Lookup]:
    """The three searches among `experts` keys, each compared with all scores of the queries `checked` [Q, size]."""
    k = min(k, experts)
    flat, halves = FlatIndex(experts, size, seed), ProductKeyIndex(experts, size, seed)
    first, second = checked.split(size // 2, dim=1)
    sums = (first @ halves.first.T)[:, :, None] + (second @ halves.second.T)[:, None, :]
    found: dict[tuple[str, int], Lookup] = {
        ("flat", experts): lambda query: flat.search(query, k),
        ("product_key", experts): lambda query: halves.search(query, k),
        (TORCH_TOPK, experts): lambda query: torch.topk(query @ flat.keys.T, k).indices,
    }
    scores = {"flat": checked @ flat.keys.T, "product_key": sums.flatten(1)}
    for (kind, _), search in found.items():
        all_scores = scores.get(kind, scores["flat"])
        worst = all_scores.gather(1, search(checked)).amin(dim=1)
        if not torch.allclose(worst, all_scores.topk(k).values[:, -1], atol=1e-5):
            raise RuntimeError(f"{kind}, {experts:,} experts: the search misses one of the {k} best keys")
    return found
