"""The shipped sets are what they say, and a bad row is refused by its line."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mome.facts.shipped import shipped_facts
from mome.facts.strict import FactError
from mome.replication.damage.sets import (
    known_questions,
    passages,
    read_items,
    small_talk,
    unrelated_questions,
    wordings_by_hand,
)
from mome.replication.damage.texts import normalized


def test_the_sets_have_their_sizes() -> None:
    sizes = [len(found()) for found in (passages, known_questions, unrelated_questions, wordings_by_hand, small_talk)]
    assert sizes == [300, 162, 300, 200, 200]


def test_handwritten_wordings_ask_for_shipped_facts_in_other_words_and_do_not_tell_the_answer() -> None:
    facts = {fact.id: fact for fact in shipped_facts("unknown")}
    items = wordings_by_hand()
    assert len({item.fact for item in items}) == 200
    assert len({facts[item.fact].relation for item in items}) >= 60
    for item in items:
        fact = facts[item.fact]
        assert item.text not in fact.all_wordings()
        assert f" {normalized(fact.answer)} " not in f" {normalized(item.text)} "


def test_unrelated_questions_are_neither_known_ones_nor_wordings_of_facts() -> None:
    texts = {item.text for item in unrelated_questions()}
    assert texts.isdisjoint(item.text for item in known_questions())
    assert texts.isdisjoint(
        wording for name in ("known", "unknown") for fact in shipped_facts(name) for wording in fact.all_wordings()
    )


def test_known_questions_do_not_ask_for_a_fact_that_may_be_memorized() -> None:
    told = [(fact.id.partition("/")[2], normalized(fact.answer)) for fact in shipped_facts("unknown")]
    for item in known_questions():
        answers = {normalized(answer) for answer in item.answers}
        assert not [subject for subject, answer in told if answer in answers and subject in item.text]


def test_small_talk_and_passages_are_distinct() -> None:
    assert max(Counter(item.text for item in [*small_talk(), *passages()]).values()) == 1


GOOD = {"id": "1", "question": "Why?", "answers": ["So."], "source": "us"}


@pytest.mark.parametrize(
    ("change", "field", "problem"),
    [
        ({"answers": []}, "answers", "at least one"),
        ({"answers": "So."}, "answers", "array"),
        ({"answers": [1]}, "answers", "must be a string"),
        ({"question": " Why?"}, "question", "whitespace"),
        ({"source": None}, "source", "must be a string"),
        ({"fact": "x"}, "fact", "unknown field"),
        ({"id": "0"}, "id", "line 1 already has it"),
        ({"question": "How?"}, "question", "line 1 already has it"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path: Path, change: dict[str, object], field: str, problem: str) -> None:
    path = tmp_path / "items.jsonl"
    first = {**GOOD, "id": "0", "question": "How?"}
    path.write_text(json.dumps(first) + "\n" + json.dumps({**GOOD, **change}) + "\n", "utf-8")
    with pytest.raises(FactError, match=problem) as caught:
        read_items(path, "question", ("answers", "source"))
    assert (caught.value.line, caught.value.field) == (2, field)


@pytest.mark.parametrize("line", ['["a"]', "no JSON", '{"id": "1"}'])
def test_what_is_no_item_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(line + "\n", "utf-8")
    with pytest.raises(FactError, match="line 1"):
        read_items(path, "question")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("", "utf-8")
    with pytest.raises(FactError, match="blank"):
        read_items(tmp_path / "items.jsonl", "question")
