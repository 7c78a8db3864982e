"""What a question was given: experts by number, and the rows of them that are in use."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Routes:
    """What each of Q questions was given: `ids` [Q, K] int64, `weights` [Q, K] f32, `scores` [Q] f32.

    A score is the cosine to the nearest anchor, -1 where there is none. A question of the null key has weights of 0.
    """

    ids: Tensor
    weights: Tensor
    scores: Tensor


@dataclass(slots=True)
class Block:
    """Distinct rows taken from the bank: `ids` [n] on the CPU, `rows` module -> f32 [n, width] (leaves in training)."""

    ids: Tensor
    rows: dict[str, Tensor]


@dataclass(slots=True)
class Selection:
    """The experts in use: `routes`, and for each question the `places` [Q, K] of its experts in `block`.

    Without a block no chosen expert was ever trained, or all questions met the null key: nothing is added.
    """

    routes: Routes
    block: Block | None
    places: Tensor
