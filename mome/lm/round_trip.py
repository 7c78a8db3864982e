"""What a backbone can hold, checked before training: facts pass through its tokenizer and back.

An answer can be held if it comes back exactly as it is. A question can be held if the backbone reads it unchanged and
to its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mome.facts.fact import Fact
from mome.facts.strict import FactError
from mome.lm.encoding import answer_text, said
from mome.lm.loading import Backbone
from mome.lm.prompts.form import History, PromptForm, prompt_form
from mome.lm.prompts.frame import prompt_ids
from mome.lm.writable import unwritable_tokens

Unwritable = Literal["refuse", "leave_out", "try"]
ANSWER_ROOM = 40  # tokens that a backbone may take to answer a question by itself
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a backbone cannot hold a fact: the `field` with this `value` is the `problem`.

    `final`: the fact cannot come back whatever is trained. Otherwise its answer may, but never with certainty.
    """

    fact: Fact
    field: str
    value: str
    problem: str
    final: bool = True

    def __str__(self) -> str:
        return f"{self.fact.id} ({self.fact.question}): {self.field} {self.value!r}: {self.problem}"


class UnwritableError(FactError):
    """Facts that a backbone cannot hold; `obstacles` names them all, the message the first ones."""

    obstacles: list[Obstacle]


def holdable(
    backbone: Backbone,
    facts: Sequence[Fact],
    unwritable: Unwritable = "refuse",
    file: str | Path = "facts",
    lines: Sequence[int] | None = None,
) -> tuple[list[Fact], list[Obstacle]]:
    """The facts that the backbone can hold, and for each other fact the obstacle.

    Args:
        backbone: the model that is to memorize them.
        facts: the facts as they were read; `lines` are their lines in `file`, by default 1, 2, 3 ...
        unwritable: "refuse" raises if there are others, "leave_out" only if nothing else is left. "try" lets those pass
            that are not `final`, and raises if there are others.

    Raises:
        UnwritableError: as `unwritable` says.
        FactError: two questions with different answers have the same tokens.
        ValueError: `unwritable` has another value.
    """
    if unwritable not in get_args(Unwritable):
        raise ValueError(f"unwritable {unwritable!r}: must be one of {', '.join(get_args(Unwritable))}")
    numbers = list(range(1, len(facts) + 1) if lines is None else lines)
    _refuse_twins(backbone, facts, file, numbers)
    found = [obstacle for obstacle in find_obstacles(backbone, facts) if obstacle.final or unwritable != "try"]
    if found and (unwritable != "leave_out" or len(found) == len(facts)):
        line_of = dict(zip((fact.id for fact in facts), numbers, strict=True))
        raise _error(found, file, [line_of[obstacle.fact.id] for obstacle in found], unwritable)
    hindered = {obstacle.fact.id for obstacle in found}
    return [fact for fact in facts if fact.id not in hindered], found


def find_obstacles(backbone: Backbone, facts: Sequence[Fact]) -> list[Obstacle]:
    """The first obstacle of each fact that the backbone cannot hold."""
    answers = _tokens(backbone, [answer_text(backbone.tokenizer, fact.answer) for fact in facts])
    asked = [
        (place, field, text)
        for place, fact in enumerate(facts)
        for field, texts in (("question", (fact.question,)), ("phrasings", fact.phrasings), ("held_out", fact.held_out))
        for text in texts
    ]
    rooms = [len(answers[place]) for place, _, _ in asked]
    problems = _question_problems(backbone, [text for _, _, text in asked], rooms)
    found: dict[int, Obstacle] = {}
    for (place, field, text), problem in zip(asked, problems, strict=True):
        if problem:
            found.setdefault(place, Obstacle(facts[place], field, text, problem))
    for final, judge in ((True, _lost), (False, _uncertain)):
        for place, problem in enumerate(judge(backbone, [fact.answer for fact in facts], answers)):
            if problem:
                found.setdefault(place, Obstacle(facts[place], "answer", facts[place].answer, problem, final))
    return [found[place] for place in sorted(found)]


def check_askable(backbone: Backbone, questions: Sequence[str], file: str = "questions", history: History = ()) -> None:
    """Refuse questions that the backbone does not read unchanged, or not to their end after the turns of `history`.

    The line of a question is its place in the list.

    Raises:
        FactError: there is one; the error names the first.
    """
    problems = _question_problems(backbone, questions, [0] * len(questions), history)
    for line, (question, problem) in enumerate(zip(questions, problems, strict=True), start=1):
        if problem:
            raise FactError(file, line, "question", question, problem)


def _question_problems(
    backbone: Backbone, questions: Sequence[str], answers: Sequence[int], history: History = ()
) -> list[str]:
    """What is wrong with each question, whose answer has so many tokens; empty if nothing is."""
    tokenizer, name = backbone.tokenizer, backbone.name
    *rows, empty = prompt_ids(tokenizer, [*questions, ""], history)
    specials = _special_ids(backbone)
    limit = getattr(backbone.model.config, "max_position_embeddings", None)
    problems = []
    for row, words, answer in zip(rows, _tokens(backbone, questions), answers, strict=True):
        length, room = len(row), max(answer + 1, ANSWER_ROOM)
        special, problem = specials.intersection(words), ""
        if special:
            token = tokenizer.convert_ids_to_tokens(min(special))
            problem = f"holds {token!r}, a special token of {name}, which its tokenizer does not read as text"
        elif row == empty:
            problem = f"nothing is left of it in the tokens of {name}"
        elif limit is not None and length + room > limit:
            problem = f"{length:,} tokens and {room:,} for the answer, but {name} reads {limit:,}"
        problems.append(problem)
    return problems


def _special_ids(backbone: Backbone) -> set[int]:
    """The ids that no text may have: special tokens, except the one for unknown text."""
    tokenizer = backbone.tokenizer
    return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def _lost(backbone: Backbone, answers: Sequence[str], rows: Sequence[list[int]]) -> list[str]:
    """Why each answer, with the tokens of its row, cannot come back; empty if it can."""
    unknown, name, form = backbone.tokenizer.unk_token_id, backbone.name, prompt_form(backbone.tokenizer)
    problems = []
    for answer, row, back in zip(answers, rows, said(backbone.tokenizer, list(rows)), strict=True):
        problem = ""
        if unknown in row:
            problem = f"{name} cannot write it: its tokenizer has no token for {_parts(backbone, answer, {unknown})}"
        elif back != answer:
            problem = f"it would come back from {name} as {back!r}; {_change(answer, back, form)}"
        problems.append(problem)
    return problems


def _change(answer: str, back: str, form: PromptForm) -> str:
    if form.cut(answer).strip() == back:
        start = next(text[1:] for text in form.stops if answer[len(form.cut(answer)) :].startswith(text))
        return f"an answer ends before a line that starts with {start!r}: word it otherwise, or choose another --prompt"
    return "its tokenizer changes it"


def _uncertain(backbone: Backbone, answers: Sequence[str], rows: Sequence[list[int]]) -> list[str]:
    """Why the backbone can never be certain of each answer; empty if it can."""
    dead = unwritable_tokens(backbone.model, {token for row in rows for token in row})
    problem = "{} cannot learn it with certainty: its output hardly tells {} from other tokens"
    return [
        problem.format(backbone.name, _parts(backbone, answer, dead)) if dead.intersection(row) else ""
        for answer, row in zip(answers, rows, strict=True)
    ]


def _parts(backbone: Backbone, answer: str, tokens: set[int]) -> str:
    """The pieces of the answer that these tokens stand for, as a list for people."""
    tokenizer, text = backbone.tokenizer, answer_text(backbone.tokenizer, answer)
    if tokenizer.is_fast:
        read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        spans = zip(read["input_ids"], read["offset_mapping"], strict=True)
        pieces = [text[start:end] for token, (start, end) in spans if token in tokens]
    else:
        (row,) = _tokens(backbone, [text])
        pieces = [str(tokenizer.convert_ids_to_tokens(token)) for token in row if token in tokens]
    return ", ".join(map(repr, dict.fromkeys(pieces)))


def _refuse_twins(backbone: Backbone, facts: Sequence[Fact], file: str | Path, lines: Sequence[int]) -> None:
    """Refuse two questions with different answers that the tokenizer makes the same tokens of."""
    wordings = [(place, text) for place, fact in enumerate(facts) for text in fact.wordings()]
    seen: dict[tuple[int, ...], int] = {}
    for (place, text), row in zip(wordings, _tokens(backbone, [text for _, text in wordings]), strict=True):
        first = seen.setdefault(tuple(row), place)
        if facts[first].answer != facts[place].answer:
            problem = (
                f"{backbone.name} reads it as a question of line {lines[first]}, which has another answer "
                f"({facts[first].answer!r}): its tokenizer makes no difference between them"
            )
            raise FactError(file, lines[place], "question", text, problem)


def _tokens(backbone: Backbone, texts: Sequence[str]) -> list[list[int]]:
    return [list(row) for row in backbone.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _error(
    found: Sequence[Obstacle], file: str | Path, lines: Sequence[int], unwritable: Unwritable
) -> UnwritableError:
    """The error that names the obstacles; the first one in full."""
    named = [
        f"line {line} ({obstacle.field} {obstacle.value!r}: {obstacle.problem})"
        for line, obstacle in zip(lines, found, strict=True)
    ]
    others = "; also " + "; ".join(named[1:MOST_NAMED]) if len(found) > 1 else ""
    more = f"; and {len(found) - MOST_NAMED:,} more" if len(found) > MOST_NAMED else ""
    remedy = "; unwritable='leave_out' (--unwritable leave_out) memorizes the others without them"
    if not all(obstacle.final for obstacle in found):
        remedy += ", 'try' those of which no certainty is possible as well"
    remedy = "; no fact is left" if unwritable == "leave_out" else remedy
    first = found[0]
    error = UnwritableError(file, lines[0], first.field, first.value, f"{first.problem}{others}{more}{remedy}")
    error.obstacles = list(found)
    return error
