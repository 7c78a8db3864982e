"""Variations of typing are what their names say, drawn by seed, and trained apart from those that are asked."""

import pytest

from mome.facts.typing_variations import COURTESIES, GREETINGS, KINDS, TRAINED, UNSEEN, trained_typings, typed

QUESTION = "Where does Ada's aunt keep the spare key?"


def one_letter_fewer(text: str) -> bool:
    return any(text == QUESTION[:place] + QUESTION[place + 1 :] for place in range(len(QUESTION)))


def one_letter_other(text: str) -> bool:
    return len(text) == len(QUESTION) and sum(a != b for a, b in zip(text, QUESTION, strict=True)) == 1


def two_letters_swapped(text: str) -> bool:
    places = [place for place, (a, b) in enumerate(zip(text, QUESTION, strict=True)) if a != b]
    return len(places) == 2 and sorted(text) == sorted(QUESTION) and places[1] == places[0] + 1


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("lower case", "where does ada's aunt keep the spare key?"),
        ("upper case", "WHERE DOES ADA'S AUNT KEEP THE SPARE KEY?"),
        ("title case", "Where Does Ada's Aunt Keep The Spare Key?"),
        ("first letter lower", "where does Ada's aunt keep the spare key?"),
        ("no question mark", "Where does Ada's aunt keep the spare key"),
        ("no punctuation", "Where does Adas aunt keep the spare key"),
        ("space before the mark", "Where does Ada's aunt keep the spare key ?"),
        ("full-width signs", "Where does Ada's aunt keep the spare key\uff1f"),
    ],
)
def test_kinds_without_a_draw(kind: str, expected: str) -> None:
    assert typed(QUESTION, kind, 0) == typed(QUESTION, kind, 7) == expected


def test_kinds_with_a_draw() -> None:
    for seed in range(20):
        assert one_letter_fewer(typed(QUESTION, "letter dropped", seed))
        assert len(typed(QUESTION, "letter doubled", seed)) == len(QUESTION) + 1
        assert one_letter_other(typed(QUESTION, "neighbouring key", seed))
        assert two_letters_swapped(typed(QUESTION, "letters swapped", seed))
        assert typed(QUESTION, "double space", seed).replace("  ", " ") == QUESTION
        assert "".join(typed(QUESTION, "tabs or no-break spaces", seed).split()) == "".join(QUESTION.split())
        assert QUESTION.replace("'", "\u2019") in typed(QUESTION, "quotes", seed)
        assert typed(QUESTION, "more marks", seed).rstrip("?!.") == QUESTION.rstrip("?")
        assert typed(QUESTION, "greeting", seed).startswith(GREETINGS["asked"])
        assert typed(QUESTION, "courtesy", seed, "trained").endswith(COURTESIES["trained"])
    draws = {typed(QUESTION, "letter dropped", seed) for seed in range(20)}
    assert len(draws) > 5 and typed(QUESTION, "letter dropped", 3) == typed(QUESTION, "letter dropped", 3)


def test_what_is_asked_is_not_what_was_trained() -> None:
    assert not {*TRAINED} & {*UNSEEN} and {*TRAINED, *UNSEEN} == {*KINDS} and len(KINDS) > 15
    assert all(not {*parts["trained"]} & {*parts["asked"]} for parts in (GREETINGS, COURTESIES))
    trained, other = trained_typings(QUESTION, 12, 0), trained_typings(QUESTION, 12, 1)
    assert len({*trained}) == 12 and QUESTION not in trained and trained != other
    assert trained == trained_typings(QUESTION, 12, 0) and trained[:3] == trained_typings(QUESTION, 3, 0)


def test_where_there_is_nothing_to_vary_the_question_comes_back() -> None:
    assert [typed("42", kind, 0) for kind in ("letter dropped", "letters swapped", "neighbouring key")] == ["42"] * 3
    assert "" not in trained_typings("?", 20, 0)  # without its mark nothing is left


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'drunk': must be one of lower case"):
        typed(QUESTION, "drunk", 0)
