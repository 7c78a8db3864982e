"""Out-of-scope questions: each added fact is one more they can be mistaken for, so the rejection threshold rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.adapter.queries import question_queries
from mome.adapter.router import Router
from mome.files.sealed import CheckpointError
from mome.files.snapshots import load_snapshot, save_snapshot

SHARE = "false_alarms"


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Router `queries` [C, key_size] f32 of out-of-scope questions, and their accepted false-positive rate."""

    queries: Tensor
    false_alarms: float

    @classmethod
    def read(
        cls, model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], false_alarms: float
    ) -> OutOfScope:
        """The queries that a model with memory experts makes of out-of-scope `questions`."""
        return cls(question_queries(model, tokenizer, questions), false_alarms)

    @classmethod
    def load(cls, path: Path) -> OutOfScope:
        """What `save` wrote; raises CheckpointError if the file is damaged."""
        found = load_snapshot(path, {})
        if found is None or found[0].keys() != {"queries"} or not isinstance(found[1].get(SHARE), float):
            raise CheckpointError(f"{path}: damaged or missing; restore it from a copy")
        return cls(found[0]["queries"].clone(), found[1][SHARE])  # aligned, for the same bits of its products

    def save(self, path: Path) -> None:
        """Write them to a safetensors file; raises OSError if it cannot be written."""
        save_snapshot(path, {"queries": self.queries.cpu()}, {"config": {}, SHARE: self.false_alarms})

    def null_key(self, router: Router) -> float:
        """The rejection threshold for the router's present anchors."""
        return router.anchors.threshold(self.queries.to(router.anchors.queries.device), self.false_alarms)
