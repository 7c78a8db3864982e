"""Facts: what they are, how they are read and written strictly, and how they are randomized and split.

A fact is one question with one answer. Everything downstream (tuning, recall, splits) counts facts, never rows or
phrasings, so the readers refuse whatever would blur that count: a wording that occurs twice, a question with two
answers, a number where a string is due. Every refusal is one `FactError` naming file, line, field and value.
"""

import hashlib
import itertools
import json
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy

from mome.facts.records import FIELDS, LONGEST, WORDING_LISTS, Record, array_remedy, json_records, table_records
from mome.facts.strict import FactError, check_text

__all__ = [
    "LONGEST",
    "Fact",
    "FactError",
    "check_facts",
    "identify",
    "locate_facts",
    "randomize",
    "read_csv",
    "read_facts",
    "read_jsonl",
    "shuffle_answers",
    "split",
    "write_jsonl",
]

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
SUFFIX_REMEDIES = {
    ".json": "; write one JSON object a line and name the file .jsonl",
    ".ndjson": "; name the file .jsonl",
    ".txt": "; name the file by what it holds",
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods", ".numbers"), "; export the sheet as 'CSV UTF-8'"),
}
OPTIONAL_TEXTS = ("relation", "source")


@dataclass(frozen=True, slots=True)
class Fact:
    """One question with its one answer.

    `phrasings` are other wordings of the question that may be trained on, `held_out` are wordings kept for testing.
    `relation` groups facts of a kind ("capital"), `source` says where the fact comes from; both may be empty.
    """

    id: str
    question: str
    answer: str
    phrasings: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    relation: str = ""
    source: str = ""


def identify(question: str) -> str:
    """The default id of a fact: 16 hexadecimal digits of the SHA-256 of its question."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def read_facts(path: str | Path) -> list[Fact]:
    """Read facts from a `.jsonl`, `.csv` or `.tsv` file.

    Raises:
        FactError: the content is not exactly a list of distinct facts.
        ValueError: the file is a folder, or of another suffix.
        OSError: the file cannot be read.
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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


def randomize(facts: Iterable[Fact], seed: int, length: int = 32) -> list[Fact]:
    """Replace each answer once by `length` characters drawn uniformly from A-Z0-9 (randomization test, paper 4).

    The new answer depends on `seed` and the fact's id alone: a subset or another order of the facts gets the same ones.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1, not {length}")

    def draw(fact: Fact) -> str:
        generator = numpy.random.Generator(numpy.random.PCG64(_number("randomize", seed, fact.id)))
        return "".join(ALPHABET[index] for index in generator.integers(len(ALPHABET), size=length))

    return [replace(fact, answer=draw(fact)) for fact in facts]


def shuffle_answers(facts: Sequence[Fact], seed: int) -> list[Fact]:
    """Permute the answers among the facts (the shuffled-label test of Zhang et al. 2017), keeping the facts' order.

    The permutation is uniform over all permutations, so about one fact in the whole set keeps its own answer by chance,
    and more do where answers repeat. It depends on `seed` and the set of ids, not on the order of the facts.
    """
    ordered = sorted(facts, key=lambda fact: fact.id)
    generator = numpy.random.Generator(numpy.random.PCG64(_number("shuffle", seed, "")))
    donors = (ordered[index].answer for index in generator.permutation(len(ordered)))
    answers = dict(zip((fact.id for fact in ordered), donors, strict=True))
    return [replace(fact, answer=answers[fact.id]) for fact in facts]


def split(facts: Iterable[Fact], sizes: float | Sequence[int], seed: int) -> tuple[list[Fact], ...]:
    """Split by fact, so that all wordings of a fact fall on one side (paper 9).

    Args:
        facts: what to split; ids must be distinct.
        sizes: the fraction of facts for the first part (a float in [0, 1]), or the sizes of the leading parts.
        seed: facts are ordered by a hash of seed and id, so the input's order does not matter.

    Returns:
        The parts asked for, and last the remaining facts: two lists for a fraction, `len(sizes) + 1` for sizes.

    Raises:
        ValueError: the sizes do not fit the number of facts, or two facts have the same id.
    """
    ordered = sorted(facts, key=lambda fact: _number("split", seed, fact.id))
    if len({fact.id for fact in ordered}) < len(ordered):
        raise ValueError("facts to split must have distinct ids")
    counts = [round(sizes * len(ordered))] if isinstance(sizes, float) else list(sizes)
    if min(counts, default=0) < 0 or sum(counts) > len(ordered):
        raise ValueError(f"cannot split {len(ordered)} facts by {sizes}")
    edges = [sum(counts[:index]) for index in range(len(counts) + 1)] + [len(ordered)]
    return tuple(ordered[start:stop] for start, stop in itertools.pairwise(edges))


def _number(purpose: str, seed: int, identity: str) -> int:
    digest = hashlib.sha256(json.dumps([purpose, int(seed), identity]).encode()).digest()
    return int.from_bytes(digest[:16], "big")


def _facts(path: str | Path, records: Sequence[Record]) -> dict[int, Fact]:
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
