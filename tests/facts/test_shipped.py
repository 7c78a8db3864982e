"""The shipped facts: enough, consistent, reproduced by their script, and secret where they have to be."""

import csv
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mome.facts.fact import Fact
from mome.facts.names import COMMON_WORDS
from mome.facts.readers import check_facts, read_jsonl

FOLDER = Path(__file__).parents[2] / "data" / "facts"
FIELDS = {"name": str, "table": str, "subject": str, "answer": str, "tunable": bool, "source": str, "phrasings": list}
KNOWN_PER_RELATION = 20


@pytest.fixture(scope="module")
def known() -> list[Fact]:
    return read_jsonl(FOLDER / "known.jsonl")


@pytest.fixture(scope="module")
def unknown() -> list[Fact]:
    return read_jsonl(FOLDER / "unknown.jsonl")


@pytest.fixture(scope="module")
def relations() -> dict[str, dict[str, Any]]:
    found = [
        relation
        for path in sorted((FOLDER / "relations").glob("*.toml"))
        for relation in tomllib.loads(path.read_text(encoding="utf-8"))["relation"]
    ]
    assert [name for name, times in Counter(relation["name"] for relation in found).items() if times > 1] == []
    return {relation["name"]: relation for relation in found}


def subject(fact: Fact) -> str:
    return fact.id.split("/", 1)[1]


def test_there_are_enough_facts_with_enough_wordings(known: list[Fact], unknown: list[Fact]) -> None:
    assert len(known) + len(unknown) >= 1_500
    assert [fact.id for fact in known + unknown if len(fact.all_wordings()) < 4] == []
    assert [fact.id for fact in known + unknown if len(fact.held_out) != 1 or len(fact.phrasings) < 2] == []


def test_no_id_and_no_wording_occurs_twice(known: list[Fact], unknown: list[Fact]) -> None:
    check_facts(known + unknown)
    counts = Counter(" ".join(wording.split()) for fact in known + unknown for wording in fact.all_wordings())
    assert [wording for wording, times in counts.items() if times > 1] == []


def test_relations_are_well_formed(relations: dict[str, dict[str, Any]]) -> None:
    for name, relation in relations.items():
        assert relation.keys() == FIELDS.keys(), name
        assert all(type(relation[field]) is kind for field, kind in FIELDS.items()), name
        assert relation["source"].strip(), name
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert len(set(relation["phrasings"])) == len(relation["phrasings"]) >= 4, name
        for phrasing in relation["phrasings"]:
            assert re.findall(r"\{[^}]*\}", phrasing) == ["{subject}"], (name, phrasing)


def test_tables_have_the_columns_of_their_relations(relations: dict[str, dict[str, Any]]) -> None:
    used = {relation["table"] for relation in relations.values()}
    assert used == {path.stem for path in (FOLDER / "tables").glob("*.csv")}
    for name, relation in relations.items():
        with (FOLDER / "tables" / f"{relation['table']}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        assert {relation["subject"], relation["answer"]} <= rows[0].keys(), name
        assert all(None not in row and None not in row.values() for row in rows), relation["table"]
        assert all(row[relation["subject"]] for row in rows), name


def test_every_fact_follows_from_its_row(
    known: list[Fact], unknown: list[Fact], relations: dict[str, dict[str, Any]]
) -> None:
    answers = {}
    for name, relation in relations.items():
        with (FOLDER / "tables" / f"{relation['table']}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                answers[f"{name}/{row[relation['subject']]}"] = row[relation["answer"]]
    for fact in known + unknown:
        relation = relations[fact.relation]
        assert fact.id.startswith(f"{fact.relation}/")
        assert answers[fact.id] == fact.answer
        filled = [phrasing.replace("{subject}", subject(fact)) for phrasing in relation["phrasings"]]
        assert fact.question == filled[0]
        assert sorted(fact.all_wordings()) == sorted(filled), fact.id
        assert relation["table"] in fact.source and relation["source"] in fact.source


def test_every_wording_is_trained_for_some_facts_and_held_out_for_others(known: list[Fact]) -> None:
    """The first wording is never held out; each other one is held out for a fair share of the known facts."""
    first = {fact.relation: fact.question.replace(subject(fact), "{subject}") for fact in known}
    held_out = {(fact.relation, fact.held_out[0].replace(subject(fact), "{subject}")) for fact in known}
    assert not held_out & set(first.items())
    assert len(held_out) > 2.5 * len(first)


def test_known_facts_are_capped_and_unknown_ones_are_tunable(
    known: list[Fact], unknown: list[Fact], relations: dict[str, dict[str, Any]]
) -> None:
    counts = Counter(fact.relation for fact in known)
    assert counts.keys() == relations.keys()
    assert max(counts.values()) <= KNOWN_PER_RELATION
    assert all(relations[fact.relation]["tunable"] for fact in unknown)
    assert all(counts[fact.relation] == KNOWN_PER_RELATION for fact in unknown)


def test_no_unknown_fact_gives_itself_away(unknown: list[Fact]) -> None:
    assert [fact.id for fact in unknown if fact.answer.lower() in subject(fact).lower()] == []
    for fact in unknown:
        whole_answer = re.compile(rf"(?<!\w){re.escape(fact.answer)}(?!\w)")
        assert [wording for wording in fact.all_wordings() if whole_answer.search(wording)] == [], fact.id


def test_no_known_fact_states_an_unknown_one(known: list[Fact], unknown: list[Fact]) -> None:
    texts = [f"{wording} {fact.answer}" for fact in known for wording in fact.wordings()]
    by_answer: dict[str, list[Fact]] = {}
    for fact in unknown:
        by_answer.setdefault(fact.answer, []).append(fact)
    stated = [
        (fact.id, text)
        for answer, facts in by_answer.items()
        for text in texts
        if answer in text
        for fact in facts
        if subject(fact) in text
    ]
    assert stated == []


def test_the_script_gives_the_committed_files(tmp_path: Path) -> None:
    copied = shutil.copytree(FOLDER, tmp_path / "facts", ignore=shutil.ignore_patterns("*.jsonl"))
    command = [sys.executable, str(copied / "compile.py"), str(tmp_path / "common_words.csv")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("known.jsonl", "unknown.jsonl"):
        assert (copied / name).read_bytes() == (FOLDER / name).read_bytes(), name
    assert (tmp_path / "common_words.csv").read_bytes() == COMMON_WORDS.read_bytes()
