"""How many questions a router recognizes, and how many others it takes for one: `mome table recognition` measures it.

Nothing is memorized here. The questions of a store of facts become anchors; then the same facts are asked in a
paraphrase that nobody tuned, and questions about facts that are not in the store are asked as well. A paraphrase counts
only if the nearest anchor is a wording of the right fact and its similarity reaches the rejection threshold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from mome.adapter.anchors import least_score
from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_queries
from mome.facts.fact import Fact
from mome.lm.loading import Backbone
from mome.replication.experiments.material import gather
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.tables import rows_of
from mome.train.attach import routed_backbone
from mome.train.settings import RouterSettings

KEY = ["backbone", "facts", "promised", "seed"]
PROMISED = (0.002, 0.01)  # false-positive rates for which the rejection threshold is set
ABSENT = 2_000  # questions about facts that are not in the store
BLOCK = 512  # questions compared with all anchors at a time


def table_rows(found: Path | None, name: str, counts: Sequence[int], seed: int) -> Iterator[dict[str, Any]]:
    """A row for each number of stored facts that the table `found` does not have, and each promised rate.

    The router learns from other facts (`gather`); questions of again others, which it never saw, set the threshold.
    """
    measured = rows_of(found, ["backbone", "facts", "seed"])
    for count in counts:
        if (name, count, seed) in measured:
            continue
        material = gather(count, seed, absent=ABSENT)
        routed, report = routed_backbone(
            asked_backbone(name), MomeConfig(), RouterSettings(seed=seed), material.others, seed
        )
        seen = Seen(routed, material.facts)
        calibration, absent = (
            seen.scores(material.calibration),
            seen.scores([fact.question for fact in material.absent]),
        )
        for promised in PROMISED:
            threshold = least_score(calibration, promised)
            yield {
                **dict(zip(KEY, (name, count, promised, seed), strict=True)),
                "threshold": threshold,
                "recognized": float(seen.recognized(threshold).mean()),
                "absent_taken": float((absent >= threshold).mean()),
                "n_recognized": count,
                "n_absent": len(absent),
                "router_seconds": report.seconds,
            }


class Seen:
    """A store of facts as a router sees it: the queries of their tuned wordings, which are its anchors."""

    def __init__(self, routed: Backbone, facts: Sequence[Fact]) -> None:
        self.routed = routed
        asked = [(owner, text) for owner, fact in enumerate(facts) for text in fact.wordings()]
        self.owners = numpy.array([owner for owner, _ in asked])
        self.anchors = self._queries([text for _, text in asked])
        held_out = [(owner, fact.held_out[0]) for owner, fact in enumerate(facts) if fact.held_out]
        best, nearest = self._nearest(self._queries([text for _, text in held_out]))
        self.right = self.owners[nearest] == numpy.array([owner for owner, _ in held_out], dtype=int)
        self.best = best

    def recognized(self, threshold: float) -> numpy.ndarray:
        """Whether each fact's held-out wording is taken for this fact [facts that have one] bool."""
        return self.right & (self.best >= threshold)

    def scores(self, questions: Sequence[str]) -> numpy.ndarray:
        """Each question's similarity to its nearest anchor [questions] f32, a cosine."""
        return self._nearest(self._queries(questions))[0]

    def _queries(self, questions: Sequence[str]) -> Tensor:
        return question_queries(self.routed.model, self.routed.tokenizer, questions)

    def _nearest(self, queries: Tensor) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The largest cosine of each query [Q, D] to an anchor, and the anchor's number, in blocks of queries."""
        found = [(part @ self.anchors.T).max(dim=1) for part in queries.split(BLOCK)]
        values, places = (torch.cat([getattr(each, name) for each in found]) for name in ("values", "indices"))
        return values.cpu().numpy(), places.cpu().numpy()
