"""Anchors: the queries of memorized questions, and the similarity to them below which a question is rejected."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy
import torch
from torch import Tensor, nn

LOWEST_SCORE = -1 + 2**-24  # lowest rejection threshold, the next f32 above -1: rejects all where there are no anchors
HIGHEST_SCORE = 0.9999  # below 1, so that a memorized question, word for word, passes in spite of rounding


class Anchors(nn.Module):
    """The F memorized questions: unit `queries` [F, key_size] f32, with `ids` [F, K] int64 and `weights` [F, K] f32.

    They are saved with the bank and not in a state dict, as their number is not fixed.
    """

    queries: Tensor
    ids: Tensor
    weights: Tensor

    def __init__(self, key_size: int, top_k: int) -> None:
        super().__init__()
        for name, width, dtype in (("queries", key_size, None), ("ids", top_k, torch.int64), ("weights", top_k, None)):
            self.register_buffer(name, torch.zeros(0, width, dtype=dtype), persistent=False)

    def __len__(self) -> int:
        return len(self.queries)

    @torch.no_grad()
    def recognize(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Each query's cosine to its nearest anchor [Q] f32, and that anchor's number [Q]; -1 and 0 without anchors."""
        if not len(self):
            return queries.new_full((len(queries),), -1.0), torch.zeros_like(queries[:, 0], dtype=torch.int64)
        best = (queries @ self.queries.T).max(dim=1)  # [Q, F] -> [Q]; both have length 1, so products are cosines
        return best.values, best.indices

    def threshold(self, queries: Tensor, false_alarms: float) -> float:
        """The rejection threshold with a false-positive rate of at most `false_alarms` on out-of-scope questions.

        `queries` [C, key_size] are theirs. The threshold is always above -1: that is the score of every question
        where there are no anchors.
        """
        return max(LOWEST_SCORE, least_score(self.recognize(queries)[0].cpu().numpy(), false_alarms))

    def add(self, made: Mapping[str, Tensor]) -> None:
        """Put more anchors, named as in `tensors`, behind the present ones."""
        self.restore({name: torch.cat([values, made[name]]) for name, values in self.named_buffers()})

    def tensors(self) -> dict[str, Tensor]:
        """Copies of `queries`, `ids` and `weights` on the CPU."""
        return {name: values.detach().cpu().contiguous() for name, values in self.named_buffers()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `tensors` returned in place of the present anchors."""
        device = self.queries.device
        self.queries, self.ids, self.weights = (tensors[name].to(device) for name in ("queries", "ids", "weights"))

    def forget(self) -> None:
        """Drop all anchors."""
        self.restore({name: values[:0].clone() for name, values in self.named_buffers()})


def least_score(scores: numpy.ndarray, false_alarms: float) -> float:
    """The rejection threshold with a false-positive rate of at most `false_alarms` on out-of-scope questions (ours).

    `scores` [C] are theirs, cosines or shares. The threshold is the next number of the same precision above
    the best score that must not pass, and never above `HIGHEST_SCORE`. Where all may pass it is minus infinity.

    Raises:
        ValueError: there are no scores, one is NaN, or `false_alarms` is not between 0 and 1.
    """
    if not len(scores):
        raise ValueError("least_score: no questions to set it by")
    if not 0 <= false_alarms <= 1:
        raise ValueError(f"least_score: false_alarms must be a share from 0 to 1, got {false_alarms!r}")
    if numpy.isnan(scores).any():
        raise ValueError("least_score: a score is NaN")
    ordered = numpy.sort(scores)[::-1]  # [C], best first
    passing = int(false_alarms * len(ordered))
    if passing == len(ordered):
        return -math.inf
    return min(HIGHEST_SCORE, float(numpy.nextafter(ordered[passing], ordered.dtype.type(math.inf))))
