"""Known questions: right under each prompt, and under all."""

import pandas

from mome.lm.loading import Backbone
from mome.replication.damage.known import known_answers, known_by_item
from mome.replication.damage.sets import Item
from mome.replication.damage.texts import contains, first_line


def test_answers_are_right_where_their_first_line_contains_an_accepted_one(random_backbone: Backbone) -> None:
    asked = [Item("1", "Where is Lima?", ("nowhere",)), Item("2", "Who wrote Emma?", ("nobody",))]
    table = known_answers(random_backbone.model, random_backbone.tokenizer, asked)
    assert table["format"].tolist() == ["qa", "qa", "question_answer", "question_answer"]
    assert not table["right"].any()
    words = first_line(table["answer"][0]).split()
    first = next(word for word in words if contains(word, [word]))
    told = [Item("1", "Where is Lima?", ("nowhere", first)), asked[1]]
    again = known_answers(random_backbone.model, random_backbone.tokenizer, told)
    assert again["right"][0] and not again["right"][1]


def test_a_question_counts_by_its_prompts() -> None:
    table = pandas.DataFrame({"item": ["b", "a", "b", "a"], "right": [True, True, False, True]})
    found = known_by_item(table)
    assert found["item"].tolist() == ["b", "a"]
    assert found["right"].tolist() == [0.5, 1.0]
    assert found["right_all"].tolist() == [False, True]
