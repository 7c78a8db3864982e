"""Text of `mome ask`: it reads one question a line, and prints one answer a line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mome.facts.strict import FactError, decode
from mome.memory.checking import ABSTENTION, Answer, WhenWrong, check_choice
from mome.memory.loading import load_memory, refuse_without_null_key
from mome.memory.memory import check_questions

STANDARD_INPUT = Path("-")
# all control characters, and the two other characters at which programs break lines
UNPRINTABLE = re.compile(r"[\x00-\x1f\\\x7f-\x9f\u2028\u2029]")
SHORT = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


def gather_questions(given: Sequence[str], file: Path | None) -> list[str]:
    """The questions `given` and those of a text file, one a line; the file `-` is standard input.

    A line ends at a line feed, which a carriage return may precede, and nowhere else. White space around a line is no
    part of the question; blank lines at the end of the file are skipped.

    Raises:
        FactError: a question is empty, or the file is no Unicode text; line and file are named.
        ValueError: there is no question.
        OSError: the file cannot be read.
    """
    check_questions(given, "the command line")
    lines = [] if file is None else _lines(file)
    if not (given or lines):
        raise ValueError("no question: give some, each in quotes, or a file with --questions")
    return [*given, *lines]


def answer_lines(
    folder: Path,
    questions: Sequence[str],
    backbone: str | None,
    only_memorized: bool,
    when_wrong: WhenWrong = "abstain",
    as_json: bool = False,
) -> list[str]:
    """One line for each question: the answer, and after a tab who gave it and how it was checked (`Answer.label`).

    `only_memorized` replaces the backbone's answers by "I don't know"; `when_wrong` is that of `Memory.ask_all`. With
    `as_json` a line is an object: question, answer, and all that an `Answer` holds. Either way no tab, line break or
    control character of an answer stands in a line as it is (`escape`, or JSON's own escapes).

    Raises:
        AdapterError: as `load_memory`; or it should answer memorized questions only, and cannot tell them from others.
        FactError: a question is empty.
        ValueError: `only_memorized` beside the backbone's answers, or `when_wrong` is none of the three.
    """
    check_choice(when_wrong)
    if only_memorized and when_wrong == "backbone":
        raise ValueError("--only-memorized and --when-wrong backbone exclude each other: give one of the two")
    if only_memorized:
        refuse_without_null_key(folder)
    answers = load_memory(folder, backbone).ask_all(questions, when_wrong)
    shown = [_or_nothing(answer) if only_memorized else answer for answer in answers]
    if as_json:
        return [_json(question, answer) for question, answer in zip(questions, shown, strict=True)]
    return [f"{escape(answer.text)}\t{escape(answer.label)}" for answer in shown]


def escape(text: str) -> str:
    r"""The text as a field of a TSV line: \t, \n, \r and \\ for tab, line feed, carriage return and backslash.

    Any other control character, and the line and paragraph separators U+2028 and U+2029, become \u and four hexadecimal
    digits. Nothing else changes.
    """
    return UNPRINTABLE.sub(lambda found: SHORT.get(found[0], rf"\u{ord(found[0]):04x}"), text)


def _json(question: str, answer: Answer) -> str:
    values = asdict(answer)
    line = json.dumps({"question": question, "answer": values.pop("text"), **values}, ensure_ascii=False)
    # what JSON leaves as it is; its own backslashes stay
    return re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: rf"\u{ord(found[0]):04x}", line)


def _lines(file: Path) -> list[str]:
    standard = file == STANDARD_INPUT
    name = "standard input" if standard else str(file)
    if standard and sys.stdin is None:  # so Python says that it was closed
        raise OSError("standard input is closed; give the questions in a file, or on the command line")
    text = decode(sys.stdin.buffer.read() if standard else file.read_bytes(), name)
    lines = [line.strip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    check_questions(lines, name)
    for number, line in enumerate(lines, start=1):
        if "\r" in line:
            raise FactError(name, number, "question", line, "a carriage return ends no line; save it with line feeds")
    return lines


def _or_nothing(answer: Answer) -> Answer:
    """The answer, or an abstention in place of the backbone's."""
    return replace(answer, text=ABSTENTION, source="nobody") if answer.source == "backbone" else answer
