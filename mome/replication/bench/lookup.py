"""Times of choosing k experts for Q questions: our two searches, torch's, and on a CPU those of faiss.

Keys and queries are random unit vectors. The flat searches share one table of keys [N, size]; product keys are two
tables of half keys, so they are another set of N keys. Before it is timed, every search is compared with the scores of
all keys in f64. Faiss' HNSW is an approximate index: `recall` is the share of the best keys that it finds, and the
bytes it moves are those of the keys it looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mome.adapter.config import balanced_factor
from mome.kernels.topk_flat import topk_flat
from mome.kernels.topk_product_key import topk_product_key
from mome.replication.bench import traffic
from mome.replication.bench.searches import FaissFlat, FaissHnsw, Found, TimedSearch, faiss_missing
from mome.replication.bench.tables import FLAT, PRODUCT, TORCH, unmeasured
from mome.replication.bench.timing import Case, CheckError, Run, Timer, require

FAISS = (FaissFlat.name, FaissHnsw.name)
CHUNK = 2**18
# of scores between -1 and 1: of f32 sums, and of sums that torch rounds to bf16 before it ranks them
EXACT, ROUNDED = 1e-5, 2.0**-7


@dataclass(frozen=True, slots=True)
class LookupSizes:
    """Numbers of experts and of questions in one search, k, the numbers of a key, and the largest N given to HNSW.

    An HNSW index is built key by key: a million keys of 256 numbers would take longer than all the rest.
    """

    experts: Sequence[int]
    queries: Sequence[int]
    k: int = 32
    size: int = 256
    hnsw_experts: int = 100_000


def lookup_rows(timer: Timer, sizes: LookupSizes, dtype: torch.dtype, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of a table: contender, impl (of ours), experts, queries, k, size, recall (of HNSW), and times as of `Timer`.

    Raises:
        CheckError: a search returns other keys than the best, or other scores than theirs.
    """
    rows = []
    for experts in sizes.experts:
        rows += _Lookup(timer, sizes, experts, dtype, seed).rows()
    return rows


class _Lookup:
    """All searches among one number of keys."""

    def __init__(self, timer: Timer, sizes: LookupSizes, experts: int, dtype: torch.dtype, seed: int) -> None:
        self.timer, self.sizes, self.experts = timer, sizes, experts
        generator = torch.Generator(timer.device).manual_seed(seed)

        def draw(count: int, size: int) -> Tensor:
            drawn = torch.randn(count, size, generator=generator, device=timer.device)
            return functional.normalize(drawn, dim=1).to(dtype)

        first = balanced_factor(experts)
        self.queries, self.keys = draw(max(sizes.queries), sizes.size), draw(experts, sizes.size)
        self.halves = draw(first, sizes.size // 2), draw(experts // first, sizes.size // 2)
        # the first and the last question of every batch are compared with all keys
        self.asked = sorted({0, *(count - 1 for count in sizes.queries)})
        self.scores = {FLAT: self._flat_scores(), PRODUCT: self._product_scores()}

    def _flat_scores(self) -> Tensor:
        asked = self.queries[self.asked].double()
        return torch.cat([asked @ part.double().T for part in self.keys.split(CHUNK)], dim=1)

    def _product_scores(self) -> Tensor:
        left, right = self.queries[self.asked].double().split(self.sizes.size // 2, dim=1)
        first, second = (half.double() for half in self.halves)
        return ((left @ first.T)[:, :, None] + (right @ second.T)[:, None, :]).flatten(1)

    def rows(self) -> list[dict[str, Any]]:
        """Rows for every number of queries."""
        faiss, rows = self._faiss(), []
        if self.timer.device.type == "cpu" and not faiss:
            labels = {"contender": " and ".join(FAISS), "experts": self.experts}
            rows.append(unmeasured(labels, faiss_missing()))
        elif self.timer.device.type == "cpu" and self.experts > self.sizes.hnsw_experts:
            limit = f"built up to N = {self.sizes.hnsw_experts:,} only"
            rows.append(unmeasured({"contender": FaissHnsw.name, "experts": self.experts}, limit))
        for count in self.sizes.queries:
            searches = [*self._own(count), *(kind.search(self.queries[:count], self.sizes.k) for kind in faiss)]
            rows += self.timer.rows([self._case(search, count) for search in searches])
        return rows

    def _own(self, count: int) -> list[TimedSearch]:
        queries, keys, k = self.queries[:count], self.keys, self.sizes.k
        item, size = keys.element_size(), self.sizes.size
        flat = traffic.flat_search(count, self.experts, size, k, item)
        halves = (len(self.halves[0]), len(self.halves[1]))
        product = traffic.product_search(count, halves, size, k, item)
        rounded = EXACT if keys.dtype == torch.float32 else ROUNDED

        def by_torch() -> Found:
            found = torch.topk(queries @ keys.T, k)
            return found.values, found.indices

        # the public searches ask the device once, for queries in doubt
        by_keys = partial(_without_waiting, "topk_flat", queries, keys, k)
        by_halves = partial(_without_waiting, "topk_product_key", queries, *self.halves, k)
        return [
            TimedSearch(FLAT, lambda: topk_flat(queries, keys, k), flat, EXACT, captured=by_keys),
            TimedSearch(TORCH, by_torch, flat, rounded, captured=by_torch),
            TimedSearch(
                PRODUCT, lambda: topk_product_key(queries, *self.halves, k), product, EXACT, captured=by_halves
            ),
        ]

    def _faiss(self) -> list[FaissFlat | FaissHnsw]:
        if self.timer.device.type != "cpu" or faiss_missing():
            return []
        built: list[FaissFlat | FaissHnsw] = [FaissFlat(self.keys)]
        return [*built, FaissHnsw(self.keys, self.sizes.k)] if self.experts <= self.sizes.hnsw_experts else built

    def _case(self, search: TimedSearch, count: int) -> Case:
        def check(run: Run) -> None:
            run()
            self._check(search, count)

        own = "triton" if self.timer.device.type == "cuda" else "reference"
        labels: dict[str, Any] = {"contender": search.name, "impl": own if search.name in (FLAT, PRODUCT) else ""}
        labels |= {"experts": self.experts, "queries": count, "k": self.sizes.k, "size": self.sizes.size}
        if search.name == FaissHnsw.name:
            search()
            labels["recall"] = self._recall(search, count)
        return Case(labels, search.moved, search, check, search.captured)

    def _check(self, search: TimedSearch, count: int) -> None:
        """Check that the keys are distinct, that the scores are theirs and, except for HNSW, that they are the best."""
        name = f"{search.name}, N = {self.experts:,}, Q = {count}"
        scores, ids = search.found
        if ids.shape != (count, self.sizes.k) or not bool((ids.sort(dim=1).values.diff(dim=1) > 0).all()):
            raise CheckError(f"{name}: not {self.sizes.k} distinct keys for each question; nothing was written")
        places = [place for place, number in enumerate(self.asked) if number < count]
        numbers = [self.asked[place] for place in places]
        every = self.scores[PRODUCT if search.name == PRODUCT else FLAT][places]
        true = every.gather(1, ids[numbers])
        require(float((scores[numbers].double() - true).abs().max()), search.tolerance, f"{name}: scores")
        if search.exact:
            best = every.topk(self.sizes.k, dim=1).values
            missed = (best - true.sort(dim=1, descending=True).values).abs().max()
            require(float(missed), search.tolerance, f"{name}: scores of the best keys")

    def _recall(self, search: TimedSearch, count: int) -> float:
        """The share of the best keys of all queries among those found."""
        best = topk_flat(self.queries[:count], self.keys, self.sizes.k)[1]
        return float((search.found[1][:, :, None] == best[:, None, :]).any(dim=2).double().mean())


def _without_waiting(op: str, *arguments: Any) -> Found:
    """The result of the Triton kernel of `op`, without the check on the device for queries in doubt."""
    found: Found = import_module(f"mome.kernels.{op}.triton").search(*arguments)[:2]
    return found
