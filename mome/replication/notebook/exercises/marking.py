"""Marks for an answer that is a number or a letter: right, or wrong with the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHARE, NATS = "share", "nats"  # units whose usual mistakes are known
CLOSE = 0.01  # the relative difference up to which a number counts as right


@dataclass(frozen=True)
class Mark:
    """Whether an answer is right (None: there is none yet), and one sentence that is said to the reader."""

    right: bool | None
    said: str


NOT_YET = Mark(None, "not answered yet")


def unanswered(given: Any) -> bool:
    """Whether `given` is what an exercise cell holds before anybody has answered: `None` or `...`."""
    return given is None or given is Ellipsis


def right(said: str) -> Mark:
    """A right answer, with what follows from it."""
    return Mark(True, said)


def wrong(reason: str) -> Mark:
    """A wrong answer, with the reason."""
    return Mark(False, reason)


def number(
    given: Any,
    expected: float,
    *,
    unit: str,
    follows: str,
    hint: str,
    mistakes: Mapping[float, str] | None = None,
    close: float = CLOSE,
) -> Mark:
    """Mark a number.

    Args:
        given: the reader's answer; a scalar of numpy, pandas or torch will do.
        expected: the right number, finite.
        unit: of the answer; for `SHARE` and `NATS` (alone or with "/...") the usual wrong units are recognized.
        follows: what is said of a right answer.
        hint: what is said of a wrong one whose mistake is not known.
        mistakes: wrong answers, each with its reason; those that are the right answer here are passed over.
        close: relative difference up to which a number counts as right; a mistake is known at `CLOSE` at least.
    """
    value = _value(given)
    if isinstance(value, Mark):
        return value
    if math.isclose(value, expected, rel_tol=close, abs_tol=1e-300):
        return right(follows)
    for mistake, reason in (dict(mistakes or {}) | _wrong_units(expected, unit)).items():
        if math.isclose(value, mistake, rel_tol=max(close, CLOSE), abs_tol=1e-300):
            return wrong(reason)
    return wrong(f"too {'large' if value > expected else 'small'}. {hint}")


def _value(given: Any) -> float | Mark:
    """The number as a float, or what is wrong with its type."""
    if isinstance(given, str):
        return wrong(f"a number is asked for: write {given.strip() or '1.5'} without quotation marks.")
    refused = wrong(f"one number is asked for, not something of type {type(given).__name__}.")
    if isinstance(given, bool):
        return refused
    try:
        value = float(given)
    except (TypeError, ValueError, RuntimeError):  # the last is torch's, of a tensor with several numbers
        return refused
    return value if math.isfinite(value) else wrong(f"a finite number is asked for, not {value}.")


def _wrong_units(expected: float, unit: str) -> dict[float, str]:
    """Answers that are right but for their unit or their sign, each with its reason."""
    found = {-expected: "the sign is wrong."} if expected else {}
    if unit == SHARE:
        found[100 * expected] = "that is in per cent; a share lies between 0 and 1."
    if unit.partition("/")[0] == NATS:
        found[expected / math.log(2)] = "that is in bits (logarithm to base 2); nats take the natural logarithm."
        found[expected / math.log(10)] = "that is a logarithm to base 10; nats take the natural logarithm."
    return found


def choice(given: Any, letter: str, follows: str, reasons: Mapping[str, str]) -> Mark:
    """Mark one letter: `letter` is the right one, `reasons` says of every other why it is wrong."""
    letters = sorted([letter, *reasons])
    asked = f'one letter is asked for, such as "{letters[0]}" (there are {", ".join(letters)}).'
    if not isinstance(given, str):
        return wrong(asked)
    chosen = given.strip().strip("().").lower()
    if chosen == letter:
        return right(follows)
    return wrong(reasons.get(chosen, asked))
