"""Strict reading: UTF-8 text, CSV rows and JSON that either mean exactly one thing or are refused with a location.

Every refusal is one `FactError` naming file, line, field and value.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

BYTE_ORDER_MARK = "\ufeff"
SEPARATOR = re.compile(r"\s*(?:,\s*+(?!\])|(?=\]))")  # of array elements; a comma before "]" is no JSON


class FactError(ValueError):
    """Bad input, located: `file`, `line` (1-based), `field`, `value` and the `problem` are attributes."""

    def __init__(self, file: str | Path, line: int, field: str, value: object, problem: str) -> None:
        super().__init__(file, line, field, value, problem)
        self.file, self.line, self.field, self.value, self.problem = str(file), line, field, value, problem

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else f"{shown[:60]}... (shortened)"
        return f"{self.file}, line {self.line}, field '{self.field}', value {shown}: {self.problem}"


def check_text(file: str | Path, line: int, field: str, value: object, longest: int) -> None:
    """Refuse what is not a non-empty string of at most `longest` characters without outer whitespace or NUL."""
    if not isinstance(value, str):
        raise FactError(file, line, field, value, f"must be a string, not {type(value).__name__}")
    problems = (
        (not value.strip(), "must not be empty"),
        (value != value.strip(), "must not start or end with whitespace"),
        ("\0" in value, "must not contain a NUL character"),
        (any("\ud800" <= letter <= "\udfff" for letter in value), "half a surrogate pair is not a character"),
        (len(value) > longest, f"{len(value):,} characters, at most {longest:,} are allowed"),
    )
    for refused, problem in problems:
        if refused:
            raise FactError(file, line, field, value, problem)


def read_text(path: str | Path, byte_order_mark: bool = False) -> str:
    """The UTF-8 text of a file; a leading byte order mark is dropped if allowed, else refused with `FactError`."""
    data = Path(path).read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"not UTF-8 at byte {error.start} of the file ({error.reason})"
        raise FactError(path, line, "encoding", data[error.start : error.end], problem) from error
    if text.startswith(BYTE_ORDER_MARK) and not byte_order_mark:
        raise FactError(path, 1, "encoding", BYTE_ORDER_MARK, "a byte order mark is not allowed here")
    return text.removeprefix(BYTE_ORDER_MARK)


def read_rows(path: str | Path, byte_order_mark: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file as (line the row starts on, cells); raises `FactError` for a blank or broken row."""
    reader = csv.reader(io.StringIO(read_text(path, byte_order_mark), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise FactError(path, line, "record", "", f"broken CSV: {error}") from error
        if cells is None:
            return
        if not cells:
            raise FactError(path, line, "record", "", "blank line")
        yield line, cells


def parse_json(text: str, path: str | Path, line: int, field: str) -> Any:
    """Parse JSON, refusing with `FactError` what is malformed, blank or has an object with a key that occurs twice."""
    if not text.strip():
        raise FactError(path, line, field, text, "blank line")
    with _json_errors(path, line, field, text):
        return json.loads(text, object_pairs_hook=partial(_unique, path, line))


def read_json_array(path: str | Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of a file that holds one JSON array as (line the element starts on, element)."""
    text = read_text(path)
    opening = re.match(r"\s*\[\s*", text)
    if opening is None:
        raise FactError(path, 1, "record", text[:100], "the file must hold one JSON array")
    position = opening.end()
    while not text.startswith("]", position):
        line = text.count("\n", 0, position) + 1
        decoder = json.JSONDecoder(object_pairs_hook=partial(_unique, path, line))
        with _json_errors(path, line, "record", text[position : position + 100]):
            element, position = decoder.raw_decode(text, position)
        yield line, element
        separator = SEPARATOR.match(text, position)
        if separator is None:
            raise FactError(path, line, "record", element, "another element or the array's end must follow this one")
        position = separator.end()
    if text[position + 1 :].strip():
        raise FactError(path, text.count("\n", 0, position) + 1, "record", text[position:], "text after the array")


@contextmanager
def _json_errors(path: str | Path, line: int, field: str, text: str) -> Iterator[None]:
    try:
        yield
    except FactError:
        raise
    except json.JSONDecodeError as error:
        raise FactError(path, line, field, text, f"not valid JSON: {error.msg} at character {error.pos}") from error
    except (ValueError, RecursionError) as error:
        raise FactError(path, line, field, text, f"not readable JSON: {error}") from error


def _unique(path: str | Path, line: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise FactError(path, line, key, value, "this key occurs twice in one JSON object")
        found[key] = value
    return found
