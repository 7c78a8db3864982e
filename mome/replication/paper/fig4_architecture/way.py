"""The way of any question through a model with memory experts, and the box of notebook 05 that asks for one."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mome.adapter.model import mome_model
from mome.adapter.queries import question_queries, question_states
from mome.adapter.router import normalized
from mome.facts.strict import FactError
from mome.lm.encoding import encode_prompts
from mome.lm.generation import greedy_answers
from mome.lm.loading import Backbone
from mome.memory.memory import check_questions
from mome.replication.notebook.front_end import button, png, shown
from mome.replication.paper.fig4_architecture.figure import Walk

WIDE = {"width": "40em"}


@torch.no_grad()
def way(model: Any, backbone: Backbone, question: str) -> Walk:
    """What the router, the index and the experts of the last adapted module make of `question`."""
    mome, tokenizer = mome_model(model), backbone.tokenizer
    assert mome is not None
    router, name = mome.router, max(mome.bank.shapes)
    (states,) = question_states(model, tokenizer, [question])
    attention = (normalized(states).double() @ router.pool.double().T).softmax(dim=0).mean(dim=1)
    query = question_queries(model, tokenizer, [question])
    routes = router.route(query, [question])
    ids, mask, read = (each.to(backbone.device) for each in encode_prompts(tokenizer, [question]))
    entered, logits = _watched(model, mome.model.get_submodule(name), ids, mask, read)
    a, b = mome.bank.split(name, mome.bank.read(routes.ids[0].cpu())[name].to(backbone.device))
    delta = torch.einsum("k,kro,kri,qti->qto", routes.weights[0], b, a, entered.float())
    words = [str(tokenizer.decode([number])) for number in ids[0][read[0]].tolist()]
    ranks = range(1, router.top_k + 1)
    return Walk(
        words=words,
        states=states[None],
        attention=attention,
        query=query,
        score=float(routes.scores[0]),
        min_score=-1.0 if router.min_score is None else router.min_score,
        candidates=sum(router.top_k // rank for rank in ranks),
        ids=routes.ids[0],
        weights=routes.weights[0],
        module=name,
        a=a,
        b=b,
        delta=delta,
        logits=logits,
        answer=greedy_answers(model, tokenizer, [question])[0],
    )


def _watched(model: Any, module: Any, ids: Tensor, mask: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """One pass: what enters `module` [1, T, d_in], and the logits [1, T, V]."""
    entered: list[Tensor] = []
    watch = module.register_forward_hook(lambda _, inputs, __: entered.append(inputs[0]))
    try:
        logits: Tensor = model(input_ids=ids, attention_mask=mask, prompt_mask=read).logits
    finally:
        watch.remove()
    return entered[0], logits


def question_box(figure: Figure, draw: Callable[[str], Figure], question: str) -> Any:
    """A line for a question, of which `draw` makes another figure; where no user is there, `figure` alone."""
    return shown(lambda: QuestionBox(figure, draw, question).view, figure)


class QuestionBox:
    """A line to write a question in, a button, and the drawing of its way; `view` is the widget."""

    def __init__(self, figure: Figure, draw: Callable[[str], Figure], question: str) -> None:
        self.draw = draw
        self.question = ipywidgets.Text(value=question, description="question", layout=WIDE)
        self.button = button("Draw its way", self.ask)
        self.said = ipywidgets.HTML("Write another question, and press the button.")
        self.drawing = ipywidgets.Image(value=png(figure), format="png")
        self.view = ipywidgets.VBox([ipywidgets.HBox([self.question, self.button]), self.said, self.drawing])

    def ask(self) -> None:
        """Draw the way of the question in the line."""
        question = self.question.value.strip()
        try:
            check_questions([question])
        except FactError as error:
            self.said.value = f"not asked: {escape(error.problem)}"
            return
        self.drawing.value = png(self.draw(question))
        self.said.value = f"The way of: {escape(question)}"
