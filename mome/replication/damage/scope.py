"""Out-of-scope texts: what memory experts should not recognize, and how much of it they do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas

from mome.adapter.model import mome_model
from mome.adapter.queries import question_routes
from mome.lm.loading import Backbone
from mome.replication.damage.choices import cloze_items, truthfulqa_items
from mome.replication.damage.sets import passages, small_talk


def out_of_scope(memorized: Collection[str] = ()) -> dict[str, list[tuple[str, str]]]:
    """Texts that belong to no memorized fact, as (id, text): TruthfulQA, stems of MMLU, LAMBADA and small talk.

    Questions that are `memorized` are left out.

    Raises: as `mome.replication.damage.choices.choice_questions`.
    """
    found = {
        "truthfulqa": [(item.id, item.question) for item in truthfulqa_items("mc1")],
        "mmlu": [(item.id, item.question) for item in cloze_items()],
        "lambada": [(item.id, item.text) for item in passages()],
        "small_talk": [(item.id, item.text) for item in small_talk()],
    }
    stored = set(memorized)
    return {name: [pair for pair in pairs if pair[1] not in stored] for name, pairs in found.items()}


def recognized(backbone: Backbone, texts: Mapping[str, Sequence[tuple[str, str]]]) -> pandas.DataFrame:
    """Which texts memory experts would answer, each asked as a question.

    Columns: set, item (id), recognized.

    Raises:
        ValueError: the backbone has no memory experts.
    """
    if mome_model(backbone.model) is None:
        raise ValueError(f"{backbone.name}: has no memory experts that could recognize a text")
    asked = [(name, identity, text) for name, pairs in texts.items() for identity, text in pairs]
    routes = question_routes(backbone.model, backbone.tokenizer, [text for _, _, text in asked])
    found = routes.weights.any(dim=1).tolist()
    table = pandas.DataFrame(asked, columns=["set", "item", "text"]).drop(columns="text")
    return table.assign(recognized=[bool(each) for each in found])
