"""Exact search in plain torch: one product in f32 finds the candidates, f64 decides among them.

In f64 the product of two f32 is exact and the sum is taken in one order, which makes a score independent of the batch.
The product in f32 is off by no more than a known margin, so whatever it puts two margins below the k-th best is out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.weak import WeakIdKeyDictionary

SPARE = 8  # candidates beyond the k-th, so that scores near it seldom ask for a look at the whole row
BLOCK = 64  # keys that share a maximum
SMALL = 2**16  # so few products Q N d are all taken in f64 at once
AT_ONCE = 2**17  # numbers of chosen keys in f64 at once: 1 MiB
CONVERTED = 2**26  # numbers of keys converted to f32 at once: 256 MiB
ROUGH_SCORES = 2**25  # rough scores in memory at once: 128 MiB
# What the margin of a sum of d products is made of, each times d: rounding, relative to the lengths (f32 rounds by
# 2^-24 at most, the rest is reserve); products that f32 loses below 2^-126; and the length of a key whose squares are
# lost like that, at most the root of 2^-126. The last two are doubled.
ROUNDED, UNDERFLOWN, SHORTENED = 2.0**-22, 2.0**-125, 2.0**-62
# The length of the longest key of matrices searched before, with the version that torch counts up at each change: to
# measure it anew takes as long as the product (227 of 551 ms for a million keys of width 256, one thread).
MEASURED = WeakIdKeyDictionary()


@torch.no_grad()
def topk_flat(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """See `mome.kernels.topk_flat.topk_flat`."""
    at_once = max(1, ROUGH_SCORES // len(keys))
    parts = [_search(part.float(), keys, k) for part in queries.split(at_once)]
    scores, ids = zip(*parts, strict=True)
    return torch.cat(scores), torch.cat(ids)


def _search(queries: torch.Tensor, keys: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    if len(queries) * keys.numel() <= SMALL:
        scores = _inner_products(queries, keys.unsqueeze(0))  # keys [1, N, d] for all queries: [Q, N]
        refuse_infinite(scores)
        scores, ids = scores.sort(dim=1, descending=True, stable=True)
        return scores[:, :k], ids[:, :k]
    with _full_precision():
        rough, longest = _rough_scores(queries, keys)
    best, candidates = _rough_best(rough, min(k + SPARE, len(keys)))
    # [Q]; two margins, as both the k-th score and the one compared with it can be off by one
    limit = best[:, k - 1] - 2 * _margin(queries, longest)
    refuse_infinite(best[:, 0] + limit)
    scores, ids = best_of(scores_of(queries, keys, candidates), candidates, k)
    if candidates.shape[1] < len(keys):
        # Where many keys are equally near, the candidates beyond the spare ones are looked up in the whole row.
        for row in (best[:, -1] >= limit).nonzero().flatten().tolist():
            near = (rough[row] >= limit[row]).nonzero().T  # [m, 1] -> [1, m]
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
    """Inner products in f32, padded with -inf to whole blocks [Q, >= N], and the length of the longest key []."""
    rough = queries.new_empty(len(queries), -(-len(keys) // BLOCK) * BLOCK)  # N rounded up to whole blocks
    rough[:, len(keys) :] = -torch.inf
    rows = max(1, CONVERTED // max(1, keys.shape[1]))
    longest, lengths = _measured(keys), []
    for start in range(0, len(keys), rows):
        chunk = keys[start : start + rows].float()
        torch.mm(queries, chunk.T, out=rough[:, start : start + len(chunk)])
        if longest is None:
            lengths.append(chunk.norm(dim=1).amax())
    return rough, _remembered(keys, torch.stack(lengths).amax()) if longest is None else longest


def _measured(keys: torch.Tensor) -> torch.Tensor | None:
    """The length of the longest key, if it was measured and the keys have not changed since."""
    version, longest = MEASURED.get(keys, (None, None))
    return longest if longest is not None and version == keys._version else None


def _remembered(keys: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
    if not keys.is_inference():  # such a tensor has no version, so a change would not be seen
        MEASURED[keys] = (keys._version, longest)
    return longest


def _margin(queries: torch.Tensor, longest: torch.Tensor) -> torch.Tensor:
    """How far the rough scores of each query [Q] can be off: a bound for sums of d f32 products, underflow included."""
    width = queries.shape[1]
    reach = queries.norm(dim=1, dtype=torch.float64) * (longest.double() + width * SHORTENED)
    return (reach * (width * ROUNDED) + width * UNDERFLOWN).float()


def _rough_best(rough: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The highest rough scores and their ids [Q, count], ties in any order."""
    if rough.shape[1] < 16 * BLOCK * count:  # the blocks' maxima pay where there are many more blocks than `count`
        best = rough.topk(count, dim=1)
        return best.values, best.indices
    # Scores above the last one wanted lie in fewer than `count` blocks, which are those with the highest maxima.
    blocks = rough.view(len(rough), -1, BLOCK)  # [Q, blocks, BLOCK]
    chosen = blocks.amax(dim=2).topk(count, dim=1).indices  # [Q, count] block numbers
    inside = blocks.gather(1, chosen[:, :, None].expand(-1, -1, BLOCK)).flatten(1)  # [Q, count BLOCK]
    best = inside.topk(count, dim=1)  # places in `inside`; a block's number and the place in it make a key's id
    return best.values, chosen.gather(1, best.indices // BLOCK) * BLOCK + best.indices % BLOCK


def scores_of(queries: torch.Tensor, keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Scores of chosen keys: queries [Q, d] f32 and ids [Q, m] give [Q, m] f32."""
    parts = []
    for part in ids.split(max(1, AT_ONCE // max(1, queries.numel())), dim=1):
        chosen = keys.index_select(0, part.flatten()).view(*part.shape, keys.shape[1])  # [Q m, d] -> [Q, m, d]
        parts.append(_inner_products(queries, chosen))
    return torch.cat(parts, dim=1)


def _inner_products(queries: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Queries [Q, d] with their own keys [Q or 1, m, d]: [Q, m] f32, each sum in one order whatever Q and m are."""
    return (chosen.double() * queries.double().unsqueeze(1)).sum(dim=2).float()  # [Q, m, d] * [Q, 1, d] -> [Q, m]


def best_of(scores: torch.Tensor, ids: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k best of candidates [Q, m], best first, equal scores by ascending id."""
    ids, order = ids.sort(dim=1)  # by id first: the stable sort by score then leaves equal scores in this order
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
