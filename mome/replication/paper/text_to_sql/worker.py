"""The process that runs SQL a model wrote. `supervisor.py` starts it by this file, with the standard library only.

A message is its length (8 bytes, big-endian) and that many bytes of JSON, both ways. JSON holds a blob as
`{"blob": base64}`; all else that SQLite gives (int64, f64 with infinities, text, null) it gives back exactly.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import resource
import select
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

MEMORY = 2**29  # bytes of address space of this process
HEAP = 2**27  # bytes that SQLite may hold; it decides first, and is the same on every machine
FILES = 2**20  # bytes a file may grow to: no more than the index of a write-ahead log needs
INSTRUCTIONS_BETWEEN_CALLS = 1_000
NUMBER = 8  # bytes that a number or a null counts

ACTIONS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION}
# What SQLite skips before a statement, and the words with which a statement that reads data starts; not EXPLAIN.
# Nothing is tried a second time (?> *+): a comment ends where SQLite sees its end.
STATEMENT = re.compile(r"(?>[\s;\ufeff]|--[^\n]*|/\*.*?(?:\*/|\Z))*+(?:\Z|(?:select|values|with)\b)", re.I | re.S)
AGGREGATES = "avg count group_concat max min string_agg sum total"
NUMBERS = (
    "abs acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi pow"
    " power radians random round sign sin sinh sqrt tan tanh trunc"
)
TEXTS = (
    "char concat concat_ws format glob hex instr length like lower ltrim octet_length printf quote replace rtrim"
    " soundex substr substring trim unhex unicode upper"
)
DATES = "current_date current_time current_timestamp date datetime julianday strftime time timediff unixepoch"
CHOICES = "coalesce if ifnull iif likelihood likely nullif typeof unlikely"
WINDOWS = "cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank row_number"
JSON = (
    "-> ->> json json_array json_array_length json_extract json_group_array json_group_object json_insert json_object"
    " json_patch json_quote json_remove json_replace json_set json_type json_valid"
)
FUNCTIONS = frozenset(" ".join((AGGREGATES, NUMBERS, TEXTS, DATES, CHOICES, WINDOWS, JSON)).split())


def serve() -> None:
    """Answer requests until the other end is closed."""
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    for kind, limit in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, FILES), (resource.RLIMIT_CORE, 0)):
        _limit(kind, limit)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"pragma hard_heap_limit={HEAP}")  # holds for the process
    _send({"ready": sqlite3.sqlite_version})
    while (request := _receive()) is not None:
        try:
            answer = _encoded(_answer(**request))
        except MemoryError:
            answer = _encoded({"error": f"MemoryError: more than {HEAP} bytes"})
        _write(answer)


def _end_with_the_parent() -> None:
    """Leave once the other end is closed, also in the middle of a statement: SQLite runs without Python's lock."""
    poll = select.poll()
    poll.register(0, 0)  # reports the end only
    poll.poll()
    os._exit(0)


def _limit(kind: int, most: int) -> None:
    """Lower a soft limit of this process; a hard limit that is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answer(
    *, path: str, address: str, statement: str, longest: int, grace: float, seconds: float, **limits: int
) -> dict[str, Any]:
    """The rows of one statement, or its error; the limits are those of `execution.Limits`, `longest` is in bytes."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime + seconds + grace) + 1)
    if not STATEMENT.match(statement):
        return {"error": "only SELECT, VALUES and WITH may begin a statement"}
    try:
        with closing(_opened(path, address, longest)) as connection:
            connection.set_authorizer(_leave)
            connection.set_progress_handler(_alarm(limits["instructions"], seconds), INSTRUCTIONS_BETWEEN_CALLS)
            return _rows(connection.execute(statement), limits["rows"], limits["size"])
    # a second statement is a Warning or a ProgrammingError, a NUL a ValueError, a file that may not be read an OSError
    except (sqlite3.Error, sqlite3.Warning, ValueError, OSError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def _opened(path: str, address: str, longest: int) -> sqlite3.Connection:
    """A connection that can only read, and that leaves no file behind.

    Reading a database with a write-ahead log makes two more files beside it. Where there is no log yet, nobody has the
    database open, and it can be read as one that does not change.
    """
    alone = _has_write_ahead_log(path) and not os.path.exists(f"{path}-wal")
    connection = sqlite3.connect(address + ("&immutable=1" if alone else ""), uri=True, timeout=0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
    connection.execute("pragma temp_store=memory")
    connection.execute("pragma trusted_schema=off")
    return connection


def _has_write_ahead_log(path: str) -> bool:
    """Whether the header says so (bytes 18 and 19; https://www.sqlite.org/fileformat.html).

    The parent must not look: closing the file would take away a lock that it holds on its database (POSIX).
    """
    with open(path, "rb") as file:
        return file.read(20)[18:] == b"\2\2"


def _leave(action: int, first: str | None, second: str | None, *_: str | None) -> int:
    """Whether SQLite may do this; of a function the second argument is the name."""
    known = action != sqlite3.SQLITE_FUNCTION or (second or "").lower() in FUNCTIONS
    return sqlite3.SQLITE_OK if action in ACTIONS and known else sqlite3.SQLITE_DENY


def _alarm(instructions: int, seconds: float) -> Callable[[], int]:
    """A progress handler that ends the statement (1) once a limit is passed."""
    started, calls = time.monotonic(), 0

    def ring() -> int:
        nonlocal calls
        calls += 1
        over = calls * INSTRUCTIONS_BETWEEN_CALLS > instructions
        return int(over or time.monotonic() - started > seconds)

    return ring


def _rows(cursor: sqlite3.Cursor, most: int, size: int) -> dict[str, Any]:
    """All rows, or the error that there are more than `most`, or that they hold more than `size` bytes."""
    found: list[tuple[Any, ...]] = []
    left = size
    for row in cursor:
        left -= sum(len(value) if isinstance(value, str | bytes) else NUMBER for value in row)
        found.append(row)
        if len(found) > most:
            return {"error": f"more than {most} rows"}
        if left < 0:
            return {"error": f"more than {size} bytes of results"}
    return {"rows": found}


def _encoded(message: dict[str, Any]) -> bytes:
    return json.dumps(message, default=lambda blob: {"blob": base64.b64encode(blob).decode()}).encode()


def _send(message: dict[str, Any]) -> None:
    _write(_encoded(message))


def _write(content: bytes) -> None:
    sys.stdout.buffer.write(len(content).to_bytes(8, "big") + content)
    sys.stdout.buffer.flush()


def _receive() -> dict[str, Any] | None:
    """The next request; None once the other end is closed."""
    header = sys.stdin.buffer.read(8)
    content = sys.stdin.buffer.read(int.from_bytes(header, "big")) if len(header) == 8 else b""
    return json.loads(content) if content else None


if __name__ == "__main__":
    serve()
