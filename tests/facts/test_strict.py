"""Strict reading: each bad input is refused with file, line, field and value; strings stay strings."""

import json
from pathlib import Path

import pytest

from mome.facts.fact import Fact
from mome.facts.readers import read_facts
from mome.facts.strict import FactError

GOOD = '{"question": "Capital of France?", "answer": "Paris"}\n'
HEADER = "question,answer,phrasings,held_out\n"


def line_of(**record: object) -> str:
    return json.dumps({"question": "Capital of Peru?", "answer": "Lima"} | record) + "\n"


# name -> (content, line, field, part of the value, part of the problem)
BAD_JSONL = {
    "unknown field": (GOOD + line_of(anwser="Lima"), 2, "anwser", "Lima", "unknown field"),
    "missing question": ('{"answer": "Lima"}\n', 1, "question", "None", "missing"),
    "missing answer": (GOOD + '{"question": "Capital of Peru?"}\n', 2, "answer", "None", "missing"),
    "duplicate key": ('{"question": "Q?", "answer": "a", "answer": "b"}\n', 1, "answer", "b", "occurs twice"),
    "answer is a number": (GOOD + line_of(answer=7), 2, "answer", "7", "must be a string, not int"),
    "answer is a boolean": (line_of(answer=True), 1, "answer", "True", "must be a string, not bool"),
    "answer is null": (line_of(answer=None), 1, "answer", "None", "must be a string, not NoneType"),
    "answer is a list": (line_of(answer=["Lima"]), 1, "answer", "Lima", "must be a string, not list"),
    "question is a number": (line_of(question=7), 1, "question", "7", "must be a string"),
    "relation is a number": (line_of(relation=7), 1, "relation", "7", "must be a string"),
    "id is a number": (line_of(id=7), 1, "id", "7", "must be a string"),
    "phrasings is a string": (line_of(phrasings="Peru?"), 1, "phrasings", "Peru?", "array of strings"),
    "phrasings holds a number": (line_of(phrasings=["Peru?", 7]), 1, "phrasings", "7", "must be a string"),
    "held_out holds a list": (line_of(held_out=[["Peru?"]]), 1, "held_out", "Peru?", "must be a string"),
    "empty answer": (GOOD + line_of(answer=""), 2, "answer", "''", "must not be empty"),
    "empty id": (line_of(id=""), 1, "id", "''", "must not be empty"),
    "blank question": (line_of(question=" \t"), 1, "question", " \\t", "must not be empty"),
    "blank source": (line_of(source="  "), 1, "source", "  ", "must not be empty"),
    "empty phrasing": (line_of(phrasings=[""]), 1, "phrasings", "''", "must not be empty"),
    "leading space": (line_of(answer=" Lima"), 1, "answer", " Lima", "start or end with whitespace"),
    "trailing line feed": (line_of(question="Q?\n"), 1, "question", "Q?\\n", "start or end with whitespace"),
    "over-long question": (line_of(question="x" * 2001), 1, "question", "xxx", "2,001 characters, at most 2,000"),
    "over-long answer": (line_of(answer="x" * 1001), 1, "answer", "xxx", "1,001 characters, at most 1,000"),
    "over-long held-out": (line_of(held_out=["x" * 2001]), 1, "held_out", "xxx", "2,001 characters"),
    "NUL": (line_of(answer="Li\0ma"), 1, "answer", "Li\\x00ma", "NUL"),
    "lone surrogate": (line_of(answer="Li\ud800ma"), 1, "answer", "Li\\ud800ma", "surrogate"),
    "blank line": (GOOD + "\n" + line_of(), 2, "record", "''", "blank line"),
    "array over several lines": ("[\n" + GOOD + "]\n", 1, "record", "[", "one object a line"),
    "object over several lines": ('{\n"question": "Q?",\n"answer": "a"}\n', 1, "record", "{", "stand on one line"),
    "comma after an object": (GOOD.strip() + ",\n" + GOOD, 1, "record", "Paris", "no comma may follow"),
    "CSV": ("question,answer\nQ?,a\n", 1, "record", "question,answer", "name the file .csv"),
    "a name in two cases": ('{"question": "Q?", "answer": "a", "Answer": "b"}\n', 1, "Answer", "b", "there twice"),
    "broken JSON": (GOOD + '{"question": "Q?"\n', 2, "record", "Q?", "not valid JSON"),
    "two objects on a line": (GOOD.strip() + line_of(), 1, "record", "France", "not valid JSON"),
    "array": ('["Q?", "a"]\n', 1, "record", "Q?", "one JSON object"),
    "endless nesting": ("[" * 100_000 + "\n", 1, "record", "[[[", "JSON"),
    "endless number": (GOOD + '{"answer": ' + "7" * 5_000 + "}\n", 2, "record", "777", "JSON"),
    "second byte order mark": ("\ufeff\ufeff" + GOOD, 1, "record", "\\ufeff", "not valid JSON"),
    "duplicate id": (line_of(id="a") + line_of(id="a", question="Q?"), 2, "id", "a", "already used on line 1"),
    "duplicate question": (GOOD + line_of() + GOOD, 3, "question", "France", "line 1 already has"),
    "duplicate question, own ids": (line_of(id="a") + line_of(id="b"), 2, "question", "Peru", "line 1 already has"),
    "two answers": (line_of(id="a") + line_of(id="b", answer="Cusco"), 2, "question", "Peru", "another answer, 'Lima'"),
    "same question, other spaces": (line_of() + line_of(question="Capital  of Peru?"), 2, "question", "  ", "line 1"),
    "same question, other accents": (
        line_of(question="Who is Ren\u00e9?") + line_of(question="Who is Rene\u0301?"),
        2,
        "question",
        "Who is",
        "line 1 already has",
    ),
    "phrasing repeats own question": (line_of(phrasings=["Capital of Peru?"]), 1, "phrasings", "Peru", "already has"),
    "held-out repeats a phrasing": (line_of(phrasings=["P?"], held_out=["P?"]), 1, "held_out", "P?", "already has"),
    "phrasing of another fact": (GOOD + line_of(phrasings=["Capital of France?"]), 2, "phrasings", "France", "'Paris'"),
    "no facts": ("", 1, "record", "''", "no facts"),
}

BAD_CSV = {
    "unknown column": ("question,answer,anwser\nQ?,a,b\n", 1, "anwser", "''", "unknown field"),
    "missing column": ("question\nQ?\n", 1, "answer", "None", "missing"),
    "duplicate column": ("question,answer,answer\nQ?,a,b\n", 1, "answer", "answer", "twice in the header"),
    "too few cells": (HEADER + "Q?,a,,\nP?,b\n", 3, "record", "P?", "2 cells, but the header has 4"),
    "too many cells": (HEADER + "Q?,a,,,x\n", 2, "record", "x", "5 cells, but the header has 4"),
    "blank line": (HEADER + "Q?,a,,\n\nP?,b,,\n", 3, "record", "''", "blank line"),
    "empty answer": (HEADER + "Q?,,,\n", 2, "answer", "''", "must not be empty"),
    "line number after a line feed in a cell": (HEADER + '"Q\n?",a,,\nP?, b,,\n', 4, "answer", " b", "whitespace"),
    "phrasings not JSON": (HEADER + "Q?,a,one|two,\n", 2, "phrasings", "one|two", "not valid JSON"),
    "phrasings not an array": (HEADER + 'Q?,a,"""P?""",\n', 2, "phrasings", "P?", "array of strings"),
    "held_out holds a number": (HEADER + "Q?,a,,[7]\n", 2, "held_out", "7", "must be a string"),
    "blank list": (HEADER + "Q?,a, ,\n", 2, "phrasings", "' '", "blank"),
    "open quote": (HEADER + 'Q?,"a,,\n', 2, "record", 'Q?,"a,,', "broken CSV: a quotation mark opens"),
    "text after a quote": (HEADER + '"Q"?,a,,\n', 2, "record", '"Q"?,a', "broken CSV"),
    "backslash before a quote": (HEADER + '"a \\"b\\" c?",a,,\n', 2, "record", "a ", "mark is written twice"),
    "huge cell": (HEADER + "x" * 200_000 + ",a,,\n", 2, "record", "xxx", "broken CSV"),
    "comma in a cell": ("question,answer\nWhere, then?,a\n", 2, "record", "then?", "a comma must stand in quotation"),
    "semicolon in a cell": ("question;answer\nP?;b;c\n", 2, "record", "P?", "a semicolon must stand in quotation"),
    "row of another separator": ("question;answer\nP?;a\nQ?,b\n", 3, "record", "Q?,b", "seems to be by commas"),
    "phrasings joined by a bar": (HEADER + "Q?,a,One?|Two?,\n", 2, "phrasings", "One?|", 'write ["One?", "Two?"]'),
    "invisible character in a name": ("\ufeff\ufeffquestion,answer\nQ?,a\n", 1, "\ufeffquestion", "''", "an invisible"),
    "name in two forms": (
        "question,answer,Held out,held_out\nQ?,a,,\n",
        1,
        "held_out",
        "held_out",
        "twice in the head",
    ),
    "no header": ("Where?,here\n", 1, "Where?", "''", "the first line names the columns, such as question,answer"),
    "JSON": (GOOD, 1, '{"question": "Capital of France?"', "''", "name the file .jsonl"),
    "a line break in a name": ('"question\n(text)",answer\nQ?,a\n', 1, "question\n(text)", "''", "unknown field"),
    "cell in a nameless column": (",question,answer\n0,Q?,a\n", 2, "column 1", "'0'", "no name"),
    "cell behind the last column": ("question,answer,,\nQ?,a,,see\n", 2, "column 4", "see", "no name"),
    "empty row between rows": ("question,answer\nQ?,a\n,\nP?,b\n", 3, "record", "','", "blank line"),
    "NUL": (HEADER + "Q?,a\0b,,\n", 2, "answer", "a\\x00b", "NUL"),
    "two answers": (HEADER + "Q?,a,,\nQ?,b,,\n", 3, "question", "Q?", "another answer, 'a'"),
    "two answers, own ids": ("id,question,answer\n1,Q?,a\n2,Q?,b\n", 3, "question", "Q?", "another answer, 'a'"),
    "empty file": ("", 1, "question", "None", "missing"),
    "no facts": (HEADER, 1, "record", "''", "no facts"),
}

BAD = [pytest.param("facts.jsonl", *case, id=f"jsonl: {name}") for name, case in BAD_JSONL.items()]
BAD += [pytest.param("facts.csv", *case, id=f"csv: {name}") for name, case in BAD_CSV.items()]


@pytest.mark.parametrize(("file", "content", "line", "field", "value", "problem"), BAD)
def test_bad_input_names_file_line_field_and_value(
    tmp_path: Path, file: str, content: str, line: int, field: str, value: str, problem: str
) -> None:
    path = tmp_path / file
    path.write_bytes(content.encode())
    with pytest.raises(FactError) as caught:
        read_facts(path)
    error = caught.value
    assert (error.file, error.line, error.field) == (str(path), line, field)
    assert value in repr(error.value)
    assert problem in error.problem
    message = str(error)
    assert message.startswith(f"{path}, line {line}, field {field!r}, value ") and message.isprintable()
    assert len(message) < len(str(path)) + 300


@pytest.mark.parametrize("file", ["facts.jsonl", "facts.csv"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_refused_with_their_place(tmp_path: Path, file: str, encoding: str) -> None:
    path = tmp_path / file
    path.write_bytes(b"first line\n" + "caf\u00e9".encode(encoding))
    with pytest.raises(FactError, match=r"line 2, field 'encoding'.*not UTF-8 at byte 1[14] ") as caught:
        read_facts(path)
    assert isinstance(caught.value.value, bytes)


def test_folders_and_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder"):
        read_facts(tmp_path)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_facts(tmp_path / "absent.jsonl")


TRICKY = [
    "007",
    "NA",
    "null",
    "1_000",
    "None",
    "nan",
    "TRUE",
    "1e5",
    "-0",
    "3.10",
    "2024-01-01",
    "=1+1",
    "#N/A",
    "\u0663",
]


@pytest.mark.parametrize("answer", TRICKY)
def test_strings_stay_strings(tmp_path: Path, answer: str) -> None:
    (tmp_path / "facts.csv").write_text(f"question,answer\nQ?,{answer}\n", encoding="utf-8")
    (tmp_path / "facts.jsonl").write_text(line_of(question="Q?", answer=answer), encoding="utf-8")
    assert [fact.answer for fact in read_facts(tmp_path / "facts.csv")] == [answer]
    assert read_facts(tmp_path / "facts.csv") == read_facts(tmp_path / "facts.jsonl")


def test_csv_as_excel_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    row = '"Capital, of Peru?",Lima,"[""Peru\'s capital?"", ""Where?""]",,k1\r\n'
    path.write_bytes(b"\xef\xbb\xbfquestion,answer,phrasings,held_out,id\r\n" + row.encode())
    assert read_facts(path) == [Fact("k1", "Capital, of Peru?", "Lima", ("Peru's capital?", "Where?"))]
