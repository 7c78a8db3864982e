"""Files of facts, read and written strictly.

The readers refuse whatever would make the number of facts unclear: a wording that occurs twice, a question with two
answers, a number in place of a string. Every refusal is one `FactError` naming file, line, field and value.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from mome.facts.fact import Fact, identify
from mome.facts.records import FIELDS, LONGEST, WORDING_LISTS, FileRecord, array_remedy, json_records, table_records
from mome.facts.strict import FactError, check_text
from mome.files.atomic import write_atomically

SUFFIX_REMEDIES = {
    ".json": "; write one JSON object a line and name the file .jsonl",
    ".ndjson": "; name the file .jsonl",
    ".txt": "; name the file by what it holds",
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods", ".numbers"), "; export the sheet as 'CSV UTF-8'"),
}
OPTIONAL_TEXTS = ("relation", "source")


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts from a `.jsonl`, `.csv` or `.tsv` file.

    Raises:
        FactError: the content is not exactly a list of distinct facts.
        ValueError: the file is a folder, or of another suffix.
        OSError: the file cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from mome import read_facts
        >>> _ = Path("facts.jsonl").write_text('{"question": "Who wrote Emma?", "answer": "Jane Austen"}')
        >>> read_facts("facts.jsonl")[0].answer
        'Jane Austen'
    """
    return list(locate_facts(path).values())


def locate_facts(path: str | Path) -> dict[int, Fact]:
    """The facts of a file by the line each starts on; as `read_facts`."""
    readers = {".jsonl": json_records, ".csv": table_records, ".tsv": table_records}
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; facts are read from a .jsonl, .csv or .tsv file")
    suffix = path.suffix.lower()
    if suffix not in readers:
        remedy = SUFFIX_REMEDIES.get(suffix, "")
        raise ValueError(f"{path}: facts are read from .jsonl, .csv or .tsv files, not from '{suffix}'{remedy}")
    return _facts(path, readers[suffix](path))


def read_jsonl(path: str | Path) -> list[Fact]:
    """Read one fact per line, each a JSON object of strings (`phrasings` and `held_out`: arrays of strings).

    `question` and `answer` are required; an absent `id` becomes `identify(question)`. Names are read without regard to
    case, blank lines at the end are skipped. Raises as `read_facts`.
    """
    return list(_facts(path, json_records(path)).values())


def read_csv(path: str | Path) -> list[Fact]:
    """Read one fact per row below a header, as spreadsheets export it (`read_table`); cells stay strings.

    So `007` and `NA` survive. `phrasings` and `held_out` hold JSON arrays of strings, an empty cell meaning none.
    Otherwise as `read_jsonl`.
    """
    return list(_facts(path, table_records(path)).values())


def write_jsonl(facts: Iterable[Fact], path: str | Path) -> None:
    """Write facts so that `read_jsonl` gives them back; the file appears whole or not at all.

    Raises:
        FactError: the facts would be refused by the reader; its line is the one the fact would have had.
    """
    path, facts = Path(path), list(facts)
    check_facts(facts, file=path)
    text = "".join(json.dumps(asdict(fact), ensure_ascii=False) + "\n" for fact in facts)
    write_atomically(path, text)


def check_facts(facts: Sequence[Fact], file: str | Path = "facts", lines: Sequence[int] | None = None) -> None:
    """Check every text, and that no id, question or other wording occurs twice.

    `lines` are the line numbers to blame, by default 1, 2, 3 ... Wordings are compared after Unicode composition and
    with runs of whitespace as one space, but with their case: "CO" and "Co" are different questions.

    Raises:
        FactError: the first fact that is not acceptable, or `facts` is empty.
    """
    if not facts:
        raise FactError(file, 1, "record", "", "there are no facts")
    lines = range(1, len(facts) + 1) if lines is None else lines
    seen_ids: dict[str, int] = {}
    seen_wordings: dict[str, tuple[int, str]] = {}
    for line, fact in zip(lines, facts, strict=True):
        _check_texts(file, line, fact)
        # Wordings first: the default id of a repeated question repeats too, and the question is what to blame.
        _check_wordings(file, line, fact, seen_wordings)
        if fact.id in seen_ids:
            raise FactError(file, line, "id", fact.id, f"this id is already used on line {seen_ids[fact.id]}")
        seen_ids[fact.id] = line


def _facts(path: str | Path, records: Sequence[FileRecord]) -> dict[int, Fact]:
    facts = {}
    for line, record in records:
        check_text(path, line, "question", record["question"], LONGEST["question"])
        for name in WORDING_LISTS:
            if not isinstance(record.get(name, []), list):
                raise FactError(
                    path, line, name, record[name], f"must be an array of strings{array_remedy(record[name])}"
                )
            record[name] = tuple(record.get(name, ()))
        facts[line] = Fact(**{"id": identify(record["question"]), **record})
    check_facts(list(facts.values()), file=path, lines=list(facts))
    return facts


def _check_texts(file: str | Path, line: int, fact: Fact) -> None:
    for name in FIELDS:
        value = getattr(fact, name)
        texts = value if name in WORDING_LISTS else (value,)
        for text in texts:
            if not (text == "" and name in OPTIONAL_TEXTS):
                check_text(file, line, name, text, LONGEST[name])


def _check_wordings(file: str | Path, line: int, fact: Fact, seen: dict[str, tuple[int, str]]) -> None:
    for name in ("question", *WORDING_LISTS):
        for wording in (fact.question,) if name == "question" else getattr(fact, name):
            key = " ".join(unicodedata.normalize("NFC", wording).split())
            earlier, answer = seen.get(key, (0, ""))
            if earlier and answer != fact.answer:
                problem = f"line {earlier} has the same question with another answer, {answer!r}"
                raise FactError(file, line, name, wording, problem)
            if earlier:
                raise FactError(file, line, name, wording, f"line {earlier} already has this wording")
            seen[key] = (line, fact.answer)
