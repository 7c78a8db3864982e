"""The simple network shares what its facts share, and training ends where the theory says."""

import math

import numpy
import pytest
import torch

from mome.replication.paper.sec5_threshold.simple_network import (
    SimpleNetwork,
    contexts_of,
    draw_answers,
    train_simple_network,
)
from mome.replication.paper.sec5_threshold.theory import collision_mean_loss


def test_contexts_are_shared_until_answers_part():
    answers = numpy.array([[1, 2, 3], [1, 2, 4], [0, 2, 3], [1, 2, 3]])
    contexts = contexts_of([7, 7, 7, 8], answers)
    first, second, third, other = contexts.tolist()
    assert first == second  # they part after the last context
    assert third[0] == first[0] and not {*third[1:]} & {*first}
    assert not {*other} & {*first, *third}
    assert sorted({*contexts.ravel().tolist()}) == list(range(8))


def test_logits_are_those_of_one_hot_contexts():
    network = SimpleNetwork(5, hidden=4, vocabulary=3, seed=1)
    one_hot = torch.eye(5)[[3, 0]]
    torch.testing.assert_close(network(torch.tensor([3, 0])), one_hot @ network.A @ network.B)
    assert not torch.equal(network.A, SimpleNetwork(5, 4, 3, seed=2).A)


def test_answers_are_all_different_or_of_some_kinds():
    different = draw_answers(8, 3, 2, seed=0)
    assert {tuple(answer) for answer in different.tolist()} == {*numpy.ndindex(2, 2, 2)}
    popular = draw_answers(400, 3, 6, seed=0, kinds=4)
    counts = sorted(numpy.unique(popular, axis=0, return_counts=True)[1])
    assert len(counts) == 4 and 160 < counts[-1] < 240 and counts[-2] < 110
    assert len(numpy.unique(draw_answers(9, 1, 2, seed=0, kinds=1))) == 1
    with pytest.raises(ValueError, match="9 different answers: 3 tokens of 2 spell only 8"):
        draw_answers(9, 3, 2, seed=0)


@pytest.mark.parametrize(
    ("cells", "entropy", "wrong"), [(6, 0, 0), (5, math.log(2) / 3, 1 / 6), (1, math.log(6), 5 / 6)]
)
def test_training_ends_at_the_entropy_and_the_threshold_is_sharp(cells, entropy, wrong):
    torch.set_num_threads(1)
    answers = draw_answers(6, 2, 4, seed=3)
    run = train_simple_network([fact % cells for fact in range(6)], answers, 4, hidden=4, steps=300)
    last = run.iloc[-1]
    assert last["least_loss"] == pytest.approx(entropy / 2, abs=1e-12) and last["least_wrong"] == pytest.approx(wrong)
    assert last["least_loss"] < last["mean_loss"] < last["least_loss"] + 0.01
    assert last["wrong"] == pytest.approx(wrong)
    assert (last["wrong"] > 0) == (last["mean_loss"] >= collision_mean_loss(6, 2))
    assert (run["mean_loss"] >= last["least_loss"]).all() and (run["wrong"] >= wrong - 1e-12).all()
    contexts = contexts_of([fact % cells for fact in range(6)], answers)
    network = SimpleNetwork(int(contexts.max()) + 1, 4, 4, seed=0).double()
    shares = network(torch.from_numpy(contexts)).softmax(dim=2).detach().numpy()
    untrained = -numpy.log(numpy.take_along_axis(shares, answers[..., None], axis=2)).mean()
    assert run["mean_loss"].iloc[0] == pytest.approx(untrained, abs=1e-9)
    assert run[["facts", "length", "cells"]].drop_duplicates().values.tolist() == [[6, 2, cells]]
