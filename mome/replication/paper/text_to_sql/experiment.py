"""Execution accuracy of every system on every split; `mome table text-to-sql TABLE.csv --seeds 3` measures it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
from tqdm.auto import tqdm

from mome.facts.fact import Fact
from mome.files.environment import work_folder
from mome.replication.paper.text_to_sql.database import SPLITS, asked, build_database, workshop_pairs
from mome.replication.paper.text_to_sql.execution import executes_right, run_sql
from mome.replication.paper.text_to_sql.metrics import RIGHT, WRONG, read_table
from mome.replication.paper.text_to_sql.systems import SYSTEMS, Contest, TextToSqlPlan

KEY = ["system", "backbone", "seed", "split"]


def contest_rows(
    contest: Contest,
    parts: Mapping[str, Sequence[Fact]],
    systems: Sequence[str] = SYSTEMS,
    splits: Sequence[str] = SPLITS,
) -> Iterator[dict[str, Any]]:
    """Ask each system the questions of all splits at once, run what it writes, and give a row for each split.

    Columns: system, backbone, seed, split, those of `outcome_columns`, and cpu_seconds: of the system, all splits
    together, with the training that it needed first.
    """
    questions = {split: asked(parts, split) for split in splits}
    for system in tqdm(systems, desc=f"{contest.name}: text to SQL", unit="system", leave=False):
        started = time.process_time()
        written = iter(contest.sql(system, [pair.question for pairs in questions.values() for pair in pairs]))
        took = time.process_time() - started
        for split, pairs in questions.items():
            labels = {"system": system, "backbone": contest.name, "seed": contest.plan.memory.seed, "split": split}
            texts = list(islice(written, len(pairs)))
            yield {**labels, **outcome_columns(contest.database, pairs, texts), "cpu_seconds": took}


def outcome_columns(database: Path, questions: Sequence[Fact], written: Sequence[str]) -> dict[str, Any]:
    """The outcomes of the statements `written` for `questions`.

    Columns: questions (their number), outcomes (a character 1 or 0 for each: the right result or not), accuracy (share
    of 1), same_text (share of statements that are the gold one to the letter) and errors (share that did not run).
    """
    pairs = list(zip(questions, written, strict=True))
    right = [executes_right(database, pair.answer, text) for pair, text in pairs]
    return {
        "questions": len(questions),
        "outcomes": "".join(RIGHT if one else WRONG for one in right),
        "accuracy": float(numpy.mean(right)),
        "same_text": float(numpy.mean([pair.answer == text for pair, text in pairs])),
        "errors": float(numpy.mean([run_sql(database, text).rows is None for _, text in pairs])),
    }


def table_rows(path: Path, backbone: str, systems: Sequence[str], seeds: int) -> Iterator[dict[str, Any]]:
    """The rows that the table at `path` lacks, of each seed and system.

    Raises:
        ValueError: an unknown system.
    """
    unknown = [system for system in systems if system not in SYSTEMS]
    if unknown:
        raise ValueError(f"system {unknown[0]!r} is not one of {', '.join(SYSTEMS)}")
    database, parts = build_database(work_folder() / "text_to_sql" / "workshop.sqlite"), workshop_pairs()
    for seed in range(seeds):
        missing = [system for system in systems if not _measured(path, system, backbone, seed)]
        yield from contest_rows(Contest(backbone, parts, TextToSqlPlan().seeded(seed), database), parts, missing)


def _measured(path: Path, system: str, backbone: str, seed: int) -> bool:
    """Whether the table holds this system's row of every split."""
    if not path.exists():
        return False
    table = read_table(path)
    same = table[(table["system"] == system) & (table["backbone"] == backbone) & (table["seed"] == seed)]
    return set(same["split"]) >= set(SPLITS)
