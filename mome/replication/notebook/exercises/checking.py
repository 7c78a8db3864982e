"""What a notebook calls: `check` prints whether an answer is right and, if it is wrong, why."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from mome.replication.notebook.exercises import notebooks_00_to_05, notebooks_06_to_11, notebooks_12_to_17
from mome.replication.notebook.exercises.marking import NOT_YET, Mark, unanswered

GROUPS = (notebooks_00_to_05, notebooks_06_to_11, notebooks_12_to_17)
EXERCISES: dict[str, Callable[..., Mark]] = {name: mark for group in GROUPS for name, mark in group.EXERCISES.items()}
WORDS = {True: "right: ", False: "not right: ", None: ""}


def check(name: str, answer: Any, **seen: Any) -> None:
    """Print whether `answer` is right, and why not; of `None` and `...` that the exercise is not answered yet.

    Args:
        name: of the exercise: the notebook's number and a letter, such as "01.a".
        answer: a number, a letter or a function, as the exercise says.
        **seen: numbers of this run that the answer depends on, as the exercise cell passes them.

    Raises:
        ValueError: there is no exercise of this name.
    """
    mark = judge(name, answer, **seen)
    print(f"{name}: {WORDS[mark.right]}{mark.said}")


def judge(name: str, answer: Any, **seen: Any) -> Mark:
    """The mark of an answer; arguments and errors as `check`."""
    if name not in EXERCISES:
        like = get_close_matches(name, EXERCISES, 1, 0) or ["none"]
        raise ValueError(f"check: there is no exercise {name!r}; the nearest name is {like[0]!r}")
    return NOT_YET if unanswered(answer) else EXERCISES[name](answer, **seen)
