"""Free greedy answers of a backbone with memory experts: from memory where a question is recognized, else without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mome.adapter import MomeModel, mome_model
from mome.backbones import Backbone
from mome.evaluation import BATCH_ROWS, greedy_answers
from mome.facts import LONGEST
from mome.queries import question_queries
from mome.routes import Routes

# in tokens: a memorized answer ends by itself, a backbone that knows nothing may ramble
LONGEST_MEMORIZED, LONGEST_BACKBONE = LONGEST["answer"], 40


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer. `memorized`: whether the experts gave it, as the question resembles a memorized one.

    `score` is the cosine to the memorized question that is nearest. Both are None for a LoRA adapter.
    """

    text: str
    memorized: bool | None = None
    score: float | None = None

    def __str__(self) -> str:
        return self.text


def answer_questions(
    backbone: Backbone,
    questions: Sequence[str],
    longest: int = LONGEST_MEMORIZED,
    backbone_longest: int = LONGEST_BACKBONE,
) -> list[Answer]:
    """The answers to `questions`; those that resemble no memorized one are answered by the backbone alone.

    `longest` and `backbone_longest` bound an answer from memory and one of the backbone, in tokens.
    """
    model, tokenizer = backbone.model, backbone.tokenizer
    mome = mome_model(model)
    if mome is None:
        return [Answer(text) for text in greedy_answers(model, tokenizer, questions, longest)]
    routes = mome.router.route(question_queries(model, tokenizer, questions))
    known = routes.weights.any(dim=1).tolist()
    texts: dict[int, str] = {}
    for memorized, most in ((True, longest), (False, backbone_longest)):
        chosen = [index for index, found in enumerate(known) if found is memorized]
        texts |= _answers(mome, backbone, questions, routes, chosen, memorized, most)
    found = zip(range(len(questions)), known, routes.scores.tolist(), strict=True)
    return [Answer(texts[index], memorized, score) for index, memorized, score in found]


def _answers(
    mome: MomeModel,
    backbone: Backbone,
    questions: Sequence[str],
    routes: Routes,
    chosen: list[int],
    memorized: bool,
    longest: int,
) -> dict[int, str]:
    """The answers to the `chosen` questions, by their number, with the experts of `routes` or without any."""
    texts: dict[int, str] = {}
    order = sorted(chosen, key=lambda index: len(questions[index]))  # as greedy_answers puts its rows
    for start in range(0, len(order), BATCH_ROWS):
        part = order[start : start + BATCH_ROWS]
        rows = Routes(routes.ids[part], routes.weights[part], routes.scores[part])
        asked = [questions[index] for index in part]
        with mome.using(mome.select(rows) if memorized else None):
            answers = greedy_answers(mome.model, backbone.tokenizer, asked, longest)
        texts.update(zip(part, answers, strict=True))
    return texts
