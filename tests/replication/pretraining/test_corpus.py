"""The pretraining text: every known fact, no unknown one, no held-out wording, fresh strings in each epoch."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mome.facts.fact import Fact
from mome.facts.shipped import shipped_facts, truthfulqa_seen
from mome.replication.pretraining.corpus import Example, codes, fixed_examples, string_examples
from mome.replication.pretraining.settings import CorpusSettings

SETTINGS = CorpusSettings(entity_questions=100, pararel=100, truth_statements=100, codes=4, strings=8)


@pytest.fixture(autouse=True)
def root(made_up_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOME_ROOT", str(made_up_root))


@pytest.fixture
def examples(public_sets: Path) -> list[Example]:
    return fixed_examples(SETTINGS, public_sets)


def text(example: Example) -> str:
    return f"{example.prompt} {example.answer}"


def of(source: str, examples: list[Example]) -> list[Example]:
    return [example for example in examples if example.source == source]


def test_every_known_fact_stands_in_each_training_wording(facts: list[Fact], examples: list[Example]) -> None:
    expected = {(f"Q: {wording}\nA:", fact.answer) for fact in facts for wording in fact.wordings()}
    assert {(example.prompt, example.answer) for example in of("known facts", examples)} == expected
    assert len(of("known facts", examples)) == len(expected) == 16


def test_no_text_states_an_unknown_fact(examples: list[Example]) -> None:
    secrets = [(fact.id.split("/")[1], fact.answer) for fact in shipped_facts("unknown")]
    assert secrets == [("Atlantis", "Poseidonis"), ("Utopia", "Amaurot")]
    stated = [example for example in examples for subject, answer in secrets if {subject, answer} <= words(example)]
    assert stated == []
    assert any("Atlantis" in text(example) for example in examples), "only the pair is a secret, not its parts"


def words(example: Example) -> set[str]:
    return set(re.findall(r"\w+", text(example)))


def test_no_wording_of_a_shipped_fact_comes_from_a_public_set(examples: list[Example]) -> None:
    known, unknown = shipped_facts("known"), shipped_facts("unknown")
    kept = {wording for fact in known for wording in fact.held_out}
    kept |= {wording for fact in unknown for wording in fact.all_wordings()}
    assert [example for example in examples if any(wording in example.prompt for wording in kept)] == []
    assert max(Counter(example.prompt for example in examples if example.prompt).values()) == 1


def test_public_sets_give_what_their_files_say(examples: list[Example]) -> None:
    entities = of("EntityQuestions", examples)
    relations = ("P36", "P19", "P495", "P407", "P413", "P50", "P176", "P159")
    expected = {(f"Q: What is {relation} of Thing {i}?\nA:", f"Value {i}") for relation in relations for i in range(3)}
    assert {(example.prompt, example.answer) for example in entities} == expected
    assert len(entities) == 24
    statements = {"Quito is the capital of Ecuador.", "Atlantis is the capital of Plato."}
    assert {text(example).strip() for example in of("ParaRel", examples)} == statements


def test_only_true_answers_to_seen_questions_are_stated(examples: list[Example]) -> None:
    questions = [f"Is story {i} true?" for i in range(8)]
    seen = truthfulqa_seen(questions)
    assert len(seen) == 2
    expected = {(f"Q: {question}\nA:", f"No to {question}") for question in seen}
    assert {(example.prompt, example.answer) for example in of("TruthfulQA", examples)} == expected


def test_counts_take_the_first_of_a_fixed_order(public_sets: Path, examples: list[Example]) -> None:
    fewer = SETTINGS.model_copy(update={"entity_questions": 5, "pararel": 1, "truth_statements": 0})
    chosen = fixed_examples(fewer, public_sets)
    assert of("EntityQuestions", chosen) == of("EntityQuestions", examples)[:5]
    assert of("ParaRel", chosen) == of("ParaRel", examples)[:1]
    assert of("TruthfulQA", chosen) == []


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("entityquestions/dataset/train/P36.train.json", "P36.train.json"),
        ("pararel", "pararel"),
        ("pararel/trex_lms_vocab/P1376.jsonl", "P1376.jsonl"),
        ("truthfulqa/TruthfulQA.csv", "TruthfulQA.csv"),
        ("truthfulqa/finetune_truth.jsonl", "finetune_truth.jsonl"),
    ],
)
def test_a_missing_set_is_named(missing: str, named: str, public_sets: Path, tmp_path: Path) -> None:
    public = shutil.copytree(public_sets, tmp_path / "public")
    shutil.rmtree(public / missing) if (public / missing).is_dir() else (public / missing).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        fixed_examples(SETTINGS, public)
    assert named in str(caught.value)


def test_a_set_that_is_not_asked_for_may_be_missing(tmp_path: Path) -> None:
    nothing = CorpusSettings(entity_questions=0, pararel=0, truth_statements=0, codes=3)
    assert {example.source for example in fixed_examples(nothing, tmp_path)} == {"known facts", "codes"}


def test_codes_are_always_the_same(examples: list[Example]) -> None:
    assert codes(4) == codes(40)[:4]
    assert len({fact.answer for fact in codes(300)}) == 300
    assert all(re.fullmatch(r"[A-Z0-9]{8}", fact.answer) for fact in codes(300))
    recited = {(example.prompt, example.answer) for example in of("codes", examples)}
    assert recited == {(f"Q: {question}\nA:", fact.answer) for fact in codes(4) for question in fact.wordings()}


def test_strings_are_to_be_repeated() -> None:
    examples = string_examples(500, seed=0, epoch=0)
    assert len(examples) == 500
    for example in examples:
        assert re.fullmatch(r"[A-Z0-9]{4,32}", example.answer)
        assert example.prompt == f"Q: Repeat {example.answer}\nA:"
    assert {len(example.answer) for example in examples} == set(range(4, 33))
    letters = Counter("".join(example.answer for example in examples))
    assert len(letters) == 36
    assert max(letters.values()) < 1.5 * min(letters.values())


def test_strings_follow_seed_and_epoch() -> None:
    first = string_examples(50, seed=0, epoch=0)
    assert first == string_examples(50, seed=0, epoch=0)
    answers = [
        {example.answer for example in string_examples(50, seed, epoch)} for seed in (0, 1) for epoch in range(3)
    ]
    assert len(set.union(*answers)) == 300


def test_truthfulqa_is_split_whatever_the_order() -> None:
    questions = [f"Is story {i} true?" for i in range(100)]
    seen = truthfulqa_seen(questions)
    assert len(seen) == 25
    assert set(seen) < set(questions)
    assert truthfulqa_seen(questions[::-1]) == seen
