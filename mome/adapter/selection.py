"""The experts chosen for each question: their numbers, and their rows of the bank that are in use."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Routes:
    """The K experts of each of Q questions: `ids` [Q, K] int64, `weights` [Q, K] f32, `scores` [Q] f32.

    A score is the similarity to the nearest anchor, -1 where there is none. A rejected question has weights of 0.
    """

    ids: Tensor
    weights: Tensor
    scores: Tensor


@dataclass(slots=True)
class Block:
    """Distinct rows read from the bank: `ids` [n] on the CPU, `rows` module -> f32 [n, width] (leaves in training)."""

    ids: Tensor
    rows: dict[str, Tensor]


@dataclass(slots=True)
class Selection:
    """The experts in use: `routes`, and for each question the `places` [Q, K] of its experts in `block`.

    There is no block if no chosen expert was ever trained, or if all questions were rejected: nothing is added.
    """

    routes: Routes
    block: Block | None
    places: Tensor
