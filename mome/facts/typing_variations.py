"""Variations of how a question is typed: case, signs, spaces, courtesies and typing errors, each a named kind.

`TRAINED` kinds may become training rows of a fact (`MemorySettings.typings`); `UNSEEN` kinds are only for
asking. The trained greetings and courtesies are not those that are asked.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence

import numpy

from mome.files.hashing import text_sha256

Draw = numpy.random.Generator
Variation = Callable[[str, Draw], str]

ROWS_OF_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
GREETINGS = {"trained": ("Hi, ", "Hello, ", "Hey, ", "Hi! "), "asked": ("Good morning, ", "Hi there, ", "Hello! ")}
COURTESIES = {"trained": (" Please.", " Thanks!", ", please?"), "asked": (" Thank you!", " please", " Thx")}
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
QUOTES = str.maketrans({"'": "\u2019", '"': "\u201d"})


def _lower(text: str, draw: Draw) -> str:
    return text.lower()


def _upper(text: str, draw: Draw) -> str:
    return text.upper()


def _title(text: str, draw: Draw) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


def _first_lower(text: str, draw: Draw) -> str:
    return text[:1].lower() + text[1:]


def _no_question_mark(text: str, draw: Draw) -> str:
    return text.rstrip("?!. ")


def _no_punctuation(text: str, draw: Draw) -> str:
    kept = "".join(sign for sign in text if not unicodedata.category(sign).startswith("P"))
    return " ".join(kept.split())


def _more_marks(text: str, draw: Draw) -> str:
    return text.rstrip("?!. ") + str(draw.choice(["??", "?!", "???", "..."]))


def _space_before_mark(text: str, draw: Draw) -> str:
    return f"{text[:-1]} {text[-1]}" if text[-1:] in ("?", "!", ".") else f"{text} ?"


def _double_space(text: str, draw: Draw) -> str:
    places = [place for place, sign in enumerate(text) if sign == " "]
    if not places:
        return text
    place = int(draw.choice(places))
    return text[:place] + " " + text[place:]


def _odd_spaces(text: str, draw: Draw) -> str:
    return text.replace(" ", str(draw.choice(["\t", "\u00a0"])))


def _letter_dropped(text: str, draw: Draw) -> str:
    place = _letter(text, draw)
    return text if place is None else text[:place] + text[place + 1 :]


def _letter_doubled(text: str, draw: Draw) -> str:
    place = _letter(text, draw)
    return text if place is None else text[: place + 1] + text[place:]


def _letters_swapped(text: str, draw: Draw) -> str:
    pairs = [
        place for place in _letters(text) if text[place + 1 : place + 2].isalpha() and text[place] != text[place + 1]
    ]
    if not pairs:
        return text
    place = int(draw.choice(pairs))
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _neighbour_key(text: str, draw: Draw) -> str:
    reach = [place for place in _letters(text) if _neighbours(text[place])]
    if not reach:
        return text
    place = int(draw.choice(reach))
    return text[:place] + str(draw.choice(_neighbours(text[place]))) + text[place + 1 :]


def _full_width_signs(text: str, draw: Draw) -> str:
    return "".join(chr(FULL_WIDTH[ord(sign)]) if sign in "?!,.:;()" else sign for sign in text)


def _full_width_letters(text: str, draw: Draw) -> str:
    return text.translate(FULL_WIDTH)


def _quotes(text: str, draw: Draw) -> str:
    opening, closing = draw.choice([("\u201c", "\u201d"), ("\u2018", "\u2019"), ('"', '"'), ("\u00ab", "\u00bb")])
    return f"{opening}{text.translate(QUOTES)}{closing}"


def _greeting(text: str, draw: Draw, parts: Sequence[str]) -> str:
    return str(draw.choice(parts)) + (_first_lower(text, draw) if draw.random() < 0.5 else text)


def _courtesy(text: str, draw: Draw, parts: Sequence[str]) -> str:
    part = str(draw.choice(parts))
    return (text if part[-1] in ".!" else text.rstrip("?!. ")) + part


def _letters(text: str) -> list[int]:
    """Places of letters inside a word, after its first letter: typing errors at the start of a word are rare."""
    return [place for place in range(1, len(text)) if text[place].isalpha() and text[place - 1].isalpha()]


def _letter(text: str, draw: Draw) -> int | None:
    places = _letters(text)
    return int(draw.choice(places)) if places else None


def _neighbours(letter: str) -> list[str]:
    """The keys beside a letter's, in its case; none where the letter is on no key."""
    for row in ROWS_OF_KEYS:
        place = row.find(letter.lower())
        if place >= 0 and letter.isascii():
            beside = [*row[max(0, place - 1) : place], *row[place + 1 : place + 2]]
            return [key.upper() if letter.isupper() else key for key in beside]
    return []


SIMPLE: dict[str, Variation] = {
    "lower case": _lower,
    "upper case": _upper,
    "title case": _title,
    "first letter lower": _first_lower,
    "no question mark": _no_question_mark,
    "no punctuation": _no_punctuation,
    "more marks": _more_marks,
    "space before the mark": _space_before_mark,
    "double space": _double_space,
    "tabs or no-break spaces": _odd_spaces,
    "letter dropped": _letter_dropped,
    "letter doubled": _letter_doubled,
    "letters swapped": _letters_swapped,
    "neighbouring key": _neighbour_key,
    "full-width signs": _full_width_signs,
    "full-width letters": _full_width_letters,
    "quotes": _quotes,
}
SPOKEN: dict[str, tuple[Callable[[str, Draw, Sequence[str]], str], Mapping[str, Sequence[str]]]] = {
    "greeting": (_greeting, GREETINGS),
    "courtesy": (_courtesy, COURTESIES),
}
KINDS = (*SIMPLE, *SPOKEN)
UNSEEN = (
    "title case",
    "space before the mark",
    "tabs or no-break spaces",
    "letter doubled",
    "neighbouring key",
    "quotes",
)
TRAINED = tuple(kind for kind in KINDS if kind not in UNSEEN)


def typed(question: str, kind: str, seed: int, purpose: str = "asked") -> str:
    """`question` as `kind` has it; which letter or greeting depends on `seed`, the question and `purpose` alone.

    `purpose` is "trained" or "asked": other draws, and other greetings and courtesies. Where there is nothing to vary
    (no full-width form, no letter), the question comes back as it is.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: must be one of {', '.join(KINDS)}")
    draw = numpy.random.default_rng(int(text_sha256(json.dumps([purpose, seed, kind, question]), 16), 16))
    if kind in SPOKEN:
        vary, parts = SPOKEN[kind]
        return vary(question, draw, parts[purpose])
    return SIMPLE[kind](question, draw)


def trained_typings(question: str, count: int, seed: int) -> list[str]:
    """At most `count` distinct variations of `question` to train on, of kinds in an order drawn by `seed`."""
    order = numpy.random.default_rng(int(text_sha256(json.dumps([seed, question]), 16), 16)).permutation(len(TRAINED))
    rounds = -(-count // len(TRAINED)) + 1
    drawn = (typed(question, TRAINED[kind], seed + turn, "trained") for turn in range(rounds) for kind in order)
    found = dict.fromkeys(text for text in drawn if text not in ("", question))
    return list(found)[:count]
