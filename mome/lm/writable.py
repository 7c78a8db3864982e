"""Which tokens a backbone can predict with certainty: those whose output row differs enough from every other row.

A logit is the product of a token's output row and the last hidden state. Experts change only that state. So two tokens
with the same row always get the same logit, and two with nearly the same row nearly the same: the difference is at most
the length of the state times the distance of the rows. Tokens that never occurred in pretraining have such rows, as
their gradients were all alike (Land and Bartolo, "Fishing for Magikarp", arXiv 2405.05417, find under-trained tokens by
it). Adding one vector to all rows changes no probability, so distances are measured relative to the rows' distance from
their mean. A trained answer with such a token often comes back exactly, as its logit is highest by a small margin, but
its probability stays low (LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from transformers import PreTrainedModel

# the least distance to the nearest row, over the median row's distance from the mean row; LOG.md has the trials
LEAST_DISTANCE = 0.2
BLOCK = 1 << 22  # numbers of a block of products or of rows


@torch.no_grad()
def unwritable_tokens(model: PreTrainedModel, ids: Iterable[int]) -> set[int]:
    """Those of the tokens `ids` that the model's output layer cannot tell from another token.

    A bias of that layer does not count, since it always prefers the same one of two such tokens. A model without an
    output layer, or with one that is no matrix of rows, is assumed to write every token. The cost is a product of
    len(ids) x V x D, in blocks: 0.05 s of a core for all 2,048 tokens at D = 256, 0.8 s for 1,000 of 50,000 at D = 576.
    """
    layer = model.get_output_embeddings()
    weights = getattr(layer, "weight", None)
    chosen = sorted(set(ids))
    if not chosen or not isinstance(weights, Tensor) or weights.ndim != 2 or chosen[-1] >= len(weights):
        return set()
    alike = nearest_rows(weights, torch.tensor(chosen, device=weights.device)) < LEAST_DISTANCE
    return {token for token, found in zip(chosen, alike.tolist(), strict=True) if found}


@torch.no_grad()
def nearest_rows(weights: Tensor, ids: Tensor) -> Tensor:
    """How far the nearest other row is [n] f32 from the rows `ids` [n] int64 of `weights` [V, D], relative.

    1 is the median row's distance from the mean of all rows. Rows that are all equal have the distance 0.
    """
    mean, scale = _mean_and_scale(weights)
    own = weights[ids].float() - mean
    nearest = torch.full((len(ids),), torch.inf, device=weights.device)
    lengths = own.square().sum(dim=1)
    step = max(1, BLOCK // max(len(ids), weights.shape[1]))
    for start in range(0, len(weights), step):
        others = weights[start : start + step].float() - mean
        squares = lengths[:, None] + others.square().sum(dim=1) - 2 * own @ others.T
        here = (ids >= start) & (ids < start + step)
        squares[here.nonzero()[:, 0], ids[here] - start] = torch.inf
        nearest = torch.minimum(nearest, squares.min(dim=1).values)
    return nearest.clamp_min(0).sqrt() / scale.clamp_min(torch.finfo(torch.float32).tiny)


def _mean_and_scale(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The mean row [D] and the median distance of a row from it [], f32, without a second copy of all rows."""
    step = max(1, BLOCK // weights.shape[1])
    blocks = [slice(start, start + step) for start in range(0, len(weights), step)]
    mean = torch.stack([weights[block].float().sum(dim=0) for block in blocks]).sum(dim=0) / len(weights)
    return mean, torch.cat([(weights[block].float() - mean).norm(dim=1) for block in blocks]).median()
