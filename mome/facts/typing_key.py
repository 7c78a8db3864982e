"""A question without the way it is typed: case, width, spaces, closing signs and courtesies are taken away.

Letters and the signs inside and before a word stay ("3.5", "C++", ".NET", "-5"): they tell questions apart. Only
English greetings and courtesies are known; for other languages the router decides.
"""

from __future__ import annotations

import unicodedata

FULL_WIDTH = {code + 0xFEE0: code for code in range(0x21, 0x7F)} | {0x3000: 0x20}
QUOTES = dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u02bc\u00b4`"), "'")
OPENING = "\"'([{\u201c\u201d\u201e\u00ab\u00bb\u00bf\u00a1"
CLOSING = "\"')]}\u201c\u201d\u201e\u00ab\u00bb?!.,;:\u2026\u3002"
GREETINGS = (
    *(("hi",), ("hello",), ("hey",), ("hi", "there"), ("hello", "there"), ("hey", "there"), ("please",)),
    *(("good", "morning"), ("good", "afternoon"), ("good", "evening")),
)
COURTESIES = (("please",), ("thanks",), ("thank", "you"), ("thx",), ("many", "thanks"), ("cheers",))


def typing_key(text: str) -> str:
    """The text's words in lower case, of plain width, one space apart, without quotes and signs around them."""
    plain = unicodedata.normalize("NFC", text.translate(FULL_WIDTH).translate(QUOTES)).casefold()
    words = (word.lstrip(OPENING).rstrip(CLOSING).replace("'", "") for word in plain.split())
    return " ".join(word for word in words if word)


def without_courtesies(key: str) -> str:
    """A `typing_key` without a greeting in front and a courtesy behind."""
    words = tuple(key.split(" "))
    for greeting in sorted(GREETINGS, key=len, reverse=True):
        if words[: len(greeting)] == greeting:
            words = words[len(greeting) :]
            break
    for courtesy in sorted(COURTESIES, key=len, reverse=True):
        if words[-len(courtesy) :] == courtesy:
            words = words[: -len(courtesy)]
            break
    return " ".join(words)
