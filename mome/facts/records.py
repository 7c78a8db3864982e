"""Records of facts in files: the names of their fields, and the likely cause where a file is something else."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from mome.facts.spreadsheet import read_table
from mome.facts.strict import LINE_END, FactError, parse_json, read_text

LONGEST = {
    "id": 200,
    "question": 2_000,
    "answer": 1_000,
    "phrasings": 2_000,
    "held_out": 2_000,
    "relation": 200,
    "source": 1_000,
}
FIELDS = tuple(LONGEST)
NEEDED = ("question", "answer")
WORDING_LISTS = ("phrasings", "held_out")

FileRecord = tuple[int, dict[str, Any]]  # the line it starts on, its values by the names of fields


def json_records(path: str | Path) -> list[FileRecord]:
    """The records of a file with a JSON object a line; line ends of any kind, blank lines at the end are skipped.

    Raises:
        FactError: a line is something else, or names a field that there is not, or not what is needed.
        OSError: the file cannot be read.
    """
    lines = LINE_END.split(read_text(path))
    while lines and not lines[-1].strip():
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = parse_json(line, path, number, "record")
        except FactError as error:
            cause = _json_cause(line) if error.field == "record" else ""
            raise FactError(path, number, error.field, error.value, f"{error.problem}{cause}") from error
        if not isinstance(record, dict):
            raise FactError(path, number, "record", line, f"a line must hold one JSON object{_json_cause(line)}")
        records.append((number, _named(path, number, record)))
    return records


def _json_cause(line: str) -> str:
    """The likely cause why a line is not one JSON object."""
    start, end = line.strip()[:1], line.strip()[-1:]
    if start == "[":
        return "; this file holds a JSON array: write one object a line"
    if start == "{" and end == ",":
        return "; no comma may follow an object"
    if start == "{" and end != "}":
        return "; an object must stand on one line"
    return "; if this is CSV, name the file .csv" if start.isalpha() or start == '"' else ""


def table_records(path: str | Path) -> list[FileRecord]:
    """The records of a CSV file as a spreadsheet exports it (`read_table`), its JSON arrays read; raises as above."""
    first, header, rows = read_table(path, NEEDED, _field_name)
    try:
        _named(path, first, dict.fromkeys(header, ""))
    except FactError as error:
        problem = f"{error.problem}; the first line names the columns, such as {','.join(NEEDED)}"
        raise FactError(path, first, error.field, error.value, problem) from error
    names = [_field_name(name) for name in header]
    return [(line, _open_lists(path, line, dict(zip(names, row, strict=True)))) for line, row in rows]


def _open_lists(path: str | Path, line: int, record: dict[str, str]) -> dict[str, Any]:
    return record | {
        name: _open_list(path, line, name, record[name]) if record[name] else []
        for name in WORDING_LISTS
        if name in record
    }


def _open_list(path: str | Path, line: int, name: str, cell: str) -> Any:
    try:
        return parse_json(cell, path, line, name)
    except FactError as error:
        raise FactError(path, line, name, cell, f"{error.problem}{array_remedy(cell)}") from error


def array_remedy(value: object) -> str:
    """The array that a text stands for, as it would be written: wordings are often joined by a bar or a semicolon."""
    if not isinstance(value, str) or value.lstrip().startswith(("[", '"')):
        return ""
    texts = [part.strip() for part in re.split(r"[|;\r\n]", value) if part.strip()]
    array = json.dumps(texts, ensure_ascii=False)
    return f"; write {array} (a spreadsheet's CSV doubles the quotation marks)" if texts else ""


@lru_cache(maxsize=100)  # a file has a few names, and thousands of records with them
def _field_name(name: str) -> str:
    """The name of a field as it is compared: without regard to case, outer spaces, and how its words are joined."""
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()


def _named(path: str | Path, line: int, record: dict[str, Any]) -> dict[str, Any]:
    """The record by the names of fields, none of them unknown, twice there or missing."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        field = _field_name(name)
        if field not in FIELDS:
            cause = "; this looks like JSON: name the file .jsonl" if name.startswith("{") else ""
            cause = cause if name.isprintable() else "; the name holds an invisible character"
            raise FactError(path, line, name, value, f"unknown field; the fields are {', '.join(FIELDS)}{cause}")
        if field in found:
            raise FactError(path, line, name, value, f"the field '{field}' is there twice")
        found[field] = value
    for name in NEEDED:
        if name not in found:
            raise FactError(path, line, name, None, "this field is missing")
    return found
