"""The searches that `lookup` compares, also those of faiss (the package faiss-cpu, an optional extra)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from mome.replication.bench import traffic
from mome.replication.methods.search import CANDIDATES, NEIGHBOURS

Found = tuple[Tensor, Tensor]

TOLERANCE = 1e-5


class TimedSearch:
    """A search for the best keys; `found` is its last result, scores and ids [Q, k], also when a CUDA graph ran it.

    `ask` searches; `captured` does so in a form that a CUDA graph can hold, if there is one. `moved`: the fewest
    bytes; `tolerance`: how far its scores may be from those in f64; `exact`: whether it claims to find the best keys.
    """

    found: Found

    def __init__(
        self,
        name: str,
        ask: Callable[[], Found],
        moved: int,
        tolerance: float,
        *,
        captured: Callable[[], Found] | None = None,
        exact: bool = True,
    ) -> None:
        self.name, self.ask, self.moved, self.tolerance, self.exact = name, ask, moved, tolerance, exact
        self.captured = None if captured is None else partial(self._keep, captured)

    def __call__(self) -> None:
        self._keep(self.ask)

    def _keep(self, ask: Callable[[], Found]) -> None:
        self.found = ask()


def faiss_missing() -> str:
    """Why faiss cannot be used; empty if it can."""
    return "" if find_spec("faiss") else "faiss-cpu is not installed (extra 'bench')"


class FaissFlat:
    """Faiss' exact search of all keys [N, size] f32, in as many threads as torch uses."""

    name = "faiss flat"

    def __init__(self, keys: Tensor) -> None:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        self.index: Any = faiss.IndexFlatIP(keys.shape[1])
        self.index.add(keys.numpy())

    def search(self, queries: Tensor, k: int) -> TimedSearch:
        """The search of these queries [Q, size]."""
        moved = traffic.flat_search(len(queries), self.index.ntotal, queries.shape[1], k, traffic.F32)
        return TimedSearch(self.name, lambda: _ask(self.index, queries, k), moved, TOLERANCE)


class FaissHnsw:
    """Faiss' approximate search along a graph (HNSW, arXiv 1603.09320): 32 neighbours a key, 128 candidates kept."""

    name = "faiss HNSW"

    def __init__(self, keys: Tensor, k: int) -> None:
        import faiss

        faiss.omp_set_num_threads(torch.get_num_threads())
        self.index: Any = faiss.IndexHNSWFlat(keys.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efSearch = max(CANDIDATES, k)
        self.index.add(keys.numpy())

    def search(self, queries: Tensor, k: int) -> TimedSearch:
        """The search of these queries [Q, size]; faiss counts the keys that it compares with them."""
        import faiss

        counters: Any = faiss.cvar
        counters.hnsw_stats.reset()
        _ask(self.index, queries, k)
        compared = int(counters.hnsw_stats.ndis)
        moved = traffic.flat_search(len(queries), compared, queries.shape[1], k, traffic.F32)
        return TimedSearch(self.name, lambda: _ask(self.index, queries, k), moved, TOLERANCE, exact=False)


def _ask(index: Any, queries: Tensor, k: int) -> Found:
    scores, ids = index.search(queries.numpy(), k)
    return torch.from_numpy(scores), torch.from_numpy(ids)
