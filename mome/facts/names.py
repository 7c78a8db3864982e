"""The check of names: does a question have the words that all wordings of a stored fact share?

A router tells what a question is about, and confuses names that look alike ("Kirkmore", "Kirkworth"). This check looks
at the words themselves. It allows for case, signs, full-width letters and one slip of the fingers in a word.
"""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WORD = re.compile(r"[^\W_]+")
JOINED = re.compile(r"(?<=\w)['\u2019.\-](?=\w)")  # signs inside a word, which are often left out: O'Brien, U.S.
# English words of any question: they tell nothing, however rare they are in a small store
FUNCTION_WORDS = frozenset(
    WORD.findall(
        "a an and are as at be been by can did do does for from give had has have how i if in into is it its me name "
        "of on or tell than that the their them then there these they this to was were what when where which who whom "
        "whose why will with would you your"
    )
)
COMMON_WORDS = Path(__file__).parent / "common_words.csv"  # written by data/facts/compile.py
SHORTEST_TYPED = 4  # letters; shorter words have too many neighbours for a slip to be told from another word


@dataclass(frozen=True, slots=True)
class WordSet:
    """The words of one stored wording: those that all wordings of its fact `shared`, and its `other` ones."""

    shared: frozenset[str]
    other: frozenset[str] = frozenset()


def words(text: str) -> list[str]:
    """The words of a text in lower case; a sign inside a word is no part of it. Full-width letters are plain ones.

    Example:
        >>> from mome.facts.names import words
        >>> words("Is O'Brien in the U.S.?")
        ['is', 'obrien', 'in', 'the', 'us']
    """
    return WORD.findall(JOINED.sub("", unicodedata.normalize("NFKC", text).casefold()))


def word_sets(wordings: Sequence[str]) -> list[WordSet]:
    """The words of each wording of one fact, those that all wordings share apart."""
    found = [frozenset(words(text)) for text in wordings]
    shared = frozenset.intersection(*found)
    return [WordSet(shared, each - shared) for each in found]


def one_slip(word: str, other: str) -> bool:
    """Whether the words are equal but for one letter missing, added, replaced, or swapped with its neighbour.

    Example:
        >>> from mome.facts.names import one_slip
        >>> one_slip("kirkmore", "krikmore"), one_slip("kirkmore", "kirkworth")
        (True, False)
    """
    if abs(len(word) - len(other)) > 1:
        return False
    start, least = 0, min(len(word), len(other))
    while start < least and word[start] == other[start]:
        start += 1
    word, other = word[start:], other[start:]
    while word and other and word[-1] == other[-1]:
        word, other = word[:-1], other[:-1]
    return max(len(word), len(other)) <= 1 or (len(word) == 2 and word == other[::-1])


@cache
def common_words() -> tuple[int, dict[str, int]]:
    """How many wordings the shipped facts have, and the words that at least 100 of them hold: in how many each stands.

    They tell a word of questions ("capital", "novel") from a name, which a small store alone cannot.

    Example:
        >>> from mome.facts.names import common_words
        >>> wordings, counts = common_words()
        >>> counts["capital"] > counts["nobel"] > counts.get("copenhagen", 0)
        True
    """
    with COMMON_WORDS.open(encoding="utf-8", newline="") as file:
        (_, wordings), *rows = csv.reader(file, strict=True)
    return int(wordings), {word: int(count) for word, count in rows}


class Names:
    """The words of all stored wordings. A word weighs its rarity among them times its rarity in questions, squared.

    Rarity is log((wordings + 1) / wordings that have the word): of the stored wordings, and of those of the shipped
    facts, where a word that is not common counts as if it stood in one. Function words weigh nothing.
    """

    def __init__(self, stored: Sequence[WordSet]) -> None:
        self.stored = stored
        counts = Counter(word for each in stored for word in each.shared | each.other)
        self.weights = {
            word: math.log((len(stored) + 1) / count) * _rarity_in_questions(word) ** 2
            for word, count in counts.items()
        }

    def share(self, number: int, asked: Collection[str]) -> float:
        """The share of the words that all wordings of the fact of wording `number` share, that `asked` holds too.

        Weighted by rarity. It is 1 where they share no word, or function words alone.
        """
        shared = self.stored[number].shared
        total = sum(self.weights[word] for word in shared)
        unknown = [word for word in asked if word not in self.weights]  # a word that is stored is no error in another
        lacking = sum(self.weights[word] for word in shared if word not in asked and not _typed(word, unknown))
        return 1.0 if total == 0 else 1.0 - lacking / total


def _rarity_in_questions(word: str) -> float:
    wordings, common = common_words()
    return 0.0 if word in FUNCTION_WORDS else math.log((wordings + 1) / (common.get(word, 0) + 1))


def _typed(word: str, unknown: Collection[str]) -> bool:
    """Whether one of the `unknown` words may be this one, typed wrong; another number is another number."""
    if len(word) < SHORTEST_TYPED or not word.isalpha():
        return False
    return any(one_slip(word, other) for other in unknown)
