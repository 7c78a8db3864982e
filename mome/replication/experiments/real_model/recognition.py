"""How many questions a router recognizes, and how many others it takes for one: `mome table recognition` measures it.

Nothing is memorized here. The questions of a store of facts become anchors; then the same facts are asked in a
paraphrase that nobody tuned, and questions about facts that are not in the store are asked as well. A paraphrase counts
only if the nearest anchor is a wording of the right fact and its similarity reaches the rejection threshold.

The router is today's (`plain`), or one that also learns from crossed facts and typed variations, longer (`crossed`).
Rows of the latter are a table of their own, without and with the check of names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

from mome.adapter.anchors import Anchors, least_score, packed
from mome.adapter.config import MomeConfig
from mome.adapter.queries import question_queries
from mome.facts.crossed import crossed_facts
from mome.facts.fact import Fact
from mome.facts.names import word_sets
from mome.facts.typing_variations import trained_typings
from mome.lm.loading import Backbone
from mome.replication.experiments.material import Material, gather
from mome.replication.experiments.real_model.memorizing import LEAST_NAMES
from mome.replication.notebook.backbones import asked_backbone
from mome.replication.notebook.tables import rows_of
from mome.train.attach import routed_backbone
from mome.train.settings import RouterSettings

KEY = ["backbone", "facts", "promised", "seed"]
PROMISED = (0.002, 0.01)  # false-positive rates for which the rejection threshold is set
CROSSED_PROMISED = (0.002, 0.005, 0.01)
ABSENT = 2_000  # questions about facts that are not in the store
BLOCK = 512  # questions compared with all anchors at a time
PLAIN, CROSSED = ROUTERS = ("plain", "crossed")
CROSSED_KEY = [*KEY, "least_names"]
CROSSED_FACTS = 4_800
TYPINGS = 2  # typed variations of each fact that the router learns from
CHECKS = (None, LEAST_NAMES)


def table_rows(
    found: Path | None, name: str, counts: Sequence[int], seed: int, router: str = PLAIN
) -> Iterator[dict[str, Any]]:
    """A row for each number of stored facts that the table `found` does not have, and each promised rate.

    The router learns from other facts (`gather`); questions of again others, which it never saw, set the threshold.
    With the `router` "crossed" a row for each of `CHECKS`, too; `least_names` is 0 where names are not checked.

    Raises:
        ValueError: another `router`, or the table holds rows of the other one.
    """
    _refuse_other_router(found, router)
    measured = rows_of(found, ["backbone", "facts", "seed"])
    for count in counts:
        if (name, count, seed) in measured:
            continue
        material = gather(count, seed, absent=ABSENT)
        learned, settings = material.others, RouterSettings(seed=seed)
        if router == CROSSED:
            learned, settings = crossed_recipe(material.others, seed)
        routed, report = routed_backbone(asked_backbone(name), MomeConfig(), settings, learned, seed)
        seen = Seen(routed, material.facts)
        for least in CHECKS if router == CROSSED else (None,):
            for row in _rows(seen.checked(least), material, PROMISED if router == PLAIN else CROSSED_PROMISED):
                labels = {"least_names": least or 0.0} if router == CROSSED else {}
                key = dict(zip(KEY, (name, count, row["promised"], seed), strict=True))
                yield {**key, **labels, **row, "router_seconds": report.seconds}


def crossed_recipe(others: Sequence[Fact], seed: int) -> tuple[list[Fact], RouterSettings]:
    """What the router "crossed" learns from, and how: `others` with typed variations, and crossed facts of them."""
    typed = [
        replace(fact, phrasings=(*fact.phrasings, *trained_typings(fact.question, TYPINGS, seed))) for fact in others
    ]
    settings = RouterSettings(steps=1_500, batch_size=128, learning_rate=1e-2, seed=seed)
    return [*typed, *crossed_facts(others, CROSSED_FACTS, seed)], settings


def _refuse_other_router(found: Path | None, router: str) -> None:
    if router not in ROUTERS:
        raise ValueError(f"--router {router}: must be one of {', '.join(ROUTERS)}")
    if found is None or not found.exists():
        return
    crossed = "least_names" in pandas.read_csv(found, nrows=0).columns
    if crossed is not (router == CROSSED):
        raise ValueError(f"{found}: holds rows of another router than {router!r}; name another table")


def _rows(seen: Seen, material: Material, rates: Sequence[float]) -> Iterator[dict[str, Any]]:
    """What is recognized and taken at each promised rate."""
    calibration, absent = (
        seen.scores(material.calibration),
        seen.scores([fact.question for fact in material.absent]),
    )
    for promised in rates:
        threshold = least_score(calibration, promised)
        yield {
            "promised": promised,
            "threshold": threshold,
            "recognized": float(seen.recognized(threshold).mean()),
            "absent_taken": float((absent >= threshold).mean()),
            "n_recognized": len(material.facts),
            "n_absent": len(absent),
        }


class Seen:
    """A store of facts as a router sees it: the queries of their tuned wordings, which are its anchors.

    `checked` gives one that also compares their words (`MomeConfig.least_names`).
    """

    def __init__(self, routed: Backbone, facts: Sequence[Fact]) -> None:
        self.facts = facts
        asked = [(owner, text) for owner, fact in enumerate(facts) for text in fact.wordings()]
        self.owners, self.texts = numpy.array([owner for owner, _ in asked]), [text for _, text in asked]
        self.read = cache(partial(question_queries, routed.model, routed.tokenizer))  # tuple of texts -> their queries
        self._look(None)

    def checked(self, least_names: float | None) -> Seen:
        """The same store with another check of names, or none; what was read of questions serves both."""
        other = copy(self)
        other._look(least_names)
        return other

    def _look(self, least_names: float | None) -> None:
        self.anchors = self._anchors(least_names)
        held_out = [(owner, fact.held_out[0]) for owner, fact in enumerate(self.facts) if fact.held_out]
        self.best, nearest = self._nearest([text for _, text in held_out])
        self.right = self.owners[nearest] == numpy.array([owner for owner, _ in held_out], dtype=int)

    def recognized(self, threshold: float) -> numpy.ndarray:
        """Whether each fact's held-out wording is taken for this fact [facts that have one] bool."""
        return self.right & (self.best >= threshold)

    def scores(self, questions: Sequence[str]) -> numpy.ndarray:
        """Each question's similarity to its nearest anchor [questions] f32, a cosine."""
        return self._nearest(questions)[0]

    def _anchors(self, least_names: float | None) -> Anchors:
        """Anchors for all wordings, without experts."""
        queries = self.read(tuple(self.texts))
        none = torch.zeros(len(queries), 1)
        made = {"queries": queries, "ids": none.long(), "weights": none}
        if least_names is not None:
            made["words"] = packed([each for fact in self.facts for each in word_sets(fact.wordings())])
        anchors = Anchors(queries.shape[1], 1, least_names).to(queries.device)
        anchors.restore(made)
        return anchors

    def _nearest(self, questions: Sequence[str]) -> tuple[numpy.ndarray, numpy.ndarray]:
        """The largest cosine of each question to an anchor, and the anchor's number, in blocks of questions."""
        queries, starts = self.read(tuple(questions)), range(0, len(questions), BLOCK)
        found = [self.anchors.recognize(queries[at : at + BLOCK], questions[at : at + BLOCK]) for at in starts]
        values, places = (torch.cat(each) for each in zip(*found, strict=True))
        return values.cpu().numpy(), places.cpu().numpy()
