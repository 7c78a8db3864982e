"""The adapters on which faults are tried, and their answers before and after."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from mome.facts.fact import Fact
from mome.memory.loading import load_memory
from mome.memory.memory import Memory

PLACES = ("cellar", "attic", "garage", "garden", "office", "hall")
OLD = [Fact(f"old/{place}", f"What is the code of the {place}?", str(7_001 + 13 * n)) for n, place in enumerate(PLACES)]
NEW = [replace(fact, id=f"new/{place}", answer=fact.answer[::-1]) for fact, place in zip(OLD, PLACES, strict=True)]


def answers(memory: Memory) -> list[str]:
    """The memory's answers to every question that OLD and NEW share."""
    return [answer.text for answer in memory.ask_all([fact.question for fact in OLD])]


def load_state(folder: Path) -> dict[str, Any]:
    """The facts of a saved adapter and what it answers."""
    memory = load_memory(folder)
    return {"facts": memory.facts, "answers": answers(memory), "edits": len(memory.history())}


def copied(source: Path, target: Path) -> Path:
    """A fresh copy of an adapter."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


def fingerprint_of(state: dict[str, Any]) -> str:
    """A state as text, to compare and to show."""
    return json.dumps([[fact.id, fact.answer] for fact in state["facts"]] + state["answers"])
