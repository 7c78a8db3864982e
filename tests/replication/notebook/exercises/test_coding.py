"""A reader's function is run beside the package's, and its errors stay its own."""

import pytest
import torch

from mome.replication.notebook.exercises.coding import function

INPUTS = [(torch.arange(3.0), 2.0), (torch.ones(5), 3.0)]
SAID = {"follows": "so it is.", "hint": "multiply."}


def times(x, factor):
    return x * factor


def both(x, factor):
    return x * factor, x.sum()


def test_the_same_numbers_are_right_whatever_type_holds_them():
    assert function(times, INPUTS, times, **SAID).right
    assert function(lambda x, factor: (x * factor).tolist(), INPUTS, times, **SAID).right
    assert function(both, INPUTS, both, **SAID).right


@pytest.mark.parametrize("nothing", [None, ...])
def test_a_function_that_returns_nothing_yet_is_not_answered(nothing: object):
    assert function(lambda *_: nothing, INPUTS, times, **SAID).right is None


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (lambda x, factor: x + factor, "that adds."),
        (lambda x, factor: x * factor + 0.5, "multiply."),
        (lambda x, factor: (x * factor)[:2], "shape [2]; [3]"),
        (lambda x, factor: {"x": x}, "type dict"),
        (both, "2 tensor(s); 1 are"),
        (times(*INPUTS[0]), "type Tensor: give its name"),
    ],
)
def test_a_wrong_function_is_told_why(given: object, reason: str):
    mark = function(given, INPUTS, times, mistakes={"that adds.": lambda x, factor: x + factor}, **SAID)
    assert mark.right is False and reason in mark.said


def test_an_error_in_the_readers_function_is_the_readers():
    def broken(x, factor):
        raise IndexError("of the reader")

    with pytest.raises(IndexError, match="of the reader"):
        function(broken, INPUTS, times, **SAID)
