"""Exact search in plain torch: one product in f32 finds the candidates, f64 decides among them.

In f64 the product of two f32 is exact and the sum is taken in one order, which makes a score independent of the batch.
The product in f32 is off by no more than a known margin, so whatever it puts two margins below the k-th best is out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch

SPARE = 8
BLOCK = 64
SMALL = 2**16
AT_ONCE = 2**17
CONVERTED = 2**26
ROUGH_SCORES = 2**25
# What the margin of a sum of d products is made of, each times d: rounding, relative to the lengths; products that f32
# loses below 2^-126; and the length of a key whose squares are lost like that.
ROUNDED, UNDERFLOWN, SHORTENED = 2.0**-22, 2.0**-125, 2.0**-62


@torch.no_grad()
def topk_flat(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """See `mome.kernels.topk_flat.topk_flat`."""
    at_once = max(1, ROUGH_SCORES // len(keys))
    parts = [_search(part.float(), keys, k) for part in queries.split(at_once)]
    scores, ids = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(ids)


def _search(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    if len(queries) * keys.numel() <= SMALL:
        scores = _inner_products(queries, keys.unsqueeze(0))
        refuse_infinite(scores)
        scores, ids = scores.sort(dim=1, descending=True, stable=True)
        return scores[:, :k], ids[:, :k]
    with _full_precision():
        rough, longest = _rough_scores(queries, keys)
    best, candidates = _rough_best(rough, min(k + SPARE, len(keys)))
    limit = best[:, k - 1] - 2 * _margin(queries, longest)
    refuse_infinite(best[:, 0] + limit)
    scores, ids = best_of(scores_of(queries, keys, candidates), candidates, k)
    if candidates.shape[1] < len(keys):
        # Where many keys are equally near, the candidates beyond the spare ones are looked up in the whole row.
        for row in (best[:, -1] >= limit).nonzero().flatten().tolist():
            near = (rough[row] >= limit[row]).nonzero().T
            scores[row], ids[row] = best_of(scores_of(queries[row, None], keys, near), near, k)
    return scores, ids


@contextmanager
def _full_precision() -> Iterator[None]:
    """Products of f32 in f32, whatever faster precision the caller allows for the rest."""
    # mypy does not see the attributes that this module gets by replacing itself.
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def _rough_scores(queries: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inner products in f32, padded with -inf to whole blocks [Q, >= N], and the length of the longest key."""
    rough = queries.new_empty(len(queries), -(-len(keys) // BLOCK) * BLOCK)
    rough[:, len(keys) :] = -torch.inf
    rows = max(1, CONVERTED // max(1, keys.shape[1]))
    lengths = []
    for start in range(0, len(keys), rows):
        chunk = keys[start : start + rows].float()
        torch.mm(queries, chunk.T, out=rough[:, start : start + len(chunk)])
        lengths.append(chunk.norm(dim=1).amax())
    return rough, torch.stack(lengths).amax()


def _margin(queries: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
    """How far the rough scores of each query [Q] can be off: a bound for sums of d f32 products, underflow included."""
    width = queries.shape[1]
    reach = queries.norm(dim=1, dtype=torch.float64) * (longest.double() + width * SHORTENED)
    return (reach * (width * ROUNDED) + width * UNDERFLOWN).float()


def _rough_best(rough: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest rough scores and their ids [Q, count], ties in any order."""
    if rough.shape[1] < 16 * BLOCK * count:
        best = rough.topk(count, dim=1)
        return best.values, best.indices
    # Scores above the last one wanted lie in fewer than `count` blocks, which are those with the highest maxima.
    blocks = rough.view(len(rough), -1, BLOCK)
    chosen = blocks.amax(dim=2).topk(count, dim=1).indices
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)
    best = inside.topk(count, dim=1)
    return best.values, chosen.gather(1, best.indices // BLOCK) * BLOCK + best.indices % BLOCK


def scores_of(queries: torch.Tensor, keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Scores of chosen keys: queries [Q, d] f32 and ids [Q, m] give [Q, m] f32."""
    parts = []
    for part in ids.split(max(1, AT_ONCE // max(1, queries.numel())), dim=1):
        chosen = keys.index_select(0, part.flatten()).view(*part.shape, keys.shape[1])
        parts.append(_inner_products(queries, chosen))
    return torch.cat(parts, dim=1)


def _inner_products(queries: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Queries [Q, d] with their own keys [Q or 1, m, d]: [Q, m] f32, each sum in one order whatever Q and m are."""
    return (chosen.double() * queries.double().unsqueeze(1)).sum(dim=2).float()


def best_of(scores: torch.Tensor, ids: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of candidates [Q, m], best first, equal scores by ascending id."""
    ids, order = ids.sort(dim=1)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores[:, :k], ids.gather(1, order[:, :k])


def refuse_infinite(values: torch.Tensor) -> None:
    """Refuse values [Q] or [Q, m] if one is infinite or NaN; NaN comes first in a ranking, so the best score tells."""
    if math.isfinite(values.sum().item()):
        return
    finite = values.isfinite()  # numbers of which only the sum is too large pass
    if not finite.all():
        raise not_finite(int(finite.logical_not().nonzero()[0, 0]))


def not_finite(query: int) -> ValueError:
    """The error for a query whose scores are no numbers."""
    return ValueError(f"the scores of query {query} are not finite: its numbers or the keys' are NaN or too large")
