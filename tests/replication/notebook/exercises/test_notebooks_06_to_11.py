"""Each exercise of notebooks 06 to 11 takes the right answer, and says of typical wrong ones what is wrong."""

import math

import pytest

from mome.replication.notebook.exercises.checking import judge
from mome.replication.notebook.exercises.notebooks_06_to_11 import EXERCISES


def choice(q, keys, k, temperature):
    best = (q @ keys.T).topk(k)
    return best.indices, k * (best.values / temperature).softmax(dim=1)


def softmax_first(q, keys, k, temperature):
    best = (q @ keys.T / temperature).softmax(dim=1).topk(k)
    return best.indices, k * best.values


def softmax_of_columns(q, keys, k, temperature):
    best = (q @ keys.T).topk(k)
    return best.indices, k * (best.values / temperature).softmax(dim=0)


def in_order_of_ids(*inputs):
    ids, weights = choice(*inputs)
    order = ids.argsort(dim=1)
    return ids.gather(1, order), weights.gather(1, order)


LEAKS = {"leaks": {"lora": 0.9, "lora_gated": 0.1, "mome": 0.05}}
RIGHT = [
    ("06.a", choice, {}),
    ("06.b", 0.8 / 0.85, LEAKS),
    ("06.b", 1, {"leaks": {"lora": 0.9456, "lora_gated": 0.0, "mome": 0.0}}),
    ("07.a", 92.1, {}),
    ("07.b", 0.8, {}),
    ("08.a", 0.54, {}),
    ("08.b", 3.57, {}),
    ("09.a", 9.38, {}),
    ("09.b", 0.75, {}),
    ("10.a", 11, {}),
    ("10.b", 0.941, {}),
    ("11.a", 24.8, {}),
    ("11.a", 24, {}),  # of whole facts
    ("11.b", 255 / 64, {}),
]
WRONG = [
    ("06.a", softmax_first, {}, "not over all N"),
    ("06.a", softmax_of_columns, {}, "over the questions"),
    ("06.a", lambda q, keys, k, t: choice(q, keys, k, 1.0), {}, "temperature"),
    ("06.a", lambda *x: (choice(*x)[0], choice(*x)[1] / x[2]), {}, "sum to k"),
    ("06.a", in_order_of_ids, {}, "best expert comes first"),
    ("06.a", lambda *x: choice(*x)[0], {}, "ids alone"),
    ("06.a", lambda *x: choice(*x)[::-1], {}, "Take topk"),
    ("06.b", 0.8, LEAKS, "in points"),
    ("06.b", 0.05 / 0.85, LEAKS, "the experts' share"),
    ("07.a", 46.05, {}, "factor of 0.5"),
    ("07.a", 9.21, {}, "rate of the pattern"),
    ("07.b", 0.55, {}, "equally large"),
    ("07.b", 0.3, {}, "mean over both"),
    ("08.a", 0.45, {}, "the paper's"),
    ("08.a", 54, {}, "per cent"),
    ("08.a", 0.00096, {}, "printed FLOPs"),
    ("08.b", 1.43e12, {}, "all tokens"),
    ("08.b", 0.0357, {}, "hundred epochs"),
    ("09.a", 500, {}, "ratio of the counts"),
    ("09.a", 5.81, {}, "difference"),
    ("09.b", 0.998, {}, "turned away"),
    ("09.b", 0.6, {}, "false ones pass"),
    ("09.b", 75, {}, "per cent"),
    ("10.a", 12, {}, "round down"),
    ("10.a", 24 * 34 * 0.01 / math.log(2), {}, "whole"),
    ("10.a", 0, {}, "is the mean"),
    ("10.b", 0.64, {}, "divided by their sum"),
    ("10.b", 2 / 3, {}, "temperature 2"),
    ("11.a", 2048, {}, "each parameter"),
    ("11.a", 128, {}, "5.2 bits"),
    ("11.b", 0.1245, {}, "it has 32"),
    ("11.b", 0.0155, {}, "there are 255"),
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
