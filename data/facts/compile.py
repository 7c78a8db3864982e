"""Compile the tables and relations of this folder into known.jsonl and unknown.jsonl: `python data/facts/compile.py`.

Every row of a table gives one fact per relation. A shipped backbone is pretrained on the known facts, at most
`KNOWN_PER_RELATION` of each relation so that it stays small. In relations that cannot be guessed the other facts are
unknown: kept out of every pretraining text, they serve for memory tuning. Those that a known fact states, or whose
subject holds the answer, are left out. One wording of each fact (never its first) is held out; which one rotates with
the fact, so that a backbone sees every wording for some facts of a relation and is tested on it for others.
The words that stand in many wordings go to mome/facts/common_words.csv, by which the check of names weighs words.
"""

import csv
import hashlib
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from mome.facts.fact import Fact, split
from mome.facts.names import COMMON_WORDS, words
from mome.facts.readers import check_facts, write_jsonl

FOLDER = Path(__file__).parent
KNOWN_PER_RELATION = 20
COMMON = 100  # wordings; 20 recognized no more (LOG.md, 2026-11-28), and lists names too


def read_relations() -> list[dict[str, Any]]:
    """All relations of relations/*.toml, in the order of file and position."""
    paths = sorted((FOLDER / "relations").glob("*.toml"))
    return [relation for path in paths for relation in tomllib.loads(path.read_text(encoding="utf-8"))["relation"]]


def read_table(name: str) -> list[dict[str, str]]:
    """The rows of tables/<name>.csv as strings."""
    with (FOLDER / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def compile_relation(relation: dict[str, Any]) -> list[Fact]:
    """One fact for each row that has an answer."""
    rows = read_table(relation["table"])
    return [
        compile_fact(relation, row[relation["subject"]], row[relation["answer"]])
        for row in rows
        if row[relation["answer"]]
    ]


def compile_fact(relation: dict[str, Any], subject: str, answer: str) -> Fact:
    """The fact of one subject; its held-out wording follows from its id."""
    identity = f"{relation['name']}/{subject}"
    wordings = [wording.format(subject=subject) for wording in relation["phrasings"]]
    number = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big")
    held_out = wordings.pop(1 + number % (len(wordings) - 1))
    source = f"tables/{relation['table']}.csv; {relation['source']}"
    return Fact(identity, wordings[0], answer, tuple(wordings[1:]), (held_out,), relation["name"], source)


def keep_secrets(facts: list[Fact], known: list[Fact]) -> list[Fact]:
    """The facts that neither their own subject nor the text of a known fact gives away."""
    texts = [f"{wording} {fact.answer}" for fact in known for wording in (fact.question, *fact.phrasings)]
    everything = "\n".join(texts)
    secret = []
    for fact in facts:
        subject = fact.id.split("/", 1)[1]
        stated = subject in everything and any(subject in text and fact.answer in text for text in texts)
        if not stated and fact.answer.lower() not in subject.lower():
            secret.append(fact)
    return secret


def write_common_words(facts: list[Fact], path: Path) -> None:
    """A first row with the number of wordings, then a row for each common word: in how many of them it stands."""
    wordings = [set(words(text)) for fact in facts for text in fact.wordings()]
    counts = Counter(word for each in wordings for word in each)
    common = sorted((word, count) for word, count in counts.items() if count >= COMMON)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("", len(wordings)), *common])


def main(common: Path = COMMON_WORDS) -> None:
    """Write both files of facts, and the common words to `common`, and print how many facts there are."""
    known: list[Fact] = []
    unknown: list[Fact] = []
    for relation in read_relations():
        facts = compile_relation(relation)
        shown, others = split(facts, [min(len(facts), KNOWN_PER_RELATION)], seed=0)
        known += shown
        unknown += others if relation["tunable"] else []
    unknown = keep_secrets(unknown, known)
    check_facts(known + unknown, file="known.jsonl + unknown.jsonl")
    write_jsonl(known, FOLDER / "known.jsonl")
    write_jsonl(unknown, FOLDER / "unknown.jsonl")
    write_common_words(known + unknown, common)
    print(f"{len(known)} known and {len(unknown)} unknown facts in {len(read_relations())} relations")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
