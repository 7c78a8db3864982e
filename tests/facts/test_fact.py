"""Facts: written and read back unchanged; randomization and splits follow seed and ids only."""

import os
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mome.facts.fact import ALPHABET, Fact, identify, randomize, shuffle_answers, split
from mome.facts.readers import check_facts, read_facts, write_jsonl
from mome.facts.records import LONGEST
from mome.facts.strict import FactError


def some_facts(number: int) -> list[Fact]:
    return [Fact(f"id{i}", f"What is {i}?", f"answer {i}", (f"Say {i}.",), relation="r") for i in range(number)]


def test_wordings_are_the_question_and_its_paraphrases_in_order() -> None:
    fact = Fact("id", "Who?", "Ada", ("Which person?", "Name her."), ("Who was it?",))
    assert fact.wordings() == ["Who?", "Which person?", "Name her."]
    assert [fact.wordings(count) for count in (0, 1, 9)] == [[], ["Who?"], fact.wordings()]
    assert fact.all_wordings() == [*fact.wordings(), "Who was it?"]


def test_id_defaults_to_a_hash_of_the_question(tmp_path: Path) -> None:
    lines = ('{"question": "Capital of Peru?", "answer": "Lima"}', '{"id": "mine", "question": "Q?", "answer": "a"}')
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    first, second = read_facts(tmp_path / "facts.jsonl")
    assert first.id == identify("Capital of Peru?") == "5c242018f7cc8f57"
    assert second.id == "mine"


def test_case_distinguishes_questions() -> None:
    check_facts([Fact("a", "What is CO?", "carbon monoxide"), Fact("b", "What is Co?", "cobalt")])


TEXT = (
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40).map(str.strip).filter(bool)
)


@st.composite
def fact_lists(draw: st.DrawFn) -> list[Fact]:
    wordings = draw(
        st.lists(
            TEXT, min_size=1, max_size=12, unique_by=lambda text: " ".join(unicodedata.normalize("NFC", text).split())
        )
    )
    facts = []
    while wordings:
        taken = [wordings.pop() for _ in range(min(len(wordings), draw(st.integers(1, 4))))]
        cut = draw(st.integers(1, len(taken)))
        lists = (tuple(taken[1:cut]), tuple(taken[cut:]))
        facts.append(
            Fact(f"id {len(facts)}", taken[0], draw(TEXT), *lists, draw(st.just("") | TEXT), draw(st.just("") | TEXT))
        )
    return facts


@settings(max_examples=150, deadline=None)
@given(facts=fact_lists())
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, facts: list[Fact]) -> None:
    path = tmp_path_factory.mktemp("facts") / "facts.jsonl"
    write_jsonl(facts, path)
    assert read_facts(path) == facts


def test_writing_is_atomic_and_refuses_what_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    write_jsonl(some_facts(2), path)
    before = path.read_bytes()
    with pytest.raises(FactError, match=r"facts\.jsonl, line 2, field 'answer'"):
        write_jsonl([*some_facts(1), Fact("b", "Q?", "")], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["facts.jsonl"]


def test_a_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "facts.jsonl").mkdir()
    with pytest.raises(OSError):
        write_jsonl(some_facts(1), tmp_path / "facts.jsonl")
    assert os.listdir(tmp_path) == ["facts.jsonl"]


def test_random_answers_depend_on_seed_and_id_only() -> None:
    facts = some_facts(50)
    answers = {fact.id: fact.answer for fact in randomize(facts, seed=3)}
    for subset in (facts[::-1], facts[7:9], facts[49:]):
        assert all(fact.answer == answers[fact.id] for fact in randomize(subset, seed=3))
    assert all(fact.answer != answers[fact.id] for fact in randomize(facts, seed=4))
    assert [(f.id, f.question, f.phrasings, f.relation) for f in randomize(facts, seed=3)] == [
        (f.id, f.question, f.phrasings, f.relation) for f in facts
    ]


def test_random_answers_are_uniform_over_capitals_and_digits() -> None:
    answers = [fact.answer for fact in randomize(some_facts(2_000), seed=0)]
    assert len(set(answers)) == 2_000
    assert all(re.fullmatch("[A-Z0-9]{32}", answer) for answer in answers)
    counts = Counter("".join(answers))
    expected = 2_000 * 32 / 36
    assert set(counts) == set(ALPHABET)
    # Chi-squared with 35 degrees of freedom exceeds 75 once in 10,000 draws; this draw is fixed by the seed.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 75
    assert {len(fact.answer) for fact in randomize(some_facts(3), seed=0, length=5)} == {5}
    with pytest.raises(ValueError, match="length must be at least 1"):
        randomize(some_facts(1), seed=0, length=0)


def test_random_answers_stay_the_same_over_releases() -> None:
    assert [fact.answer for fact in randomize(some_facts(2), seed=0, length=8)] == ["N7HK5RDZ", "HOXTVCF8"]


def test_shuffled_answers_are_a_permutation_by_seed_and_ids() -> None:
    facts = some_facts(40)
    shuffled = shuffle_answers(facts, seed=1)
    assert sorted(fact.answer for fact in shuffled) == sorted(fact.answer for fact in facts)
    assert [fact.question for fact in shuffled] == [fact.question for fact in facts]
    kept = sum(old.answer == new.answer for old, new in zip(facts, shuffled, strict=True))
    assert kept < 8
    assert shuffle_answers(facts[::-1], seed=1) == shuffled[::-1]
    assert shuffle_answers(facts, seed=2) != shuffled


def test_split_is_by_fact_and_depends_on_seed_and_ids_only() -> None:
    facts = some_facts(30)
    train, test = split(facts, 0.8, seed=5)
    assert (len(train), len(test)) == (24, 6)
    assert sorted(train + test, key=facts.index) == facts
    assert split(facts[::-1], 0.8, seed=5) == (train, test)
    assert split(facts, 0.8, seed=6) != (train, test)
    wordings = [{wording for fact in part for wording in fact.wordings()} for part in (train, test)]
    assert wordings[0].isdisjoint(wordings[1])
    assert len(wordings[0]) == 48


def test_split_by_sizes_gives_the_rest_last() -> None:
    facts = some_facts(10)
    first, second, rest = split(facts, [2, 3], seed=0)
    assert (len(first), len(second), len(rest)) == (2, 3, 5)
    assert {fact.id for fact in first + second + rest} == {fact.id for fact in facts}
    assert split(facts, [5], seed=0)[0] == first + second


@pytest.mark.parametrize("sizes", [1.5, -0.1, [11], [-1, 2], [6, 5]])
def test_impossible_splits_are_refused(sizes: float | list[int]) -> None:
    with pytest.raises(ValueError, match="cannot split 10 facts by"):
        split(some_facts(10), sizes, seed=0)
    with pytest.raises(ValueError, match="distinct ids"):
        split(some_facts(1) * 2, 0.5, seed=0)


def test_limits_are_the_documented_ones() -> None:
    longest = Fact("a", "x" * LONGEST["question"], "y" * LONGEST["answer"])
    check_facts([longest])
    assert (LONGEST["question"], LONGEST["answer"]) == (2_000, 1_000)
