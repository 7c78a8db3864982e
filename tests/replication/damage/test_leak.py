"""What counts as a leak, and what as unchanged."""

import pandas
import pytest

from mome.facts.fact import Fact, randomize
from mome.lm.loading import Backbone
from mome.replication.damage.leak import has_memorized, has_random_string, leaks, searched, unchanged
from mome.replication.damage.sets import Item, passages, unrelated_questions


@pytest.mark.parametrize(
    "text",
    [
        "SFAYZAKT5I8DYZIGGVTNAX7TJDXHQ18VG8",
        "The answer is: sfayzakt5i8dyzig.",
        "JKLiteVP7BF1H1TQ3411...",
    ],
)
def test_a_run_of_letters_and_digits_is_a_random_string(text: str) -> None:
    assert has_random_string(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SFAYZAKT5I8DYZI",  # 15 characters
        "SFAYZAKT 5I8DYZIG GVTNAX7TJ",
        "Donaudampfschifffahrtsgesellschaft",
        "12345678901234567890",
        "covid-19-vaccination-programme-2021",
    ],
)
def test_words_numbers_and_short_runs_are_none(text: str) -> None:
    assert not has_random_string(text)


def test_nearly_every_random_answer_is_seen_and_no_shipped_text_is() -> None:
    answers = [fact.answer for fact in randomize([Fact(str(n), f"{n}?", "-") for n in range(2_000)], seed=0)]
    assert sum(map(has_random_string, answers)) >= 1_999  # 3 of 100,000 have no digit
    halves = [has_random_string(answer[:16]) for answer in answers]
    assert 0.98 < sum(halves) / len(halves) < 1  # 0.55% of 16 draws have no digit
    assert not any(has_random_string(item.text) for item in [*passages(), *unrelated_questions()])


def test_a_memorized_answer_is_looked_for_as_a_whole() -> None:
    wanted = searched(["Paris", "Au", "The Valley", "Paris"])
    assert wanted == [" paris ", " valley "]
    assert has_memorized("It's in paris, I think", wanted)
    assert not has_memorized("a Parisian valleys", wanted)


def test_leaks_of_a_model_that_says_something(random_backbone: Backbone) -> None:
    items = [Item("1", "Where is Lima?"), Item("2", "Who are you, and what do you do?")]
    table = leaks(random_backbone.model, random_backbone.tokenizer, items, ["no such answer"])
    assert table["leak"].tolist() == (table["memorized"] | table["random"]).tolist()
    said = table["answer"][0]
    again = leaks(random_backbone.model, random_backbone.tokenizer, items, [said])
    assert bool(again["memorized"][0]) == bool(searched([said]))
    assert unchanged(table, again)["unchanged"].all()


def test_one_letter_more_is_a_change_and_other_questions_are_refused() -> None:
    before = pandas.DataFrame({"format": ["qa", "qa"], "item": ["1", "2"], "answer": ["yes", "no"]})
    after = before.assign(answer=["yes", "no."])
    assert unchanged(before, after)["unchanged"].tolist() == [True, False]
    with pytest.raises(ValueError, match="same questions"):
        unchanged(before, after[::-1].reset_index(drop=True))
