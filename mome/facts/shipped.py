"""The facts that come with the project."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mome.facts.fact import Fact, split
from mome.facts.readers import read_jsonl
from mome.files.environment import repository_root

TRUTHFULQA_SHARE = 0.25


def shipped_facts(name: str) -> list[Fact]:
    """The shipped facts: "known" (pretrained on) or "unknown" (never shown, for memory tuning)."""
    path = repository_root() / "data" / "facts" / f"{name}.jsonl"
    return list(_read_once(path, path.stat().st_mtime_ns if path.exists() else 0))


@cache
def _read_once(path: Path, changed: int) -> tuple[Fact, ...]:
    """Reading and checking takes a second, and a notebook asks some fifty times; a file that `changed` is read anew."""
    return tuple(read_jsonl(path))


def truthfulqa_seen(questions: Iterable[str]) -> list[str]:
    """The questions of TruthfulQA whose true answers are in the pretraining text: a quarter, drawn by a hash.

    `questions` must be all of TruthfulQA's, in any order: the quarter is taken of what is given.
    """
    facts = [Fact(question, question, "?") for question in questions]
    return [fact.question for fact in split(facts, TRUTHFULQA_SHARE, seed=0)[0]]
