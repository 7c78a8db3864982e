"""Strict reading: Unicode text, CSV rows and JSON with exactly one meaning; all else is refused with its place.

Every refusal is one `FactError` naming file, line, field and value, and the likely cause where there is one.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

LINE_END = re.compile(r"\r\n|\r|\n")
# the mark of UTF-32 starts with that of UTF-16
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
NOT_TEXT = {
    b"PK\x03\x04": "a workbook of Excel or LibreOffice (or another zip file)",
    b"\xd0\xcf\x11\xe0": "a workbook of an old Excel",
    b"\x1f\x8b": "a gzip file",
    b"%PDF": "a PDF file",
}
NOT_CHARACTERS = re.compile("[\0\ud800-\udfff]")
SEPARATOR = re.compile(r"\s*(?:,\s*+(?!\])|(?=\]))")  # of array elements; a comma before "]" is no JSON


class FactError(ValueError):
    """Bad input, located: `file`, `line` (1-based), `field`, `value` and the `problem` are attributes."""

    def __init__(self, file: str | Path, line: int, field: str, value: object, problem: str) -> None:
        super().__init__(file, line, field, value, problem)
        self.file, self.line, self.field, self.value, self.problem = str(file), line, field, value, problem

    def __str__(self) -> str:
        shown = repr(self.value)
        shown = shown if len(shown) <= 80 else f"{shown[:60]}... (shortened)"
        return f"{self.file}, line {self.line}, field {self.field!r}, value {shown}: {self.problem}"


def check_text(file: str | Path, line: int, field: str, value: object, longest: int) -> None:
    """Refuse what is not a non-empty string of at most `longest` characters without outer whitespace or NUL."""
    if not isinstance(value, str):
        raise FactError(file, line, field, value, f"must be a string, not {type(value).__name__}")
    bare = value.strip()
    if bare and bare == value and len(value) <= longest and not NOT_CHARACTERS.search(value):
        return  # as nearly all are: shipped facts have 90,000 texts
    problems = (
        (not bare, "must not be empty"),
        (value != bare, f"must not start or end with whitespace ({_outer_space(value)})"),
        ("\0" in value, "must not contain a NUL character"),
        (any("\ud800" <= letter <= "\udfff" for letter in value), "half a surrogate pair is not a character"),
        (len(value) > longest, f"{len(value):,} characters, at most {longest:,} are allowed"),
    )
    for refused, problem in problems:
        if refused:
            raise FactError(file, line, field, value, problem)


def _outer_space(text: str) -> str:
    outer = (text[:1], text[-1:])
    return " and ".join(dict.fromkeys(f"U+{ord(letter):04X}" for letter in outer if letter.isspace()))


def read_text(path: str | Path) -> str:
    """The text of a file, as `decode` gives it; raises FactError or OSError."""
    return decode(Path(path).read_bytes(), path)


def decode(data: bytes, name: str | Path) -> str:
    """The text of `data`: UTF-8, or what a byte order mark at its start names (UTF-8, 16 or 32); the mark is dropped.

    Raises:
        FactError: `data`, from the file `name`, is no such text; the problem names the likely cause.
    """
    for start, kind in NOT_TEXT.items():
        if data.startswith(start):
            raise FactError(name, 1, "encoding", start, f"this is {kind}, no text; export it as 'CSV UTF-8'")
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS.get(mark, "utf-8")
    if not mark and 4 * data.count(0) > len(data):
        raise FactError(
            name, 1, "encoding", data[:8], "looks like UTF-16 without a byte order mark; save it as 'CSV UTF-8'"
        )
    try:
        return data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        before = data[len(mark) :][: error.start].decode(encoding, "replace")
        broken, place = error.object[error.start : error.end], len(mark) + error.start
        problem = f"not {encoding.upper()} at byte {place} of the file ({error.reason}); {_other_encoding(error)}"
        raise FactError(name, len(LINE_END.findall(before)) + 1, "encoding", broken, problem) from error


def _other_encoding(error: UnicodeDecodeError) -> str:
    """What is probably wrong with bytes that are not what they should be, and the remedy."""
    if error.end == len(error.object) and error.reason in ("unexpected end of data", "truncated data"):
        return "the file ends in the middle of a character: it was cut off"
    remedy = "save the file as 'CSV UTF-8', or as UTF-8 text"
    try:
        letter = error.object[error.start : error.start + 1].decode("cp1252")
    except UnicodeDecodeError:
        return f"it looks like another encoding: {remedy}"
    return f"it looks like another encoding, such as Windows-1252, where this byte is {letter!r}: {remedy}"


def read_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file as (line the row starts on, cells); raises `FactError` for a blank or broken row."""
    for line, cells in parse_rows(read_text(path), path):
        if not cells:
            raise FactError(path, line, "record", "", "blank line")
        yield line, cells


def parse_rows(
    text: str, path: str | Path, separator: str = ",", first_line: int = 1
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of CSV `text` as (line, cells), no cells for a blank line; raises `FactError` for a broken row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    lines = LINE_END.split(text)
    while True:
        line = reader.line_num
        try:
            cells = next(reader, None)
        except csv.Error as error:
            shown = lines[line] if line < len(lines) else ""
            raise FactError(path, line + first_line, "record", shown, f"broken CSV: {_csv_cause(error)}") from error
        if cells is None:
            return
        yield line + first_line, cells


def _csv_cause(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quotation mark opens a cell here and nothing closes it"
    if "expected after" in str(error):
        return f"{error}; inside a quoted cell a quotation mark is written twice"
    return str(error)


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
