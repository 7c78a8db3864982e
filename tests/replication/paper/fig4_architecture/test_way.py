"""The way of a question is what the model does, and the box draws another one; without a user it is a figure."""

from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from mome.adapter.model import mome_model
from mome.facts.fact import Fact
from mome.memory.memory import Memory
from mome.replication.paper.fig4_architecture.way import QuestionBox, question_box, way


def test_the_way_of_a_memorized_question_ends_in_its_answer(memory: Memory, facts: list[Fact]):
    found = way(memory.backbone.model, memory.backbone, facts[0].question)
    mome: Any = mome_model(memory.backbone.model)
    assert found.answer == facts[0].answer and found.score > found.min_score
    assert torch.equal(found.ids, mome.router.anchors.ids[0]) and found.weights.gt(0).all()
    assert len(found.words) == len(found.attention) == found.states.shape[1]
    assert float(found.attention.sum()) == pytest.approx(1.0)
    assert found.logits.shape[1] == found.delta.shape[1] and found.delta.abs().max() > 0


def test_a_question_below_the_threshold_gets_nothing_from_its_experts(memory: Memory):
    found = way(memory.backbone.model, memory.backbone, "Is it raining?")
    assert found.score < found.min_score
    assert not found.weights.any() and not found.delta.any()


def test_without_a_user_there_is_the_figure_alone():
    figure = Figure()
    assert question_box(figure, lambda _: Figure(), "Who?") is figure


def test_the_button_draws_the_question_in_the_line():
    asked: list[str] = []

    def draw(question: str) -> Figure:
        asked.append(question)
        figure = Figure()
        figure.add_axes((0, 0, 1, 1))
        return figure

    box = QuestionBox(Figure(), draw, "Who?")
    first = bytes(box.drawing.value)
    assert first.startswith(b"\x89PNG") and not asked
    box.question.value = " Who <i>paints</i>? "
    box.button.click()
    assert asked == ["Who <i>paints</i>?"] and bytes(box.drawing.value) != first
    assert box.said.value == "The way of: Who &lt;i&gt;paints&lt;/i&gt;?"
    box.question.value = " "
    box.button.click()
    assert len(asked) == 1 and box.said.value.startswith("not asked: ")
