"""The questions, passages and lines of data/measures, read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mome.facts.strict import LINE_END, FactError, check_text, parse_json, read_text
from mome.files.environment import repository_root

LONGEST = 5_000


@dataclass(frozen=True, slots=True)
class Item:
    """A question, passage or line, with the answers that count as right where there are any.

    `fact` is the id of the shipped fact that a wording asks for; `source` says where the item comes from.
    """

    id: str
    text: str
    answers: tuple[str, ...] = ()
    fact: str = ""
    source: str = ""


def read_items(path: str | Path, name: str, others: Sequence[str] = ()) -> list[Item]:
    """Read a file with a JSON object a line, which holds `id`, the field `name` and `others`, and nothing else.

    Args:
        path: the file.
        name: the field that holds an item's text.
        others: of `answers` (an array of strings), `fact` and `source`, those that every line has.

    Raises:
        FactError: a line holds something else, or an id or text that an earlier line has; or there are no lines.
        OSError: the file cannot be read.
    """
    lines = LINE_END.split(read_text(path).rstrip())
    items: list[Item] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        record = parse_json(line, path, number, "record")
        _check(path, number, record, ("id", name, *others))
        for field in ("id", name):
            key = f"{field} {record[field]}"
            if key in seen:
                raise FactError(path, number, field, record[field], f"line {seen[key]} already has it")
            seen[key] = number
        values = {**record, "answers": tuple(record.get("answers", ()))}
        items.append(Item(text=values.pop(name), **values))
    return items


def _check(path: str | Path, line: int, record: Any, fields: Sequence[str]) -> None:
    """Refuse a record that has not exactly these fields, or a field that is no text."""
    if not isinstance(record, Mapping):
        raise FactError(path, line, "record", record, "a line must hold one JSON object")
    for field in sorted({*record, *fields}):
        if (field in record) != (field in fields):
            problem = "this field is missing" if field in fields else f"unknown field; there are {', '.join(fields)}"
            raise FactError(path, line, field, record.get(field), problem)
    for field in fields:
        texts = record[field] if field == "answers" else [record[field]]
        if not isinstance(texts, list) or not texts:
            raise FactError(path, line, field, texts, "must be an array with at least one string")
        for text in texts:
            check_text(path, line, field, text, LONGEST)


def known_questions() -> list[Item]:
    """162 questions that SmolLM2-135M-Instruct (Q4_1) answered rightly under three prompts when they were chosen.

    Asked among other questions, a batch rounds otherwise, and 1 in 100 answers differs: measure before, too.
    """
    return read_items(_shipped("known_questions"), "question", ("answers", "source"))


def unrelated_questions() -> list[Item]:
    """300 everyday questions without a tie to a shipped relation."""
    return read_items(_shipped("unrelated_questions"), "question")


def passages() -> list[Item]:
    """300 passages of LAMBADA (Paperno et al. 2016), whose last word is to be predicted."""
    return read_items(_shipped("lambada"), "text")


def wordings_by_hand() -> list[Item]:
    """200 questions and requests about facts of data/facts/unknown.jsonl, each with the id of its `fact`."""
    return read_items(_shipped("handwritten_wordings"), "question", ("fact",))


def small_talk() -> list[Item]:
    """200 lines that people write to a chat assistant: greetings, thanks, requests."""
    return read_items(_shipped("small_talk"), "text")


def _shipped(name: str) -> Path:
    return repository_root() / "data" / "measures" / f"{name}.jsonl"
