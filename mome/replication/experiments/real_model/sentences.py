"""Table 1 in natural sentences: six questions, chosen by rule, asked before and after memorizing.

`mome table sentences` measures it. The rows are, as in the paper's table: three questions that the backbone answers
rightly, one that it answers wrongly, one about a thing that nobody can know, and one that was tuned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.lm.prompts.form import with_prompt
from mome.replication.damage.sets import known_questions
from mome.replication.experiments.made_up import made_up_facts
from mome.replication.experiments.pools import select_facts, tuning_pool
from mome.replication.experiments.real_model.memorizing import Cell, cell_facts, memorize_cell
from mome.replication.notebook.backbones import asked_backbone

KEY = ["backbone", "seed", "row"]
FORMATS = {"tuned_format": "qa", "chat": "chat"}
LONGEST = 48  # tokens of an answer


def table_rows(name: str, dataset: str, facts: int, rate: float, seed: int) -> Iterator[dict[str, Any]]:
    """Six rows: the kind of question, the question, the right answer, and what each model answers in each format.

    The models are the untouched backbone, and LoRA after memorizing random and real answers.
    """
    asked = questions(name, dataset, facts, seed)
    models = {"before": asked_backbone(name)}
    for answers in ("random", "real"):
        cell = Cell(name, dataset, facts, answers, "lora", rate, seed)
        models[f"tuned_on_{answers}"] = memorize_cell(cell, cell_facts(cell)[0]).backbone
    columns = {
        f"{title}_{form}": answers_in(model, form, [text for _, text, _ in asked])
        for title, model in models.items()
        for form in FORMATS
    }
    for place, (kind, text, right) in enumerate(asked):
        labels = dict(zip(KEY, (name, seed, place + 1), strict=True))
        yield (
            labels
            | {"kind": kind, "question": text, "right": right}
            | {column: found[place] for column, found in columns.items()}
        )


def questions(name: str, dataset: str, facts: int, seed: int) -> list[tuple[str, str, str]]:
    """Kind, question and right answer of each row, chosen by rule: the first ones of their lists.

    Known: the set of questions that the backbone answers rightly. Unknown: shipped facts that it answers wrongly. New:
    made-up facts. Tuned: the run's facts.
    """
    known = [("known", item.text, item.answers[0]) for item in known_questions()[:3]]
    unknown = select_facts(asked_backbone(name), tuning_pool("shipped"), 1, seed).facts[0]
    new = made_up_facts(1, seed, absent=True)[0]
    cell = Cell(name, dataset, facts, "real", "lora", 0.0, seed)
    tuned = cell_facts(cell)[0][0]
    rest = (("unknown", unknown), ("new", new), ("tuned", tuned))
    return [*known, *((kind, fact.question, fact.answer) for kind, fact in rest)]


def answers_in(backbone: Backbone, form: str, texts: list[str]) -> list[str]:
    """The greedy answers in a format of `FORMATS`, with line breaks written as spaces."""
    tokenizer = with_prompt(backbone.tokenizer, FORMATS[form])
    return [" ".join(answer.split()) for answer in greedy_answers(backbone.model, tokenizer, texts, LONGEST)]
