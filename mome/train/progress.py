"""The progress of a memorization: which facts wait, train, are done or failed, as JSON values that can be saved."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy


@dataclass
class Progress:
    """The state of phase 2 between two epochs.

    `queue` holds the groups still to come, `active` what is left of the present `group` after `epoch` epochs; `losses`
    lists each fact's mean loss at each of its training steps, `worst` its worst token's at the last check (nats).
    """

    queue: list[list[int]]
    losses: list[list[float]]
    worst: list[float]
    group: list[int] = field(default_factory=list)
    active: list[int] = field(default_factory=list)
    epoch: int = 0
    epochs_in_all: int = 0
    rounds: int = 0
    visits: int = 0
    failed: list[int] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False

    @classmethod
    def start(cls, facts: int, group_size: int) -> Progress:
        """Nothing trained yet: `facts` facts in groups of `group_size`."""
        return cls(grouped(list(range(facts)), group_size), [[] for _ in range(facts)], [float("inf")] * facts)

    def next_group(self) -> None:
        """Take the next group."""
        self.group, self.epoch = self.queue.pop(0), 0
        self.active = list(self.group)

    def leave(self, memorized: set[int], epochs: int) -> None:
        """End an epoch: the memorized facts leave; after `epochs` epochs the rest of the group leaves as failed."""
        self.epoch, self.epochs_in_all = self.epoch + 1, self.epochs_in_all + 1
        self.active = [fact for fact in self.active if fact not in memorized]
        if self.epoch >= epochs:
            self.failed, self.active = sorted({*self.failed, *self.active}), []

    def remaining(self) -> int:
        """How many facts are not memorized and have not failed yet."""
        return len(self.active) + sum(len(group) for group in self.queue)

    def curves(self) -> numpy.ndarray:
        """[epochs, facts] f32: each fact's losses by its own epoch, the last value kept."""
        longest = max(len(values) for values in self.losses)
        filled = [values + values[-1:] * (longest - len(values)) for values in self.losses]
        return numpy.asarray(filled, dtype=numpy.float32).T

    def as_json(self) -> dict[str, Any]:
        """All fields; infinite losses as -1, which JSON can hold."""
        return {**asdict(self), "worst": [-1.0 if numpy.isinf(value) else value for value in self.worst]}

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Progress:
        """What `as_json` gave."""
        return cls(**{**state, "worst": [float("inf") if value < 0 else value for value in state["worst"]]})


def grouped(facts: list[int], size: int) -> list[list[int]]:
    """The facts in groups of at most `size`, in their order."""
    return [facts[start : start + size] for start in range(0, len(facts), size)]
