"""Anchors: the queries of memorized questions, and the similarity to them below which a question is rejected.

With a check of names (`MomeConfig.least_names`) the words of the memorized questions are kept beside them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy
import torch
from torch import Tensor, nn

from mome.facts.names import Names, WordSet, words

LOWEST_SCORE = -1 + 2**-24  # lowest rejection threshold, the next f32 above -1: rejects all where there are no anchors
HIGHEST_SCORE = 0.9999  # below 1, so that a memorized question, word for word, passes in spite of rounding
WORD_BYTES = 256  # of UTF-8 for the words of one anchor, shared words first; further words are left out
NEAREST = 8  # anchors whose words a question is compared with
LEAST_NAMED = 0.5  # lowest rejection threshold with a check of names, which few out-of-scope questions pass (LOG.md)
PARTING = "\n"  # between the shared words and the others


class Anchors(nn.Module):
    """The F memorized questions: unit `queries` [F, key_size] f32, with `ids` [F, K] int64 and `weights` [F, K] f32.

    They are saved with the bank and not in a state dict, as their number is not fixed. If names are checked, there are
    also their `words` [F, 256] uint8, as `packed` writes them; `least_names` is the share that a question must have.
    """

    queries: Tensor
    ids: Tensor
    weights: Tensor
    words: Tensor

    def __init__(self, key_size: int, top_k: int, least_names: float | None = None) -> None:
        super().__init__()
        self.least_names = least_names
        self.names: Names | None = None  # made of `words` when they are first needed
        kinds = [("queries", key_size, None), ("ids", top_k, torch.int64), ("weights", top_k, None)]
        if least_names is not None:
            kinds.append(("words", WORD_BYTES, torch.uint8))
        for name, width, dtype in kinds:
            self.register_buffer(name, torch.zeros(0, width, dtype=dtype), persistent=False)

    def __len__(self) -> int:
        return len(self.queries)

    @torch.no_grad()
    def recognize(self, queries: Tensor, questions: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Each query's cosine to its nearest anchor [Q] f32, and that anchor's number [Q]; -1 and 0 without anchors.

        If names are checked, it is the nearest anchor whose names are in the question, among the 8 nearest of all; -1
        and 0 where there is none. The texts of the Q `questions` are needed for this alone.

        Raises:
            ValueError: names are checked, and the texts are not given, or not one for each query.
        """
        if self.least_names is None or not len(self):
            return self.nearest(queries)
        if questions is None or len(questions) != len(queries):
            raise ValueError(f"least_names: the check of names needs the texts of the {len(queries)} questions")
        return self._named(queries, questions, self.least_names)

    @torch.no_grad()
    def nearest(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """As `recognize`, whatever the words of the questions are."""
        if not len(self):
            return queries.new_full((len(queries),), -1.0), torch.zeros_like(queries[:, 0], dtype=torch.int64)
        places = (queries @ self.queries.T).argmax(dim=1)  # [Q, F] -> [Q]
        return self._cosines(queries, places[:, None]).squeeze(1), places

    def _cosines(self, queries: Tensor, places: Tensor) -> Tensor:
        """Cosines [Q, n] f32 of the queries and their anchors at `places` [Q, n]; both have length 1.

        Their sums are f64, so that a score is the same however many questions are asked at a time.
        """
        chosen = self.queries[places].double()  # [Q, n, key_size]
        return (queries.double()[:, None, :] * chosen).sum(dim=2).to(queries.dtype)

    def _named(self, queries: Tensor, questions: Sequence[str], least: float) -> tuple[Tensor, Tensor]:
        if self.names is None:
            self.names = Names(unpacked(self.words))
        nearest = (queries @ self.queries.T).topk(min(NEAREST, len(self)), dim=1).indices  # [Q, 8]
        cosines = self._cosines(queries, nearest)  # [Q, 8]
        scores, numbers = [], []
        for values, places, question in zip(cosines.tolist(), nearest.tolist(), questions, strict=True):
            asked, pairs = set(words(question)), zip(values, places, strict=True)
            fine = ((value, place) for value, place in pairs if self.names.share(place, asked) >= least)
            score, number = next(fine, (-1.0, 0))
            scores.append(score)
            numbers.append(number)
        return queries.new_tensor(scores), torch.tensor(numbers, dtype=torch.int64, device=queries.device)

    def threshold(self, queries: Tensor, false_alarms: float, questions: Sequence[str] | None = None) -> float:
        """The rejection threshold with a false-positive rate of at most `false_alarms` on out-of-scope questions.

        `queries` [C, key_size] are theirs, `questions` their texts (see `recognize`). The threshold is always above
        -1: that is the score of every question where there are no anchors. If names are checked it is at least 0.5.
        """
        lowest = LOWEST_SCORE if self.least_names is None else LEAST_NAMED
        return max(lowest, least_score(self.recognize(queries, questions)[0].cpu().numpy(), false_alarms))

    def add(self, made: Mapping[str, Tensor]) -> None:
        """Put more anchors, named as in `tensors`, behind the present ones."""
        self.restore({name: torch.cat([values, made[name]]) for name, values in self.named_buffers()})

    def tensors(self) -> dict[str, Tensor]:
        """Copies of `queries`, `ids`, `weights` and, if names are checked, `words` on the CPU."""
        return {name: values.detach().cpu().contiguous() for name, values in self.named_buffers()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put what `tensors` returned in place of the present anchors."""
        device = self.queries.device
        for name, _ in list(self.named_buffers()):
            setattr(self, name, tensors[name].to(device))
        self.names = None

    def forget(self) -> None:
        """Drop all anchors."""
        self.restore({name: values[:0].clone() for name, values in self.named_buffers()})


def packed(stored: Sequence[WordSet]) -> Tensor:
    """Sets of words as rows [n, 256] uint8: UTF-8, the shared words, a line break, the others, zeros."""
    rows = torch.zeros(len(stored), WORD_BYTES, dtype=torch.uint8)
    for row, each in zip(rows, stored, strict=True):
        text = f"{' '.join(sorted(each.shared))}{PARTING}{' '.join(sorted(each.other))}".encode()
        cut = text if len(text) <= WORD_BYTES else text[:WORD_BYTES].rpartition(b" ")[0]
        row[: len(cut)] = torch.frombuffer(bytearray(cut), dtype=torch.uint8)
    return rows


def unpacked(rows: Tensor) -> list[WordSet]:
    """What `packed` wrote."""
    found = []
    for row in rows.cpu().numpy():
        shared, _, other = row.tobytes().rstrip(b"\0").decode(errors="ignore").partition(PARTING)
        found.append(WordSet(frozenset(shared.split(" ")) - {""}, frozenset(other.split(" ")) - {""}))
    return found


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
