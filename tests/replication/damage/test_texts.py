"""Answers are compared by their words."""

import pytest

from mome.replication.damage.texts import contains, first_line, normalized


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The capital, is:  Paris.", "capital is paris"),
        ("1,000 metres", "1000 metres"),
        ("Sí, adiós", "si adios"),
        ("1, 2", "1 2"),
        ("An apple a day", "apple day"),
    ],
)
def test_words_are_normalized(text: str, words: str) -> None:
    assert normalized(text) == words


def test_an_answer_is_contained_as_whole_words_only() -> None:
    assert contains("It is 12.", ["12"])
    assert not contains("It is 120.", ["12"])
    assert contains("Two plus two is four", ["4", "Four"])
    assert not contains("anything", ["the"])  # nothing is left of it


def test_the_first_line_ends_at_the_first_line_break() -> None:
    assert first_line("Paris \nQ: And Rome?") == "Paris"
