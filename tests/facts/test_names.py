"""The check of names: typing errors pass, other names and other numbers do not."""

import pytest

from mome.facts.names import Names, WordSet, common_words, one_slip, word_sets, words
from mome.facts.typing_variations import KINDS, typed

ROOMS = ["What is the room of {}?", "In which room does {} work?"]
PEOPLE = ["Aldan Kirkmore", "Brean Kirkworth", "Corin O'Brien", "Dava Penshaw", "Messier 12"]
ASKED = "Tell me the room in which Aldan Kirkmore sits"


def stored(people: list[str]) -> Names:
    return Names([each for name in people for each in word_sets([text.format(name) for text in ROOMS])])


def share(asked: str, place: int = 0, people: list[str] | None = None) -> float:
    return stored(people or PEOPLE).share(2 * place, set(words(asked)))


def test_words_of_a_text() -> None:
    full_width = "\uff37\uff48\uff4f \uff49\uff53 O\u2019Brien, in the U.S. (1969)\uff1f"
    assert words(full_width) == ["who", "is", "obrien", "in", "the", "us", "1969"]
    assert words("?! ...") == []


def test_the_shared_words_of_wordings_stand_apart() -> None:
    first, second = word_sets(["The room of Ada?", "Ada sits in the room"])
    assert first == WordSet(frozenset({"the", "room", "ada"}), frozenset({"of"}))
    assert second == WordSet(first.shared, frozenset({"sits", "in"}))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        *(("kirkmore", True), ("kirkmre", True), ("kirkkmore", True), ("krikmore", True), ("kirknore", True)),
        *(("kirkworth", False), ("kirkmoor", False), ("kirkmo", False), ("rikkmore", False), ("", False)),
    ],
)
def test_one_slip_and_no_more(other: str, same: bool) -> None:
    assert one_slip("kirkmore", other) is same and one_slip(other, "kirkmore") is same


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_kind_of_typing_passes(kind: str, seed: int) -> None:
    assert share(typed(ASKED, kind, seed)) >= 0.8


def test_another_name_does_not_pass() -> None:
    assert share(ASKED) == 1
    assert share(ASKED.replace("Kirkmore", "Kirkworth")) < 0.8
    assert share(ASKED.replace("Aldan Kirkmore", "Brean Kirkworth")) < 0.2
    assert share("What is the room of Messier 12?", place=4) == 1
    assert share("What is the room of Messier 13?", place=4) < 0.8


def test_a_word_that_is_stored_is_no_typing_error() -> None:
    asked = ASKED.replace("Aldan", "Aldin")
    assert share(asked) == 1
    assert share(asked, people=[*PEOPLE, "Aldin Penshaw"]) < 0.8


def test_a_rare_word_counts_more_than_a_common_one() -> None:
    assert 0 < share("in the room") < 0.1 and share("in the of what") == 0
    stored_ones = Names(word_sets(["the red boat"]) + word_sets(["the red house"]) + word_sets(["the hut"]))
    assert 0.2 < stored_ones.share(0, ["the", "red"]) < 0.5 < stored_ones.share(0, ["boat"]) < 1


def test_the_names_of_a_single_fact_are_checked() -> None:
    alone = Names(word_sets(["Who tends the lighthouse at Cape Eren?"]))
    assert alone.share(0, words("who tends the lighthuose at cape eren")) == 1
    assert alone.share(0, words("Who tends the lighthouse at Cape Aran?")) < 0.8


def test_wordings_that_share_no_telling_word_always_pass() -> None:
    assert Names([WordSet(frozenset(), frozenset({"ada"}))]).share(0, []) == 1
    assert Names(word_sets(["Who are you?"])).share(0, ["bo"]) == 1


def test_words_of_questions_weigh_little_even_in_a_small_store() -> None:
    book = Names(
        word_sets(["Who wrote the novel Gravity's Rainbow?", "The novel Gravity's Rainbow was written by whom?"])
    )
    assert book.share(0, words("Gravity's Rainbow - whose book is that?")) > 0.9
    assert book.share(0, words("Who wrote the novel Gravity's Angels?")) < 0.6


def test_common_words_are_those_of_many_wordings() -> None:
    wordings, counts = common_words()
    assert wordings > 30_000 and min(counts.values()) >= 100 and max(counts.values()) <= wordings
    assert counts["novel"] > 1_000 and "gravity" not in counts
