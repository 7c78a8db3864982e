"""Each exercise of notebooks 00 to 05 takes the right answer, and says of typical wrong ones what is wrong."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from mome.replication.notebook.exercises.checking import judge
from mome.replication.notebook.exercises.notebooks_00_to_05 import EXERCISES


def losses_of(logits, ids, answer_tokens):
    log_p = logits.log_softmax(dim=1)[-answer_tokens - 1 : -1]
    return -log_p.gather(1, ids[-answer_tokens:, None])[:, 0]


def update(x, a, b, ids, w):
    read = torch.einsum("qtd,qkd->qtk", x, a[ids])
    return torch.einsum("qtk,qk,qko->qto", read, w, b[ids])


TOKENS = {"losses": [0.5, 2.0, 0.1]}
LAW = {"law_loss": 2.0, "paper_loss": 1.75}
RIGHT = [
    ("00.a", math.exp(-2.6), TOKENS),
    ("00.a", torch.tensor([0.5, 2.0, 0.1]).neg().exp().prod(), TOKENS),
    ("00.b", "b", {}),
    ("00.b", " (B) ", {}),
    ("01.a", 3.2, {}),
    ("01.b", losses_of, {}),
    ("01.b", lambda *x: losses_of(*x).tolist(), {}),
    ("02.a", 0.1 + 0.9 / 4, {"free": 0.1}),
    ("02.b", 0.512, {}),
    ("03.a", 14.74, {}),
    ("03.b", 0.125, LAW),
    ("04.a", 0.098, {}),
    ("04.b", 0.393, {}),
    ("05.a", update, {}),
    ("05.a", lambda x, a, b, ids, w: (x @ a[ids].mT * w[:, None]) @ b[ids], {}),
    ("05.b", 1000, {}),
]
WRONG = [
    ("00.a", math.exp(-2.6 / 3), TOKENS, "mean loss"),
    ("00.a", math.exp(-2.0), TOKENS, "worst token alone"),
    ("00.a", 2.6, TOKENS, "loss of the whole answer"),
    ("00.a", 100 * math.exp(-2.6), TOKENS, "per cent"),
    ("00.b", "a", {}, "asked them the wrong question"),
    ("00.b", "x", {}, "one letter"),
    ("00.b", 2, {}, "one letter"),
    ("01.a", 2.23, {}, "power of 2"),
    ("01.a", 0.3135, {}, "probability of the right token"),
    ("01.a", 5, {}, "too large"),
    ("01.b", lambda lo, ids, n: cross_entropy(lo[-n:], ids[-n:], reduction="none"), {}, "place t predict"),
    ("01.b", lambda *x: losses_of(*x) / math.log(2), {}, "bits"),
    ("01.b", lambda *x: losses_of(*x).mean(), {}, "one mean"),
    ("01.b", lambda *x: losses_of(*x)[:1], {}, "shape [1]"),
    ("01.b", lambda *x: "3", {}, "type str"),
    ("01.b", lambda *x: losses_of(*x) + 1, {}, "log_softmax over the vocabulary"),
    ("01.b", 3.0, {}, "function is asked for"),
    ("02.a", 0.1, {"free": 0.1}, "leaves out the guesses"),
    ("02.a", 32.5, {"free": 0.1}, "per cent"),
    ("02.b", 0.008, {}, "all three leak"),
    ("02.b", 0.4, {}, "multiplied"),
    ("03.a", 13.74, {}, "number of repetitions"),
    ("03.a", 10, {}, "as much as a new one"),
    ("03.b", 0.25, LAW, "gap in nats"),
    ("03.b", 12.5, LAW, "per cent"),
    ("04.a", 3.912, {}, "does not ask which token is right"),
    ("04.a", 0.1414, {}, "bits"),
    ("04.b", 0.607, {}, "share of right answers"),
    ("04.b", 0, {}, "greedy"),
    ("05.a", lambda x, a, b, ids, w: x @ a[ids].mT @ b[ids], {}, "weights are missing"),
    ("05.a", lambda *x: update(*x[:4], x[4] / x[4].shape[1]), {}, "mean over the experts"),
    ("05.a", lambda x, a, b, ids, w: update(x, a, b, ids[:1].expand_as(ids), w[:1].expand_as(w)), {}, "of its own"),
    ("05.a", lambda x, a, b, ids, w: x @ a.T @ b, {}, "Take a[ids]"),
    ("05.b", 500, {}, "half the numbers"),
]


@pytest.mark.parametrize(("name", "answer", "seen"), RIGHT)
def test_a_right_answer_is_right(name: str, answer: object, seen: dict):
    mark = judge(name, answer, **seen)
    assert mark.right is True, mark.said


@pytest.mark.parametrize(("name", "answer", "seen", "reason"), WRONG)
def test_a_wrong_answer_is_told_why(name: str, answer: object, seen: dict, reason: str):
    mark = judge(name, answer, **seen)
    assert mark.right is False and reason in mark.said


@pytest.mark.parametrize("name", EXERCISES)
def test_each_exercise_has_a_right_and_a_wrong_answer_here(name: str):
    assert name in {row[0] for row in RIGHT} and name in {row[0] for row in WRONG}


def test_a_mistake_that_is_the_right_answer_here_is_right():
    assert judge("02.a", 1.0, free=1.0).right
