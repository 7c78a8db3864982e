"""Greedy answers of a model with memory experts: from the experts if a question is recognized, else the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from mome.adapter.model import MomeModel, mome_model
from mome.adapter.queries import question_queries
from mome.adapter.selection import Routes
from mome.facts.records import LONGEST
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.lm.losses import BATCH_ROWS
from mome.lm.prompts.form import History
from mome.lm.streaming import Show, streamed_answer

# in tokens: a memorized answer ends by itself; a backbone that does not know the answer may go on and on
LONGEST_MEMORIZED, LONGEST_BACKBONE = LONGEST["answer"], 40


@dataclass(frozen=True, slots=True)
class FreeAnswer:
    """An answer as the model generated it, not yet compared with the facts (`mome.memory.checking` does that).

    `recognized`: the question resembles a memorized one, so the experts answered. `score` is the similarity to the
    nearest anchor, `anchor` the number of that anchor. All three are None for a LoRA adapter.
    """

    text: str
    recognized: bool | None = None
    score: float | None = None
    anchor: int | None = None

    def __str__(self) -> str:
        return self.text


def undisturbed(backbone: Backbone) -> AbstractContextManager[None]:
    """While the context lasts, no thread edits `backbone`'s memory experts."""
    mome = mome_model(backbone.model)
    return nullcontext() if mome is None else mome.gate.reading()


def answer_questions(
    backbone: Backbone,
    questions: Sequence[str],
    longest: int = LONGEST_MEMORIZED,
    backbone_longest: int = LONGEST_BACKBONE,
    *,
    history: History = (),
) -> list[FreeAnswer]:
    """The answers to `questions`; those that resemble no memorized one are answered by the backbone alone.

    The backbone answers after the turns of `history`. Experts are chosen and answer as if nothing had been said before,
    since so they were trained; LoRA, which cannot tell, answers after the turns.

    Any number of threads may ask at a time; none sees an edit half made. `longest` and `backbone_longest` bound an
    answer from memory and one of the backbone, in tokens.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    mome = mome_model(model)
    if mome is None:
        return [FreeAnswer(text) for text in greedy_answers(model, tokenizer, questions, longest, history)]
    with undisturbed(backbone):
        routes, empty = _routed(mome, backbone, questions)
        known = [bool(answer.recognized) for answer in empty]
        texts: dict[int, str] = {}
        for recognized, most, turns in ((True, longest, ()), (False, backbone_longest, history)):
            chosen = [index for index, found in enumerate(known) if found is recognized]
            texts |= _answers(mome, backbone, questions, routes, chosen, recognized, most, turns)
    return [replace(answer, text=texts[index]) for index, answer in enumerate(empty)]


def stream_answer(
    backbone: Backbone,
    question: str,
    history: History,
    listen: Callable[[FreeAnswer], Show],
    longest: int = LONGEST_MEMORIZED,
    backbone_longest: int = LONGEST_BACKBONE,
) -> FreeAnswer:
    """The answer to the last question of a conversation, shown as it is generated.

    The question is routed by itself. If it is recognized, the experts answer it as if nothing had been said before,
    which is how they were trained; else the backbone answers after the turns of `history`. `listen` is told who
    answers, before there is a text, and says where the pieces of the text go.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    mome = mome_model(model)
    if mome is None:
        show = listen(FreeAnswer(""))
        return FreeAnswer(streamed_answer(model, tokenizer, question, longest, history, show))
    with undisturbed(backbone):
        routes, (found,) = _routed(mome, backbone, [question])
        turns, most = ((), longest) if found.recognized else (history, backbone_longest)
        with mome.using(mome.select(routes) if found.recognized else None):
            text = streamed_answer(mome.model, tokenizer, question, most, turns, listen(found))
    return replace(found, text=text)


def stream_backbone(backbone: Backbone, question: str, history: History, show: Show, longest: int) -> str:
    """The answer of the backbone without its adapter, of at most `longest` tokens, shown as it is generated."""
    mome, model, tokenizer = mome_model(backbone.model), backbone.model, backbone.tokenizer
    if mome is not None:
        with mome.using(None):
            return streamed_answer(mome.model, tokenizer, question, longest, history, show)
    off: Any = model
    with off.disable_adapter():
        return streamed_answer(model, tokenizer, question, longest, history, show)


def _routed(mome: MomeModel, backbone: Backbone, questions: Sequence[str]) -> tuple[Routes, list[FreeAnswer]]:
    """The experts of each question, and its answer still without a text: whether it is recognized, and as what."""
    queries = question_queries(backbone.model, backbone.tokenizer, questions)
    routes, nearest = mome.router.route(queries, questions), mome.router.anchors.recognize(queries, questions)[1]
    known = (routes.weights.any(dim=1) & mome.state.working).tolist()
    found = zip(known, routes.scores.tolist(), nearest.tolist(), strict=True)
    return routes, [FreeAnswer("", *each) for each in found]


def backbone_answers(
    backbone: Backbone, questions: Sequence[str], longest: int = LONGEST_BACKBONE, history: History = ()
) -> list[str]:
    """The answers of the backbone without its memory experts, of at most `longest` tokens, after turns of `history`."""
    mome = mome_model(backbone.model)
    assert mome is not None
    with mome.using(None):
        return greedy_answers(mome.model, backbone.tokenizer, questions, longest, history)


def _answers(
    mome: MomeModel,
    backbone: Backbone,
    questions: Sequence[str],
    routes: Routes,
    chosen: list[int],
    recognized: bool,
    longest: int,
    history: History,
) -> dict[int, str]:
    """The answers to the `chosen` questions, by their number, with the experts of `routes` or without any."""
    texts: dict[int, str] = {}
    order = sorted(chosen, key=lambda index: len(questions[index]))  # as greedy_answers puts its rows
    for start in range(0, len(order), BATCH_ROWS):
        part = order[start : start + BATCH_ROWS]
        rows = Routes(routes.ids[part], routes.weights[part], routes.scores[part])
        asked = [questions[index] for index in part]
        with mome.using(mome.select(rows) if recognized else None):
            answers = greedy_answers(mome.model, backbone.tokenizer, asked, longest, history)
        texts.update(zip(part, answers, strict=True))
    return texts
