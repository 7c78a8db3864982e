"""Numbers and letters are marked with their units, types and tolerances."""

import math

import numpy
import pandas
import pytest
import torch

from mome.replication.notebook.exercises.marking import NATS, SHARE, choice, number

SAID = {"follows": "so it is.", "hint": "think of b."}


@pytest.mark.parametrize("given", [2, 2.0, 1.99, numpy.float32(2), torch.tensor([2.0]), pandas.Series([2.0]).sum()])
def test_a_number_of_any_kind_is_taken(given: object):
    assert number(given, 2.0, unit="tokens", **SAID).right


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("2", "without quotation marks"),
        ([2.0], "one number is asked for, not something of type list"),
        (torch.tensor([1.0, 2.0]), "type Tensor"),
        (True, "type bool"),
        (math.nan, "finite"),
        (3.0, "too large. think of b."),
        (1.0, "too small. think of b."),
        (-2.0, "sign"),
    ],
)
def test_what_is_no_right_number_gets_one_sentence(given: object, reason: str):
    mark = number(given, 2.0, unit="tokens", **SAID)
    assert mark.right is False and reason in mark.said


def test_a_wrong_unit_is_recognized_where_the_unit_has_it():
    assert "bits" in number(1.4427, 1.0, unit=f"{NATS}/token", **SAID).said
    assert "base 10" in number(0.4343, 1.0, unit=NATS, **SAID).said
    assert "per cent" in number(25, 0.25, unit=SHARE, **SAID).said
    assert "too large" in number(25, 0.25, unit="tokens", **SAID).said


def test_a_very_small_probability_is_compared_by_ratio():
    assert number(1.001e-30, 1e-30, unit=SHARE, **SAID).right
    assert number(0.0, 1e-30, unit=SHARE, **SAID).right is False


def test_a_known_mistake_comes_with_its_reason_unless_it_is_right_here():
    mistakes = {4.0: "that is twice too much."}
    assert number(4.0, 2.0, unit="tokens", mistakes=mistakes, **SAID).said == "that is twice too much."
    assert number(4.0, 4.0, unit="tokens", mistakes=mistakes, **SAID).right


@pytest.mark.parametrize(("given", "right"), [("b", True), ("B)", True), ("a", False), ("e", False), (2, False)])
def test_a_letter_is_marked_however_it_is_written(given: object, right: bool):
    mark = choice(given, "b", "so it is.", {"a": "no, since c.", "c": "no."})
    assert mark.right is right
    assert mark.said == {"a": "no, since c."}.get(str(given), mark.said)
