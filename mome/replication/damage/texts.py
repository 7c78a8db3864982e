"""How free answers are compared with expected ones."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ARTICLES = ("a", "an", "the")


def first_line(answer: str) -> str:
    """The answer up to its first line break: a backbone that is no chat model goes on with questions of its own."""
    return answer.partition("\n")[0].strip()


def normalized(text: str) -> str:
    """The words of a text in lower case, without accents, signs and articles, one space apart; 1,000 becomes 1000."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", plain)
    return " ".join(word for word in re.findall(r"\w+", plain) if word not in ARTICLES)


def contains(text: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted answers stands in the text, whole words, both `normalized`."""
    padded = f" {normalized(text)} "
    return any(f" {words} " in padded for words in map(normalized, accepted) if words)
