"""Running SQL that a model wrote, without risk: read-only, few actions allowed, limited in work and size."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mome.replication.paper.text_to_sql.supervisor import SUPERVISOR

Row = tuple[Any, ...]

LONGEST_TEXT = 100_000  # bytes of a value or a statement
GRACE = 0.5  # seconds in which the statement may be ended from within before its process is
LONGEST_RUN = 86_400.0  # seconds
DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one statement: instructions of SQLite's virtual machine, seconds, rows, bytes of its rows (`size`).

    The instructions decide first and are the same on every machine. The seconds are for what they miss, such as a long
    call of one function. The numbers are our choice.
    """

    instructions: int = 5_000_000
    seconds: float = 5.0
    rows: int = 1_000
    size: int = 10_000_000

    def __post_init__(self) -> None:
        for name in ("instructions", "rows", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"Limits: {name} is {getattr(self, name)}, and must be at least 1")
        if not 0 < self.seconds <= LONGEST_RUN:
            raise ValueError(f"Limits: seconds is {self.seconds:g}, and must be above 0, at most {LONGEST_RUN:g}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows a statement gave, or the error that ended it; exactly one of them is None."""

    rows: list[Row] | None
    error: str | None = None


def run_sql(database: Path, statement: str, limits: Limits | None = None) -> Outcome:
    """Run one SELECT on an SQLite file. Whatever else the statement is, the file stays as it was, and it is an error.

    The statement runs in a process of its own (`worker.py`), which serves one statement after another:

    - the file is opened read-only, and the process can write no file of any size;
    - a statement starts with SELECT, VALUES or WITH, and SQLite asks before each action: allowed are to select, to read
      a column and to call one of the ordinary functions. All else is refused when the statement is compiled: ATTACH,
      PRAGMA, EXPLAIN, writing, recursion, functions and tables that show SQLite's own memory;
    - the limits end it from within, and half a second later from outside: the process is killed, and the next statement
      gets another. The process also has a limit of memory, and ends with this one.

    Raises:
        FileNotFoundError: there is no such database.
        OSError: the process cannot be started.
    """
    if not database.is_file():
        raise FileNotFoundError(f"{database}: no such database")
    limits = limits or Limits()
    try:
        size = len(statement.encode())
    except UnicodeEncodeError as error:  # a stray surrogate
        return Outcome(None, f"UnicodeEncodeError: {error}")
    if size > LONGEST_TEXT:
        return Outcome(None, f"more than {LONGEST_TEXT} bytes of SQL")
    path = database.resolve()
    request = {
        "path": str(path),
        "address": f"{path.as_uri()}?mode=ro",
        "statement": statement,
        "longest": LONGEST_TEXT,
    }
    answer = SUPERVISOR.ask({**request, "grace": GRACE, **asdict(limits)}, limits.seconds + GRACE)
    return Outcome([tuple(row) for row in answer["rows"]]) if "rows" in answer else Outcome(None, answer["error"])


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
    """Execution accuracy of one question: whether `generated` runs and gives the result of `gold`, in its order.

    Raises:
        ValueError: the gold statement itself gives an error.
    """
    expected = run_sql(database, gold, limits)
    if expected.rows is None:
        raise ValueError(f"gold SQL {gold!r}: {expected.error}")
    found = run_sql(database, generated, limits)
    return found.rows is not None and same_rows(expected.rows, found.rows, ordered=asks_for_order(gold))
