"""SQL that a model wrote, run where it can change nothing: read-only, few actions allowed, limited in work and size."""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = tuple[Any, ...]

ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
FORBIDDEN_FUNCTIONS = {"load_extension"}
INSTRUCTIONS_BETWEEN_CALLS = 1_000
LONGEST_TEXT = 100_000  # bytes of a value or a statement
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may take: instructions of SQLite's virtual machine, seconds, rows (our choice).

    The instructions decide first and are the same on every machine; the seconds are for what they miss.
    """

    instructions: int = 5_000_000
    seconds: float = 5.0
    rows: int = 1_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows a statement gave, or the error that ended it; exactly one of them is None."""

    rows: list[Row] | None
    error: str | None = None


def run_sql(database: Path, statement: str, limits: Limits | None = None) -> Outcome:
    """Run one SELECT on an SQLite file. Whatever else the statement is, the file stays as it was, and it is an error.

    Three layers: the file is opened read-only; SQLite asks for leave to select, to read a column or to call a function,
    and everything else (ATTACH, PRAGMA, writing, recursion) is refused when the statement is compiled; then the limits.

    Raises:
        FileNotFoundError: there is no such database.
    """
    if not database.is_file():
        raise FileNotFoundError(f"{database}: no such database")
    limits = limits or Limits()
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=0)) as connection:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_TEXT)
        connection.set_authorizer(_leave)
        connection.set_progress_handler(_alarm(limits), INSTRUCTIONS_BETWEEN_CALLS)
        try:
            rows = connection.execute(statement).fetchmany(limits.rows + 1)
        # a second statement is a Warning or a ProgrammingError, a stray surrogate or a NUL a ValueError
        except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError) as error:
            return Outcome(None, f"{type(error).__name__}: {error}")
    if len(rows) > limits.rows:
        return Outcome(None, f"more than {limits.rows} rows")
    return Outcome(rows)


def _leave(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Whether SQLite may do this; of a function the second argument is the name."""
    forbidden = action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in FORBIDDEN_FUNCTIONS
    return sqlite3.SQLITE_OK if action in ALLOWED and not forbidden else sqlite3.SQLITE_DENY


def _alarm(limits: Limits) -> Callable[[], int]:
    """A progress handler that ends the statement (1) once a limit is passed."""
    started, calls = time.monotonic(), 0

    def ring() -> int:
        nonlocal calls
        calls += 1
        over = calls * INSTRUCTIONS_BETWEEN_CALLS > limits.instructions
        return int(over or time.monotonic() - started > limits.seconds)

    return ring


def asks_for_order(statement: str) -> bool:
    """Whether the outermost SELECT has an ORDER BY; one in a subquery or in a string does not count."""
    text = re.sub(r"'(?:[^']|'')*'", "''", statement.lower())
    while (inner := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = inner
    return re.search(r"\border\s+by\b", text) is not None


def same_rows(expected: list[Row], found: list[Row], *, ordered: bool) -> bool:
    """Whether two results are the same: as lists if `ordered`, else as multisets. Floats count to 6 decimals.

    The order of columns counts, their names do not.
    """
    one, other = ([_rounded(row) for row in rows] for rows in (expected, found))
    return one == other if ordered else Counter(one) == Counter(other)


def _rounded(row: Row) -> Row:
    return tuple(round(value, DECIMALS) if isinstance(value, float) else value for value in row)


def executes_right(database: Path, gold: str, generated: str, limits: Limits | None = None) -> bool:
    """Execution accuracy of one question: `generated` runs and gives the result of `gold`, in order where it asks so.

    Raises:
        ValueError: the gold statement itself gives an error.
    """
    expected = run_sql(database, gold, limits)
    if expected.rows is None:
        raise ValueError(f"gold SQL {gold!r}: {expected.error}")
    found = run_sql(database, generated, limits)
    return found.rows is not None and same_rows(expected.rows, found.rows, ordered=asks_for_order(gold))
