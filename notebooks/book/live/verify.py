"""The graph is compared with the package: it must choose and answer as `Memory.ask` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
import onnxruntime
import torch

from live.memory import HERE, rows_of, tuner
from mome import Memory
from mome.lm.encoding import said
from mome.lm.prompts.frame import prompt_ids
from mome.memory.answers import LONGEST_BACKBONE, LONGEST_MEMORIZED


class Graph:
    """The exported graph with the memory's router and rows around it, as the page's script has them."""

    def __init__(self, model: bytes, memory: Memory) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model, options)
        self.memory, self.mome = memory, tuner(memory)
        ids, self.rows = rows_of(memory)
        self.place = {expert: row for row, expert in enumerate(ids)}

    def ask(self, question: str) -> tuple[str, bool, float]:
        """The answer, whether the question was recognized, and its score."""
        assert self.memory.editor is not None
        read = self.memory.editor.holdings.read_as(question)
        (ids,) = prompt_ids(self.memory.backbone.tokenizer, [read])
        nothing = numpy.zeros_like(self.rows[: self.mome.settings.top_k]), numpy.ones(self.mome.settings.top_k, "f4")
        query = self._run(ids, *nothing)[1]
        routes = self.mome.router.route(torch.from_numpy(query)[None], [read])
        score = float(routes.scores[0])
        if not routes.weights.any():
            return self._greedy(ids, nothing, LONGEST_BACKBONE), False, score
        rows = self.rows[[self.place[expert] for expert in routes.ids[0].tolist()]]
        return self._greedy(ids, (rows, routes.weights[0].numpy()), LONGEST_MEMORIZED), True, score

    def _greedy(self, prompt: Sequence[int], experts: tuple[Any, Any], longest: int) -> str:
        tokenizer, ids = self.memory.backbone.tokenizer, list(prompt)
        while len(ids) < len(prompt) + longest:
            ids.append(int(self._run(ids, *experts)[0].argmax()))
            generated = ids[len(prompt) :]
            (text,) = tokenizer.batch_decode([generated], skip_special_tokens=True)
            if ids[-1] == tokenizer.eos_token_id or said(tokenizer, [generated])[0] != text.strip():
                break
        return said(tokenizer, [ids[len(prompt) :]])[0]

    def _run(self, ids: Sequence[int], rows: Any, weights: Any) -> list[Any]:
        given = {"ids": numpy.array([ids], "i8"), "rows": rows, "weights": weights}
        found: list[Any] = self.session.run(None, given)
        return found


def check(model: bytes, memory: Memory) -> list[dict[str, Any]]:
    """Ask the graph and the package for all facts and for the questions of `unknown.txt`; the answers of both.

    Raises:
        RuntimeError: they differ in an answer, or in whether they recognize a question.
    """
    graph, unknown = Graph(model, memory), (HERE / "unknown.txt").read_text("utf-8").splitlines()
    questions, answers = [*(fact.question for fact in memory.facts), *unknown], []
    for question, answer in zip(questions, memory.ask_all(questions), strict=True):
        found = graph.ask(question)
        if found[:2] != (answer.text, answer.recognized):
            raise RuntimeError(f"{question!r}: the graph gives {found}, the package {answer}, {answer.label}")
        answers.append({"question": question, "answer": answer.text, "memorized": answer.memorized})
    return answers
