"""The shipped database and its question-SQL pairs: the SQLite file is built from the committed SQL text."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from mome.facts.fact import Fact
from mome.facts.readers import read_jsonl
from mome.files.atomic import replacing
from mome.files.environment import repository_root

TUNED, PHRASINGS, VALUES, SHAPES = "tuned", "phrasings", "values", "shapes"
SPLITS = (TUNED, PHRASINGS, VALUES, SHAPES)


def data_folder() -> Path:
    """Where the committed texts lie."""
    return repository_root() / "data" / "text_to_sql"


def build_database(path: Path) -> Path:
    """Write the workshop's SQLite database to `path` from workshop.sql, the same bytes each time; returns `path`."""
    text = (data_folder() / "workshop.sql").read_text("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as made, closing(sqlite3.connect(made)) as connection:
        connection.executescript(text)
    return path


def schema(database: Path) -> str:
    """The tables and their columns, one table a line, such as `part(code, name)`."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type='table'")]
        columns = {name: [row[1] for row in connection.execute(f"pragma table_info({name})")] for name in tables}
    return "\n".join(f"{name}({', '.join(names)})" for name, names in columns.items())


def shape_of(pair: Fact) -> str:
    """The query shape of a pair, such as "town_jobs"."""
    return pair.relation.partition("/")[2]


def workshop_pairs() -> dict[str, list[Fact]]:
    """The pairs of each part of pairs.jsonl: `TUNED`; `VALUES` (tuned shapes, other values); `SHAPES` (other shapes).

    A pair is a fact whose answer is SQL; its last wording is held out.
    """
    parts: dict[str, list[Fact]] = {}
    for pair in read_jsonl(data_folder() / "pairs.jsonl"):
        parts.setdefault(pair.relation.partition("/")[0], []).append(pair)
    return parts


def practice_pairs() -> list[Fact]:
    """The pairs of other databases, to train the reader of retrieved examples and the router."""
    return read_jsonl(data_folder() / "practice.jsonl")


def chosen(parts: Mapping[str, Sequence[Fact]], shapes: int | None, values: int | None) -> dict[str, list[Fact]]:
    """The first `shapes` shapes of each part, and of each the first `values` pairs; None: all."""
    found = {}
    for name, pairs in parts.items():
        grouped: dict[str, list[Fact]] = {}
        for pair in pairs:
            grouped.setdefault(shape_of(pair), []).append(pair)
        found[name] = [pair for group in list(grouped.values())[:shapes] for pair in group[:values]]
    return found


def asked(parts: Mapping[str, Sequence[Fact]], split: str) -> list[Fact]:
    """What a split asks, as facts whose question is the wording asked.

    `TUNED`: the first wording of tuned pairs; `PHRASINGS`: their held-out wording, of which no pair of that shape was
    shown; `VALUES` and `SHAPES`: the first wording of pairs with values, or of a shape, that were not shown.

    Raises:
        KeyError: there is no such split.
    """
    if split == PHRASINGS:
        return [replace(pair, question=pair.held_out[0]) for pair in parts[TUNED]]
    return list(parts[split])
