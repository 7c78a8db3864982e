"""Out-of-scope questions: each added fact is one more they can be mistaken for, so the rejection threshold rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries
from mome.adapter.router import Router
from mome.files.sealed import CheckpointError
from mome.files.snapshots import load_snapshot, save_snapshot

SHARE, TEXTS = "false_alarms", "questions"


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Router `queries` [C, key_size] f32 of out-of-scope questions, and their accepted false-positive rate.

    The texts of the `questions` are kept only where the adapter checks names (`MomeConfig.least_names`).
    """

    queries: Tensor
    false_alarms: float
    questions: tuple[str, ...] | None = None

    @classmethod
    def read(
        cls, model: Any, tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], false_alarms: float
    ) -> OutOfScope:
        """The queries that a model with memory experts makes of out-of-scope `questions`."""
        mome = mome_model(model)
        kept = None if mome is None or mome.settings.least_names is None else tuple(questions)
        return cls(question_queries(model, tokenizer, questions), false_alarms, kept)

    @classmethod
    def load(cls, path: Path) -> OutOfScope:
        """What `save` wrote; raises CheckpointError if the file is damaged."""
        found = load_snapshot(path, {})
        if found is None or found[0].keys() != {"queries"} or not isinstance(found[1].get(SHARE), float):
            raise CheckpointError(f"{path}: damaged or missing; restore it from a copy")
        texts = found[1].get(TEXTS)
        # aligned, for the same bits of its products
        return cls(found[0]["queries"].clone(), found[1][SHARE], None if texts is None else tuple(texts))

    def save(self, path: Path) -> None:
        """Write them to a safetensors file; raises OSError if it cannot be written."""
        texts = {} if self.questions is None else {TEXTS: list(self.questions)}
        save_snapshot(path, {"queries": self.queries.cpu()}, {"config": {}, SHARE: self.false_alarms, **texts})

    def null_key(self, router: Router) -> float:
        """The rejection threshold for the router's present anchors."""
        queries = self.queries.to(router.anchors.queries.device)
        return router.anchors.threshold(queries, self.false_alarms, self.questions)
