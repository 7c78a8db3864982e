"""Memorized questions as people type them: how many are answered exactly, wrongly, or not at all.

`mome table typing TABLE.csv --facts 20 --facts 200 --facts 1000 --seeds 3` measures the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy
import pandas

from mome.adapter.config import MomeConfig
from mome.facts.fact import Fact, split
from mome.facts.shipped import shipped_facts
from mome.facts.typing_variations import KINDS, TRAINED, typed
from mome.lm.statistics import interval
from mome.memory.answers import answer_questions
from mome.memory.editing.editor import Editor
from mome.memory.editing.training import user_settings
from mome.memory.memorize import mistaken_share
from mome.memory.memory import Memory
from mome.replication.notebook.backbones import asked_backbone
from mome.train.attach import routed_backbone, router_facts
from mome.train.experts import memorize_facts
from mome.train.settings import MemorySettings, RouterSettings

KEY = ["backbone", "facts", "seed", "training", "kind"]
AS_IT_STANDS = "as memorized"
UNRELATED = 1_000


def single_wording_facts(count: int, seed: int) -> list[Fact]:
    """`count` shipped unknown facts drawn by `seed`, in their question alone; the fewer are among the more."""
    return [replace(fact, phrasings=(), held_out=()) for fact in split(shipped_facts("unknown"), [count], seed)[0]]


def trainings(seed: int) -> dict[str, MemorySettings]:
    """How the facts are trained: in their question alone, and as `memorize` trains the user's."""
    return {"plain": MemorySettings(seed=seed), "typed": user_settings(1, seed=seed)}


def typing_rows(backbone: str, counts: Sequence[int], seed: int, asked: int) -> Iterator[dict[str, Any]]:
    """A row for each number of facts, training and kind of variation; at most `asked` of the facts are asked.

    Columns: `n` questions asked; of the experts by themselves the shares `recognized`, `exact_alone` and `wrong_alone`
    (recognized, and not the fact's answer); of `Memory.ask_all` `exact`, `memorized_wrong` (called memorized, and not
    the fact's answer), `abstained` and `by_backbone`. `cpu_seconds` trained the experts; `mistaken` of 1,000 unrelated
    questions were recognized.
    """
    facts = single_wording_facts(max(counts), seed)
    train, calibration, rest = router_facts((fact.question for fact in facts), seed)
    others, absent = ([fact.question for fact in part] for part in (calibration, rest[:UNRELATED]))
    for count in counts:
        for name, settings in trainings(seed).items():
            memory, seconds = _memorized(backbone, train, facts[:count], settings, others)
            labels = {"backbone": backbone, "seed": seed, "facts": count, "training": name, "cpu_seconds": seconds}
            labels["mistaken"] = mistaken_share(memory.backbone, absent)
            for kind in (AS_IT_STANDS, *KINDS):
                pairs = typed_pairs(facts[:count][:asked], kind, seed)
                if pairs:
                    yield {**labels, "kind": kind, "seen": kind in TRAINED, **measured(memory, pairs)}


def typed_pairs(facts: Sequence[Fact], kind: str, seed: int) -> list[tuple[str, Fact]]:
    """Each fact's question as `kind` has it, with the fact; those that the kind leaves as they are stand out."""
    if kind == AS_IT_STANDS:
        return [(fact.question, fact) for fact in facts]
    pairs = [(typed(fact.question, kind, seed), fact) for fact in facts]
    return [(question, fact) for question, fact in pairs if question != fact.question]


def measured(memory: Memory, pairs: Sequence[tuple[str, Fact]]) -> dict[str, Any]:
    """The shares of `typing_rows` over questions, each with the fact that is meant."""
    questions = [question for question, _ in pairs]
    right = numpy.array([fact.answer for _, fact in pairs])
    alone, checked = answer_questions(memory.backbone, questions), memory.ask_all(questions)
    recognized = numpy.array([bool(each.recognized) for each in alone])
    called = numpy.array([bool(each.memorized) for each in checked])
    said, given = (numpy.array([each.text for each in found]) for found in (alone, checked))
    shares = {
        "recognized": recognized,
        "exact_alone": said == right,
        "wrong_alone": recognized & (said != right),
        "exact": given == right,
        "memorized_wrong": called & (given != right),
        "abstained": numpy.array([each.source == "nobody" for each in checked]),
        "by_backbone": numpy.array([each.source == "backbone" for each in checked]),
    }
    return {"n": len(pairs), **{name: float(values.mean()) for name, values in shares.items()}}


def summary(table: pandas.DataFrame) -> pandas.DataFrame:
    """Shares over all variations by number of facts, before and after, each with its 95% interval over seeds.

    Before: plain training, and every answer of the experts to a recognized question counts as memorized.
    After: the user's training, with reading and check. `n` counts the questions of all seeds.
    """
    varied = table[table["kind"] != AS_IT_STANDS]
    found = []
    for count, rows in varied.groupby("facts"):
        before, after = (rows[rows["training"] == name] for name in ("plain", "typed"))
        measures = {
            "exact before": (before, "exact_alone"),
            "exact after": (after, "exact"),
            "wrong, called memorized, before": (before, "wrong_alone"),
            "wrong, called memorized, after": (after, "memorized_wrong"),
            "abstained after": (after, "abstained"),
            "backbone's after": (after, "by_backbone"),
        }
        shown = {name: _share(part, column) for name, (part, column) in measures.items()}
        found.append({"facts": count, "n": int(after["n"].sum()), **shown})
    return pandas.DataFrame(found)


def _share(rows: pandas.DataFrame, column: str) -> str:
    """A share over all questions of `rows` in percent, with its interval."""
    runs = []
    for _, run in rows.groupby("seed"):
        right, asked = int(numpy.rint(run[column] * run["n"]).sum()), int(run["n"].sum())
        runs.append([1.0] * right + [0.0] * (asked - right))
    found = interval(runs)
    return f"{found.mean:.1%} ({found.low:.1%} to {found.high:.1%})"


def _memorized(
    name: str, train: Sequence[Fact], facts: list[Fact], settings: MemorySettings, others: Sequence[str]
) -> tuple[Memory, float]:
    """A memory of `facts`, whose router learned from `train`; and the CPU seconds of training its experts."""
    router = RouterSettings(seed=settings.seed)
    attached, _ = routed_backbone(asked_backbone(name), MomeConfig(), router, train, settings.seed)
    started = time.process_time()
    memorize_facts(attached.model, attached.tokenizer, facts, settings, others=others, false_alarms=router.false_alarms)
    seconds = time.process_time() - started
    return Memory(attached, editor=Editor.start(attached, facts, settings.seed)), seconds
