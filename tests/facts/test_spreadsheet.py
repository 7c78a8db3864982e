"""Exports of spreadsheets and other programs: read exactly, or refused with the likely cause."""

import re
from pathlib import Path

import pytest

from mome.facts.fact import Fact, identify
from mome.facts.readers import read_facts
from mome.facts.strict import FactError

FACT = Fact(identify("Where is Łódź; on a map?"), "Where is Łódź; on a map?", "in Poland, \u201ccentral\u201d 51.8°N")
CELLS = ["Where is Łódź; on a map?", "in Poland, \u201ccentral\u201d 51.8°N"]


def table(separator: str, header: tuple[str, ...] = ("question", "answer"), end: str = "\r\n", more: int = 0) -> str:
    """One row as a spreadsheet writes it: quoted where needed, every row as wide as the widest."""
    rows = [[*header, *[""] * more], [f'"{cell}"' if set(cell) & set(",;") else cell for cell in CELLS] + [""] * more]
    return "".join(separator.join(row) + end for row in rows)


EXPORTS = {
    "commas": table(",").encode(),
    "semicolons, with a mark": table(";").encode("utf-8-sig"),
    "tabs, Excel's Unicode text": table("\t").encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + table(",").encode("utf-16-be"),
    "UTF-32": table(";").encode("utf-32"),
    "bars": table("|", end="\n").encode(),
    "old Mac's line ends": table(",", end="\r").encode(),
    "stated separator": ("sep=;\r\n" + table(";")).encode("utf-8-sig"),
    "stated separator, a row wide": ("sep=,,,\r\n" + table(",", more=2)).encode(),
    "header in capitals and spaces": table(",", (" Question", "ANSWER ")).encode(),
    "quoted header": table(";", ('"question"', '"answer"')).encode(),
    "empty columns": table(",", more=3).encode(),
    "empty column before": "".join("," + line for line in table(",").splitlines(keepends=True)).encode(),
    "cells beyond a short header": table(",").replace('\u201d 51.8°N"', '\u201d 51.8°N",,').encode(),
    "empty rows at the end": (table(";") + ";\r\n;\r\n\r\n").encode(),
    "blank lines at the end": (table(",", end="\n") + "\n  \n").encode(),
    "no last line end": table(",").removesuffix("\r\n").encode(),
}


@pytest.mark.parametrize("suffix", [".csv", ".TSV"])
@pytest.mark.parametrize("data", EXPORTS.values(), ids=EXPORTS)
def test_exports_are_read_exactly(tmp_path: Path, data: bytes, suffix: str) -> None:
    (tmp_path / f"facts{suffix}").write_bytes(data)
    assert read_facts(tmp_path / f"facts{suffix}") == [FACT]


def test_all_columns_are_found_by_their_names_in_any_case_and_order(tmp_path: Path) -> None:
    rows = 'Held out;ID;Answer;Phrasings;Question\n"[""R?""]";7;a;"[""P?""]";Q?\n;8;b;;S?\n'
    (tmp_path / "facts.csv").write_text(rows)
    assert read_facts(tmp_path / "facts.csv") == [Fact("7", "Q?", "a", ("P?",), ("R?",)), Fact("8", "S?", "b")]


def test_rows_after_a_stated_separator_are_counted_from_it(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text("sep=;\nquestion;answer\nQ?;a\nP?; b\n")
    with pytest.raises(FactError, match="line 4, field 'answer'"):
        read_facts(tmp_path / "facts.csv")


JSON_LINE = '{"question": "Wo?", "answer": "im Flo\u00df"}'
JSON_LINES = {
    "mark": JSON_LINE.encode("utf-8-sig"),
    "UTF-16": (JSON_LINE + "\r\n").encode("utf-16"),
    "old Mac's line ends": (JSON_LINE + "\r").encode(),
    "blank lines at the end": (JSON_LINE + "\r\n\r\n \n").encode(),
    "names in capitals": JSON_LINE.replace("question", "Question").replace("answer", "ANSWER").encode(),
}


@pytest.mark.parametrize("data", JSON_LINES.values(), ids=JSON_LINES)
def test_json_lines_of_other_programs_are_read_exactly(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "facts.JSONL").write_bytes(data)
    assert read_facts(tmp_path / "facts.JSONL") == [Fact(identify("Wo?"), "Wo?", "im Flo\u00df")]


INVISIBLE = [
    "\u200bdb1",
    "db1\ufeff",
    "\u200f\u05d0\u05e8\u05d5\u05df 3\u200f",
    "12\u00a0000\u202f\u20ac",
    "a\u2028b",
    "\u2764\ufe0f",
]


@pytest.mark.parametrize("answer", INVISIBLE)
def test_invisible_characters_are_kept(tmp_path: Path, answer: str) -> None:
    (tmp_path / "facts.csv").write_text(f"question,answer\nQ?,{answer}\n", encoding="utf-8")
    assert read_facts(tmp_path / "facts.csv")[0].answer == answer


def test_invisible_white_space_at_an_edge_is_refused_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "facts.csv").write_text("question,answer\nQ?,\u00a0db1\u3000\n", encoding="utf-8")
    with pytest.raises(FactError, match=re.escape("whitespace (U+00A0 and U+3000)")):
        read_facts(tmp_path / "facts.csv")


ENCODINGS = {
    "Windows-1252": (
        "question,answer\r\nWo?,Stra\u00dfe 7\r\n".encode("cp1252"),
        2,
        "where this byte is",
    ),
    "cut off": ("question,answer\nWo?,Stra\u00df".encode()[:-1], 2, "cut off"),
    "UTF-16 without a mark": ("question,answer\nWhere?,here\n".encode("utf-16-le"), 1, "without a byte order mark"),
    "cut UTF-16": ("question,answer\nWhere?,here".encode("utf-16")[:-1], 2, "cut off"),
    "workbook": (b"PK\x03\x04\x14\0", 1, "a workbook of Excel"),
    "compressed": (b"\x1f\x8b\x08\0", 1, "gzip"),
}


@pytest.mark.parametrize("name", ["facts.csv", "facts.jsonl"])
@pytest.mark.parametrize(("data", "line", "cause"), ENCODINGS.values(), ids=ENCODINGS)
def test_what_is_no_unicode_text_is_refused_with_its_cause(
    tmp_path: Path, data: bytes, line: int, cause: str, name: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(FactError, match=r"save|export|cut off") as caught:
        read_facts(tmp_path / name)
    assert (caught.value.line, caught.value.field) == (line, "encoding") and cause in caught.value.problem


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("facts.parquet", "not from '.parquet'"),
        ("facts.XLSX", "export the sheet as 'CSV UTF-8'"),
        ("facts.json", "one JSON object a line"),
        ("-", "not from ''"),
    ],
)
def test_other_suffixes_are_refused_with_the_remedy(tmp_path: Path, name: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)):
        read_facts(tmp_path / name)
